"""Copies to a GPU in a stream of their own: what is asked of CUDA, in which order, and on a GPU that it is right."""

from contextlib import contextmanager

import pytest
import torch

from pipelines.batch import ViewBatch
from pipelines.side_stream import Arriving, sent


def batches(count, closed):
    try:
        for number in range(count):
            clip = torch.full((2, 3, 4, 8, 8), float(number))
            yield ViewBatch((clip, clip + 1), torch.tensor([number, 7]), {"label": torch.tensor([number, 0])})
    finally:
        closed.append(True)


def test_on_the_cpu_batches_pass_unchanged_and_their_source_is_closed():
    closed = []
    source = sent(batches(3, closed), torch.device("cpu"))
    first = next(source).arrived()
    assert first.clips[1][0, 0, 0, 0, 0] == 1
    source.close()
    assert closed


class FakeCuda:
    """Remembers what streams and events were asked, in order."""

    def __init__(self):
        self.asked, self.side = [], False

    def Stream(self, device):
        self.asked.append(f"stream on {device}")
        return FakeStream(self, "side")

    def current_stream(self, device):
        return FakeStream(self, "main")

    def Event(self):
        return FakeEvent(self)

    @contextmanager
    def stream(self, stream):
        self.side = True
        yield
        self.side = False


class FakeEvent:
    def __init__(self, cuda):
        self.cuda = cuda

    def record(self, stream):
        self.cuda.asked.append(f"event on {stream.name}")


class FakeStream:
    def __init__(self, cuda, name):
        self.cuda, self.name = cuda, name

    def wait_event(self, event):
        assert isinstance(event, FakeEvent)
        self.cuda.asked.append(f"{self.name} waits")


def test_the_copy_is_in_the_side_stream_and_the_callers_stream_waits(monkeypatch):
    cuda, recorded = FakeCuda(), []

    def to(self, device, *, non_blocking=False):
        assert cuda.side, "a copy outside of the side stream waits for the computation"
        assert non_blocking
        cuda.asked.append(f"copy of {int(self.index[0])}")
        return self

    for name in ("Stream", "Event", "current_stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, getattr(cuda, name))
    monkeypatch.setattr(ViewBatch, "to", to)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: recorded.append(stream.name))
    source = sent(batches(2, []), torch.device("cuda", 0))
    one, two = next(source), next(source)
    one.arrived()
    assert cuda.asked == [
        "stream on cuda:0",
        "copy of 0",
        "event on side",
        "copy of 1",
        "event on side",
        "main waits",
    ]
    assert recorded == ["main"] * 4, "every tensor of the batch, so that its memory is not given away early"
    assert isinstance(two, Arriving)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_every_batch_arrives_whole_while_it_computes():
    device = torch.device("cuda", 0)
    busy = torch.rand(2048, 2048, device=device)
    for number, arriving in enumerate(sent(batches(20, []), device)):
        busy = busy @ busy.T / busy.norm()
        batch = arriving.arrived()
        assert batch.clips[0].is_cuda
        assert float(batch.clips[0].mean()) == number
        assert batch.targets["label"].tolist() == [number, 0]
