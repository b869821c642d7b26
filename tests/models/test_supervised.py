"""The classifier that fine-tuning trains: its heads, what it sees, and a backbone that stands still."""

import pytest
import torch

from models.backbones.r3d import R3D
from models.heads.classifiers import ClassifierHead, LinearClassifier, TemporalClassifier
from models.method import DatasetFacts
from models.methods.supervised import Supervised
from models.planners.single_clip import ClipDraw
from pipelines.batch import ViewBatch

CLIP = ClipDraw(num_frames=8, size=32)


def classifier(**settings):
    torch.manual_seed(0)
    return Supervised(DatasetFacts(10, 3), R3D(width=4), clip=CLIP, **({"dropout": 0.0} | settings))


def batch(samples=4):
    generator = torch.Generator().manual_seed(1)
    clips = torch.rand(samples, 3, 8, 32, 32, generator=generator)
    return ViewBatch((clips,), torch.arange(samples), {"label": torch.arange(samples) % 3})


def test_a_frozen_backbone_keeps_weights_and_statistics_and_the_head_learns():
    method = classifier(frozen=True)
    method.eval()
    method.train()
    assert not method.backbone.training
    assert method.classifier.training
    before = {name: value.clone() for name, value in method.state_dict().items()}
    trainable = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = method(batch()).losses["labels"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"classifier.out.weight", "classifier.out.bias"}
    assert losses[-1] < losses[0]


def test_without_freezing_weights_and_statistics_move():
    method = classifier()
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method(batch()).losses["labels"].backward()
    assert all(parameter.grad is not None for parameter in method.parameters())
    after = method.state_dict()
    assert any("running_mean" in name and not torch.equal(after[name], old) for name, old in before.items())


def test_logits_are_those_of_the_loss_and_of_the_head_on_the_map():
    head = ClassifierHead(kind="temporal", window=1, kernel=3)
    method = classifier(head=head).eval()
    assert isinstance(method.classifier, TemporalClassifier)
    clips, labels = batch().clips[0], batch().targets["label"]
    with torch.no_grad():
        expected = method.classifier(method.backbone(clips))
        torch.testing.assert_close(method.logits(clips), expected, rtol=0, atol=0)
        loss = method(batch()).losses["labels"]
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(expected, labels))


def test_the_head_of_cstp_is_built_with_its_layers():
    head = ClassifierHead(normalize=True, batch_norm=True, legacy_init=True).build(6, 4, dropout=0.25)
    assert isinstance(head, LinearClassifier)
    assert (head.normalize, head.dropout.p, head.hidden) == (True, 0.25, None)
    assert head.norm is not None
    assert head.norm.weight.min() < 0


def test_residual_clips_are_plain_differences():
    method = classifier(modality="residual").eval()
    clips = batch().clips[0]
    difference = clips - clips.roll(1, dims=2)
    with torch.no_grad():
        expected = method.classifier(method.backbone.pooled(difference))
        torch.testing.assert_close(method.logits(clips), expected, rtol=0, atol=0)
        assert not torch.equal(expected, classifier().eval().logits(clips))


def test_clips_are_normalised_as_asked():
    form = classifier(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)).clip_format
    assert (form.mean, form.std) == ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    assert (classifier().clip_format.mean, classifier().clip_format.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize("samples", [1, 4])
def test_metrics_are_finite(samples):
    output = classifier(frozen=True)(batch(samples))
    assert all(torch.isfinite(value) for value in output.metrics.values())
