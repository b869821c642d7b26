"""From a video file whose motion is known to the vectors in a clip, through shards and both executors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from data_process.build import build
from data_process.build_config import BuildConfig
from data_process.records import VideoRecord
from data_process.shards import ShardSet
from data_process.source import SourceRequest
from data_process.transcode_config import FlowConfig, TranscodeConfig
from pipelines.host import HostExecutor
from pipelines.plan import Box, ClipFormat, ClipPlan, Modality, Photometric, SamplePlan
from pipelines.source import plan_batch
from tests.sample_videos import drifting, write_video

pytest.importorskip("cv2", reason="OpenCV (the extra `flow`) is not installed")
HEIGHT, WIDTH, SIDE, BOUND = 112, 144, 96, 10.0
MOTION = (3.0, -1.5)
ZERO, ONE = 128 / 255, 127 / 255
IN_BOUNDS = ClipFormat(
    1, 3, SIDE, (ZERO, ZERO, ZERO), (ONE, ONE, ONE), frozenset({"flip", "turn", "rotate", "tilt", "colour", "blur"})
)
WHOLE = ClipPlan((0, 5, 14), Box(8, 24, SIDE, SIDE))
COLOURS = (Photometric(brightness=0.3, contrast=2.0, blur=2.0),)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    """One video whose picture moves by MOTION pixels (u, v) a frame."""
    folder = tmp_path_factory.mktemp("flow")
    grey = drifting(*MOTION, frames=16, height=HEIGHT, width=WIDTH)
    # Without loss: what H.264 moves is no fault of the flow.
    write_video(folder / "in" / "x.mp4", content=np.repeat(grey[..., None], 3, axis=3), after=["-qp", "0"])
    how = TranscodeConfig(codec="flow-jpeg", flow=FlowConfig(bound=BOUND))
    build("folder", SourceRequest(folder / "in"), folder / "out", BuildConfig(transcode=how, jobs=1))
    return ShardSet(folder / "out")


@dataclass(frozen=True)
class Always:
    """The same clip of every sample."""

    clip: ClipPlan

    def __call__(self, rng: np.random.Generator, record: VideoRecord) -> SamplePlan:
        return SamplePlan((self.clip,))


def host(clip_format: ClipFormat) -> HostExecutor:
    return HostExecutor(clip_format, threads=1)


def dali(clip_format: ClipFormat):
    pytest.importorskip("nvidia.dali", reason="DALI is not installed")
    from pipelines.dali import DaliExecutor

    return DaliExecutor(clip_format, max_samples=1, threads=1)


def clip_of(shards: ShardSet, clip: ClipPlan, clip_format: ClipFormat, make: Callable) -> np.ndarray:
    """(C, T, S, S) as the executor gives it."""
    batch = plan_batch(shards, Always(clip), clip_format, [0], seed=0, epoch=0)
    executor = make(clip_format)
    ((_, (clips,)),) = executor.run([batch])
    executor.close()
    return clips[0].numpy().copy()


def motion(pixels: np.ndarray) -> list[float]:
    """Pixels a frame of each channel, median over what no border reaches."""
    side = pixels.shape[-1]
    inside = slice(side // 4, side - side // 4)
    return (BOUND * np.median(pixels[:, :, inside, inside], axis=(1, 2, 3))).tolist()


def turned(degrees: float) -> tuple[float, float]:
    """MOTION turned counter-clockwise on the screen, where v points down."""
    angle = np.radians(degrees)
    (u, v), cosine, sine = MOTION, np.cos(angle), np.sin(angle)
    return cosine * u + sine * v, cosine * v - sine * u


@pytest.mark.parametrize("make", [host, dali])
@pytest.mark.parametrize(
    ("clip", "size", "expected"),
    [
        (WHOLE, SIDE, (3.0, -1.5)),
        (replace(WHOLE, frames=(14, 0, 0)), SIDE, (3.0, -1.5)),
        (replace(WHOLE, flip=True), SIDE, (-3.0, -1.5)),
        (WHOLE, SIDE // 2, (1.5, -0.75)),
        (replace(WHOLE, box=Box(8, 24, SIDE, SIDE // 2)), SIDE, (6.0, -1.5)),
        (replace(WHOLE, quarter_turns=1), SIDE, (-1.5, -3.0)),
        (replace(WHOLE, quarter_turns=2), SIDE, (-3.0, 1.5)),
        (replace(WHOLE, flip=True, quarter_turns=3), SIDE, (1.5, -3.0)),
        (replace(WHOLE, angle=15.0), SIDE, turned(15.0)),
        (replace(WHOLE, tilt=-20.0), SIDE, turned(-20.0)),
        (replace(WHOLE, photometric=COLOURS), SIDE, (3.0, -1.5)),
    ],
    ids=[
        "as stored", "frames in any order", "flipped", "half the size", "stretched", "a quarter", "half a turn",
        "flipped and turned", "rotated", "tilted", "colours change nothing",
    ],
)  # fmt: skip
def test_a_clip_holds_the_motion_as_its_geometry_shows_it(
    shards: ShardSet, make: Callable, clip: ClipPlan, size: int, expected: tuple[float, float]
) -> None:
    pixels = clip_of(shards, clip, replace(IN_BOUNDS, size=size, modality="flow"), make)
    assert pixels.shape == (2, 3, size, size)
    assert motion(pixels) == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("make", [host, dali])
@pytest.mark.parametrize(("modality", "component"), [("flow-u", 0), ("flow-v", 1)])
def test_a_component_alone_is_that_of_the_whole_flow_three_times(
    shards: ShardSet, make: Callable, modality: Modality, component: int
) -> None:
    clip = replace(WHOLE, flip=True, quarter_turns=1)
    both = clip_of(shards, clip, replace(IN_BOUNDS, modality="flow"), make)
    alone = clip_of(shards, clip, replace(IN_BOUNDS, modality=modality), make)
    assert alone.shape == (3, 3, SIDE, SIDE)
    assert np.array_equal(alone, np.repeat(both[component, None], 3, axis=0))
    # A quarter turn makes v of u, so that the two cannot have been taken for each other.
    assert motion(alone) == pytest.approx([(-1.5, 3.0)[component]] * 3, abs=0.15)


@pytest.mark.parametrize("make", [host, dali])
def test_three_channels_of_a_component_have_means_of_their_own(shards: ShardSet, make: Callable) -> None:
    plain = clip_of(shards, WHOLE, ClipFormat(1, 3, SIDE, modality="flow-u"), make)
    scaled = clip_of(shards, WHOLE, ClipFormat(1, 3, SIDE, (0.1, 0.2, 0.3), (0.5, 0.25, 1.0), modality="flow-u"), make)
    for channel, (mean, std) in enumerate(((0.1, 0.5), (0.2, 0.25), (0.3, 1.0))):
        assert scaled[channel] == pytest.approx((plain[channel] - mean) / std, abs=1e-5)


def test_what_is_stored_is_less_than_a_fifth_of_a_pixel_off_everywhere(shards: ShardSet) -> None:
    pixels = BOUND * clip_of(shards, WHOLE, replace(IN_BOUNDS, modality="flow"), host)[:, :, 8:-8, 8:-8]
    error = np.abs(pixels - np.array(MOTION)[:, None, None, None])
    assert error.mean() < 0.1
    assert np.percentile(error, 99) < 0.2
