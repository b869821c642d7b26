"""Banks whose rows are shared out over ranks, against one process with a whole bank."""

import functools
import re
from pathlib import Path

import pytest
import torch
from torch import distributed as dist

from data_process.errors import RunError
from models import sharded_bank
from models.gather import gather_rows
from models.memory_bank import MemoryBank, bank_bytes
from models.method import DatasetFacts
from models.methods.iic import IIC
from models.methods.vtdl import VTDL
from models.planners.single_clip import ClipDraw
from models.planners.triplet import TripletPlanner
from models.row_exchange import RowExchange
from models.sharded_bank import ShardedBank, build_bank, gathered_rows
from pipelines.batch import ViewBatch
from tests.engine.ranks import Ranks
from tests.models.global_batch import Plain, clips_of, steps

SAMPLES = 12
"""A global batch, which 1, 2, 3 and 4 ranks can share."""

SIZES = (1, 2, 3, 4)
ROWS = 23


@pytest.fixture(scope="module")
def four():
    ranks = Ranks(4)
    yield ranks
    ranks.stop()


@pytest.fixture(params=SIZES, ids="{} ranks".format)
def among(request, four, tmp_path):
    """Runs `function(rank, world size, *arguments)` on so many ranks, and gives their results in rank order."""

    def run(function, *arguments):
        run.calls += 1
        place = tmp_path / f"store{run.calls}"
        return four.run(_among, request.param, str(place), function, arguments)[: request.param]

    run.calls = 0
    return run


def _among(world, size, place, function, arguments):
    """A default group of the first `size` processes, or none for a process alone."""
    if dist.is_initialized():
        dist.destroy_process_group()
    if world.rank >= size:
        return None
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{place}", rank=world.rank, world_size=size)
    return function(world.rank, size, *arguments)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def made(kind, num_rows=ROWS, dim=5):
    return kind(num_rows, dim, momentum=0.4, generator=seeded())


def own(rows, rank, size):
    part = len(rows) // size
    return rows[rank * part : (rank + 1) * part]


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


near = functools.partial(torch.testing.assert_close, rtol=1e-12, atol=1e-13)


def _first_rows(rank, size, num_rows, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharded_bank, "_BLOCK", block)
        generator = seeded()
        bank = ShardedBank(num_rows, 5, momentum=0.4, generator=generator)
        whole = bank.whole()
    return bank.rows.tolist(), None if whole is None else whole.tolist(), torch.rand(3, generator=generator).tolist()


@pytest.mark.parametrize(("num_rows", "block"), [(ROWS, 1), (ROWS, 45), (24, 1 << 22), (3, 1 << 22)])
def test_first_rows_are_those_of_a_whole_bank_and_come_together_again(among, num_rows, block):
    generator = seeded()
    whole = MemoryBank(num_rows, 5, momentum=0.4, generator=generator).rows
    left = torch.rand(3, generator=generator)
    answers = among(_first_rows, num_rows, block)
    for rank, (rows, together, drawn) in enumerate(answers):
        expected = whole[rank :: len(answers)].tolist()
        assert rows[: len(expected)] == expected
        assert torch.equal(torch.tensor(drawn), left), "the next bank begins with the same rows too"
        assert together == (whole.tolist() if rank == 0 else None)
        assert torch.tensor(rows).nbytes == bank_bytes(num_rows, 5, ranks=len(answers))


def draw(num_rows, columns, seed=1):
    """Rows for every sample of a global batch, of which some come often."""
    skewed = torch.rand(SAMPLES, columns, generator=seeded(seed)).pow(2) * num_rows
    return skewed.long()


def features(seed=2, dim=5):
    return torch.randn(SAMPLES, dim, generator=seeded(seed), dtype=torch.float64)


def weights(columns, seed=3):
    return torch.randn(SAMPLES, columns, generator=seeded(seed), dtype=torch.float64)


def _scored(rank, size, num_rows, columns, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.row_exchange._BLOCK", block)
        bank = made(ShardedBank, num_rows).double()
        mine = own(features(), rank, size).clone().requires_grad_()
        drawn = bank.find(own(draw(num_rows, columns), rank, size))
        scores = bank.scores(mine, drawn)
        (scores * own(weights(columns), rank, size)).sum().backward()
    return scores.tolist(), mine.grad.tolist()


@pytest.mark.parametrize(
    ("num_rows", "columns", "block"), [(ROWS, 7, 1 << 22), (ROWS, 40, 32), (3, 1, 1 << 22), (2, 4, 5), (1, 2, 1)]
)
def test_scores_and_gradients_are_those_of_a_whole_bank(among, num_rows, columns, block):
    bank, mine = made(MemoryBank, num_rows).double(), features().requires_grad_()
    rows = draw(num_rows, columns)
    expected = torch.stack([bank.rows[rows[b]] @ mine[b] for b in range(SAMPLES)])
    near(bank.scores(mine, bank.find(rows)), expected)
    (expected * weights(columns)).sum().backward()
    answers = among(_scored, num_rows, columns, block)
    near(tensor([row for scores, _ in answers for row in scores]), expected.detach())
    near(tensor([row for _, gradient in answers for row in gradient]), mine.grad)


def _updated(rank, size, index, steps):
    bank = made(ShardedBank).double()
    for step in range(steps):
        bank.update(gather_rows(own(index, rank, size)), gather_rows(own(features(seed=step), rank, size)))
    whole = bank.whole()
    return whole if whole is None else whole.tolist()


def test_rows_are_updated_as_those_of_a_whole_bank_and_of_a_row_named_twice_the_first_counts(among):
    index = torch.tensor([5, 0, 22, 5, 7, 22, 1, 0, 5, 8, 9, 7])
    bank = made(MemoryBank).double()
    for step in range(3):
        bank.update(index, features(seed=step))
    rows, *others = among(_updated, index, 3)
    assert rows == bank.rows.tolist()
    assert others == [None] * len(others)


METHODS = {
    "IIC": (IIC, {}),
    "IIC, NCE": (IIC, {"softmax": False, "temperature": 1.0}),
    "IIC, normalised, no intra-negatives": (IIC, {"normalize_features": True, "intra_negative": "none"}),
    "VTDL": (VTDL, {}),
    "VTDL, NCE": (VTDL, {"softmax": False}),
}


def build(kind, settings, placement):
    torch.manual_seed(0)
    if kind is VTDL:
        settings = {"memory": "bank", "dim": 6, "clip": TripletPlanner(4, size=8, short_side=9), **settings}
    else:
        settings = {"clip": ClipDraw(num_frames=4, size=8, resize=(8, 12)), **settings}
    return kind(DatasetFacts(ROWS), Plain(), num_negatives=9, bank_placement=placement, **settings).double()


def batch_of(seed, *, kind):
    """Videos may come twice in it."""
    rng = seeded(seed)
    targets = {
        "negatives": torch.randint(0, ROWS, (SAMPLES, 9), generator=rng),
        "intra_frame": torch.randint(0, 4, (SAMPLES,), generator=rng),
        "mix_frame": torch.randint(0, 4, (SAMPLES,), generator=rng),
        "mix_weight": 0.1 * torch.rand(SAMPLES, generator=rng),
    }
    clips = clips_of(seed, samples=SAMPLES, views=2 if kind is VTDL else 1)
    return ViewBatch(clips, torch.randint(0, ROWS, (SAMPLES,), generator=rng), targets)


def _trained(rank, size, kind, settings, placement):
    losses, gradients, state = steps(
        functools.partial(build, kind, settings, placement),
        functools.partial(batch_of, kind=kind),
        rank=rank,
        world_size=size,
    )
    return losses.tolist(), gradients.tolist(), {name: value.tolist() for name, value in state.items()}


@pytest.mark.parametrize(("kind", "settings"), METHODS.values(), ids=METHODS)
def test_a_method_on_sharded_banks_trains_as_one_process_with_whole_banks(among, kind, settings):
    losses, gradients, state = _trained(0, 1, kind, settings, "replicated")
    assert any(name.endswith("rows") for name in state)
    answers = among(_trained, kind, settings, "sharded")
    for theirs_losses, theirs_gradients, theirs in answers:
        near(tensor(theirs_losses), tensor(losses))
        near(tensor(theirs_gradients), tensor(gradients))
        for name, value in theirs.items():
            near(tensor(value), tensor(state[name]), msg=lambda text, name=name: f"{name}: {text}")
    first, *others = (theirs.keys() for _, _, theirs in answers)
    assert first == state.keys()
    assert all({name for name in state if name.endswith("rows")} == state.keys() - keys for keys in others)


def _volumes(rank, size, columns, dim):
    """Numbers that this rank receives from the others: in asking, in a forward and in a backward pass."""
    received, gather, exchange = [0], dist.all_gather, dist.all_to_all_single

    def count_gathered(parts, mine):
        received[-1] += sum(part.numel() for other, part in enumerate(parts) if other != rank)
        gather(parts, mine)

    def count_exchanged(result, values, into, out):
        share = result.numel() // max(1, len(result))
        received[-1] += share * sum(count for other, count in enumerate(into) if other != rank)
        exchange(result, values, into, out)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dist, "all_gather", count_gathered)
        patch.setattr(dist, "all_to_all_single", count_exchanged)
        bank = made(ShardedBank, 24, dim)
        mine = own(features(dim=dim), rank, size).float().requires_grad_()
        # Every row of the bank equally often, so that the shares are what they are in the mean.
        drawn = bank.find(torch.arange(columns).expand(SAMPLES // size, -1) % 24)
        received.append(0)
        scores = bank.scores(mine, drawn)
        received.append(0)
        scores.sum().backward()
    return received


def test_what_travels_is_what_the_module_states(among):
    columns, dim = 48, 7
    answers = among(_volumes, columns, dim)
    ranks, size = len(answers), SAMPLES // len(answers)
    of_others = (ranks - 1) / ranks
    pairs, sums = of_others * size * columns, of_others * ranks * size * dim
    counts = ranks - 1 if ranks > 1 else 0
    assert answers == [[counts + pairs, sums + pairs, pairs + sums]] * ranks


def _kept(rank, size, placement, state):
    method = build(IIC, {}, placement)
    if state is None:
        for bank in method.contrast.banks.values():
            bank.update(torch.arange(SAMPLES), torch.randn(SAMPLES, 6, generator=seeded(5), dtype=torch.float64))
    else:
        method.load_state_dict({name: torch.tensor(value, dtype=torch.float64) for name, value in state.items()})
    state = method.state_dict() | gathered_rows(method)
    return {name: value.tolist() for name, value in state.items()}


def test_a_state_fits_any_number_of_ranks_and_either_placement(among, four, tmp_path):
    first, *_ = among(_kept, "sharded", None)
    assert first == _kept(0, 1, "replicated", None)
    assert _kept(0, 1, "replicated", first) == first
    for size in SIZES:
        again = four.run(_among, size, str(tmp_path / f"again{size}"), _kept, ("sharded", first))[0]
        assert again == first


def test_a_state_without_rows_or_with_other_rows_is_refused():
    bank = made(ShardedBank)
    with pytest.raises(RuntimeError, match=r'Missing key.*"rows"'):
        bank.load_state_dict(bank.state_dict())
    with pytest.raises(RuntimeError, match=r"size mismatch for rows: \(22, 5\), expected \(23, 5\)"):
        bank.load_state_dict({"rows": torch.zeros(22, 5)})


def test_rows_go_where_the_module_goes_and_no_wrapper_takes_them_for_its_own():
    module = torch.nn.ModuleDict({"bank": made(ShardedBank)})
    assert list(module.buffers()) == list(module.parameters()) == []
    assert module.double()["bank"].rows.dtype == torch.float64
    assert module.to("meta")["bank"].rows.device.type == "meta"


def test_rows_that_do_not_exist_are_refused(among):
    told = among(_refused)
    assert all(text == f"rows -1 to {ROWS} were drawn of a bank of {ROWS}" for text in told)


def _refused(rank, size):
    with pytest.raises(ValueError, match="were drawn") as caught:
        RowExchange(torch.tensor([[0, ROWS], [-1, 3]]), ROWS)
    return str(caught.value)


def test_a_bank_of_other_ranks_is_refused(monkeypatch):
    bank = made(ShardedBank)
    monkeypatch.setattr(sharded_bank, "world_size", lambda: 3)
    with pytest.raises(RunError, match=r"made for 1 ranks, and is used by 3; make the method after"):
        bank.find(torch.zeros(1, 1, dtype=torch.int64))


def test_rows_that_change_before_the_backward_pass_are_found_out():
    bank, mine = made(ShardedBank), features().float().requires_grad_()
    scores = bank.scores(mine, bank.find(draw(ROWS, 3)))
    bank.update(torch.tensor([1]), features()[:1])
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        scores.sum().backward()


@pytest.mark.parametrize(("kind", "settings"), [(IIC, {"framework": "moco"}), (VTDL, {"memory": "queue"})])
def test_a_placement_without_a_bank_is_refused(kind, settings):
    with pytest.raises(ValueError, match="leave bank_placement out"):
        build(kind, settings, "sharded")


def test_the_page_of_methods_states_the_memory_of_banks_as_it_is():
    page = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
    columns = re.search(r"\| numbers a row \| (.*) \|", page)[1].split(" | ")
    ranks = [1 if column == "replicated" else int(column.split()[1]) for column in columns]
    rows = re.findall(r"^\| (\d+) \((.*)\) \| (.* GB) \|$", page, re.MULTILINE)
    assert ranks[0] == 1 < len(ranks)
    assert len(rows) >= 3
    for dim, _, told in rows:
        stated = [float(cell.removesuffix(" GB")) for cell in told.split(" | ")]
        exact = [bank_bytes(1_000_000, int(dim), ranks=count) / 1e9 for count in ranks]
        assert stated == [float(f"{size:.2g}") for size in exact]
    for placement in ("replicated", "sharded"):
        bank = build_bank(placement, 1000, 128, momentum=0.5, generator=seeded())
        assert bank.rows.nbytes == bank_bytes(1000, 128)
