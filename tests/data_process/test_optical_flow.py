"""Optical flow is that of the picture, to a fifth of a pixel, after it was stored."""

import io

import numpy as np
import pytest

from data_process.decoding import decode
from data_process.errors import InputError, RunError
from data_process.frames import EncodedFrames
from data_process.optical_flow import flow_units, to_levels, to_pixels
from data_process.outcome import Quarantined, Stored
from data_process.records import VideoRecord
from data_process.source import SourceVideo
from data_process.transcode import FlowConfig, TranscodeConfig, transcode
from tests.sample_videos import write_video

pytest.importorskip("cv2", reason="OpenCV (the extra `flow`) is not installed")
HEIGHT, WIDTH, FRAMES = 96, 128, 5


def moving(across, down):
    """Grey frames of a soft texture that moves by so many pixels a frame, as a file."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    waves = [(*rng.uniform(-0.35, 0.35, 2), rng.uniform(0, 6)) for _ in range(40)]
    frames = [
        sum(np.cos(a * (columns - across * t) + b * (rows - down * t) + phase) for a, b, phase in waves)
        for t in range(FRAMES)
    ]
    levels = np.clip(128 + 12 * np.stack(frames), 0, 255).astype(np.uint8)
    return io.BytesIO(levels.tobytes())


def stored_flow(frames, *, bound=20.0, **how):
    settings = {"algorithm": "dis", "quality": 90, **how}
    units = tuple(flow_units(frames, FRAMES, HEIGHT, WIDTH, bound=bound, **settings))
    record = VideoRecord("v", 0, "train", "flow-jpeg", FRAMES - 1, 25.0, HEIGHT, WIDTH)
    levels = decode(EncodedFrames("flow-jpeg", tuple(range(FRAMES - 1)), units), record)
    return to_pixels(np.stack([levels[number] for number in range(FRAMES - 1)]), bound)


@pytest.mark.parametrize("algorithm", ["dis", "dis-fast", "farneback"])
@pytest.mark.parametrize(("across", "down"), [(0.0, 0.0), (2.0, 0.0), (0.0, -3.0), (-1.5, 2.5)])
def test_a_moving_texture_has_the_flow_of_its_motion(algorithm, across, down):
    flow = stored_flow(moving(across, down), algorithm=algorithm)
    assert flow.shape == (FRAMES - 1, HEIGHT, WIDTH, 2)
    inside = flow[:, 16:-16, 16:-16].reshape(-1, 2)
    assert np.median(inside, axis=0) == pytest.approx([across, down], abs=0.2)


@pytest.mark.parametrize("bound", [4.0, 20.0])
def test_levels_keep_pixels_to_half_a_step_and_cut_at_the_bound(bound):
    pixels = np.linspace(-bound, bound, 1001)[:, None].repeat(2, axis=1)
    assert np.abs(to_pixels(to_levels(pixels, bound), bound) - pixels).max() <= bound / 254 + 1e-6
    assert to_levels(np.zeros((1, 2)), bound).tolist() == [[128, 128]]
    assert to_levels(np.array([[-99.0, 99.0]]), bound).tolist() == [[1, 255]]


def test_the_same_frames_give_the_same_bytes():
    how = {"algorithm": "dis", "bound": 20.0, "quality": 90}
    one, two = (list(flow_units(moving(1.0, 1.0), FRAMES, HEIGHT, WIDTH, **how)) for _ in range(2))
    assert one == two


def test_a_video_becomes_one_flow_less_than_its_frames(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=20, height=64, width=96)
    stored = transcode(SourceVideo(path, "x"), 1, TranscodeConfig(codec="flow-jpeg", flow=FlowConfig("dis", 16.0)))
    assert isinstance(stored, Stored)
    header = stored.header
    assert (header.num_frames, len(stored.units), header.height, header.width) == (19, 19, 64, 96)
    assert dict(header.extra) == {"alg": "dis", "bound": 16.0}
    levels = decode(EncodedFrames("flow-jpeg", (0, 18), (stored.units[0], stored.units[18])), header.as_video_record())
    # The picture moves to the left by two pixels a frame.
    for flow in levels.values():
        assert np.median(to_pixels(flow, 16.0).reshape(-1, 2), axis=0) == pytest.approx([-2.0, 0.0], abs=0.3)


def test_one_frame_is_too_short_for_flow(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=1)
    outcome = transcode(SourceVideo(path, "x"), 0, TranscodeConfig(codec="flow-jpeg", min_frames=1))
    assert isinstance(outcome, Quarantined)
    assert (outcome.code, outcome.detail) == ("too_short", "1 frames, 2 are needed")


def test_wrong_settings_and_damage_are_told():
    with pytest.raises(InputError, match="flow magic: expected one of dis"):
        FlowConfig(algorithm="magic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="bound 0"):
        FlowConfig(bound=0.0)
    record = VideoRecord("v", 0, "train", "flow-jpeg", 3, 25.0, HEIGHT, WIDTH)
    with pytest.raises(RunError, match="v, frame 1: the stored flow cannot be decoded"):
        decode(EncodedFrames("flow-jpeg", (1,), (b"no picture",)), record)
