import pytest
import torch

from data_process.errors import InputError
from models.heads.classifiers import LinearClassifier, TemporalClassifier
from models.heads.embedding import MLPHead
from models.heads.layouts import HEADS, head_state, original_names


def fitting(names):
    """A small head of the layers that a layout names."""
    hidden = 6 if "hidden" in names else None
    if "conv" in names:
        return TemporalClassifier(4, 3)
    if "hidden" in names or "norm" not in names:
        classifier = "norm" in names and names["norm"].startswith("final")
        return (
            LinearClassifier(4, 3, hidden_dim=hidden, batch_norm=True)
            if classifier
            else MLPHead(4, 3, hidden_dim=hidden, batch_norm="norm" in names)
        )
    return LinearClassifier(4, 3, batch_norm=True)


CASES = [
    pytest.param(layout, role, names, id=f"{layout}-{role}-{place}")
    for layout, roles in HEADS.items()
    for role, alternatives in roles.items()
    for place, names in enumerate(alternatives)
]


@pytest.mark.parametrize(("layout", "role", "names"), CASES)
def test_every_published_head_is_found_under_its_names(layout, role, names):
    written, read = fitting(names), fitting(names)
    keys = original_names(written, names)
    published = {keys[key]: value for key, value in written.state_dict().items()}
    for other, alternatives in HEADS[layout].items():  # other heads of the model are there, and are left alone
        if other != role:
            published |= {
                key: torch.zeros(1) for key in original_names(fitting(alternatives[0]), alternatives[0]).values()
            }
    published["encoder_q.0.conv1.weight"] = torch.zeros(1)
    read.load_state_dict(head_state(read, published, layout=layout, role=role))
    assert all(torch.equal(a, b) for a, b in zip(written.parameters(), read.parameters(), strict=True))


def test_pointwise_convolutions_become_linear_layers():
    head = MLPHead(4, 3, hidden_dim=4)
    published = {
        "encoder_q.2.weight": torch.rand(4, 4, 1, 1, 1),
        "encoder_q.2.bias": torch.rand(4),
        "encoder_q.4.weight": torch.rand(3, 4, 1, 1, 1),
        "encoder_q.4.bias": torch.rand(3),
    }
    state = head_state(head, published, layout="dualvar", role="projection")
    assert torch.equal(state["out.weight"], published["encoder_q.4.weight"].flatten(1))


@pytest.mark.parametrize(
    ("layout", "role", "state", "why"),
    [
        ("iic", "projector", {}, "no head 'projector' in the layout 'iic'; known are iic"),
        ("moco", "classifier", {}, "in the layout 'moco'"),
        ("iic", "classifier", {"linear.weight": (3, 4)}, "looked for linear.weight, linear.bias"),
        ("iic", "classifier", {"linear.weight": (5, 4), "linear.bias": (3,)}, r"is \(5, 4\), the head has \(3, 4\)"),
        ("cstp", "projector", {"online_net.project.net.0.weight": (3, 4)}, "its networks have other layers there"),
    ],
)
def test_weights_without_the_head_are_refused(layout, role, state, why):
    with pytest.raises(InputError, match=why):
        head_state(
            LinearClassifier(4, 3),
            {key: torch.zeros(shape) for key, shape in state.items()},
            layout=layout,
            role=role,
        )
