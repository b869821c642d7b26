"""Optical flow is that of the picture, to a fifth of a pixel, after it was stored."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from data_process.decoding import decode
from data_process.errors import InputError, RunError
from data_process.frames import EncodedFrames
from data_process.optical_flow import SMALLEST_SIDE, flow_function, flow_units, to_levels, to_pixels
from data_process.outcome import Quarantined, Stored
from data_process.records import VideoRecord
from data_process.source import SourceVideo
from data_process.transcode import transcode
from data_process.transcode_config import FlowConfig, TranscodeConfig, settings_of
from tests.sample_videos import drifting, write_video

pytest.importorskip("cv2", reason="OpenCV (the extra `flow`) is not installed")
HEIGHT, WIDTH, FRAMES = 96, 128, 5


def moving(across, down):
    return drifting(across, down, frames=FRAMES, height=HEIGHT, width=WIDTH)


def stored_flow(frames, *, bound=20.0, **how):
    settings = {"algorithm": "dis", "quality": 90, **how}
    units = tuple(flow_units(frames, bound=bound, **settings))
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
    one, two = (list(flow_units(moving(1.0, 1.0), **how)) for _ in range(2))
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


def test_the_limit_of_bytes_is_of_what_is_stored_and_cuts_no_video_quietly(tmp_path, monkeypatch):
    """The grey frames, 300 kB, are never stored; a limit between them and the flow once ended videos early."""
    path = write_video(tmp_path / "x.mp4", frames=60, height=64, width=80)
    config = TranscodeConfig(codec="flow-jpeg")
    whole = transcode(SourceVideo(path, "x"), 0, config)
    assert isinstance(whole, Stored)
    size = sum(map(len, whole.units))
    assert size < 250_000 < 60 * 64 * 80
    monkeypatch.setattr("data_process.transcode._MAX_BYTES", 250_000)
    again = transcode(SourceVideo(path, "x"), 0, config)
    assert isinstance(again, Stored)
    assert (again.units, again.header.state) == (whole.units, "ok")
    monkeypatch.setattr("data_process.transcode._MAX_BYTES", size // 2)
    outcome = transcode(SourceVideo(path, "x"), 0, config)
    assert isinstance(outcome, Quarantined)
    assert outcome.code == "too_long"


def test_threads_side_by_side_compute_the_same_flow():
    how = {"algorithm": "dis", "bound": 20.0, "quality": 90}
    videos = [moving(across, 1.0) for across in (0.5, 1.0, 1.5, 2.0)]
    alone = [list(flow_units(video, **how)) for video in videos]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda video: list(flow_units(video, **how)), videos)) == alone


@pytest.mark.parametrize("algorithm", ["dis", "dis-fast", "farneback"])
@pytest.mark.parametrize("times", [1, 3, 6, 25, 60])
def test_every_size_that_is_stored_has_flow(algorithm, times):
    side = SMALLEST_SIDE[algorithm]
    rng = np.random.default_rng(0)
    for size in ((side, times * side), (times * side, side + 1)):
        one, two = rng.integers(0, 256, (2, *size), dtype=np.uint8)
        flow = flow_function(algorithm)(one, two)
        assert flow.shape == (*size, 2)
        assert np.isfinite(flow).all()


def test_a_size_that_opencv_does_not_survive_never_reaches_it(tmp_path):
    # DIS fast dies on 16 by 96 pixels.
    path = write_video(tmp_path / "x.mp4", frames=20, height=16, width=96)
    outcome = transcode(SourceVideo(path, "x"), 0, TranscodeConfig(codec="flow-jpeg", flow=FlowConfig("dis-fast")))
    assert isinstance(outcome, Quarantined)
    assert (outcome.code, outcome.detail) == ("bad_size", "96 x 16 pixels are too few for dis-fast flow")
    assert isinstance(transcode(SourceVideo(path, "x"), 0, TranscodeConfig(codec="flow-jpeg")), Stored)


def test_one_frame_is_too_short_for_flow(tmp_path):
    path = write_video(tmp_path / "x.mp4", frames=1)
    outcome = transcode(SourceVideo(path, "x"), 0, TranscodeConfig(codec="flow-jpeg", min_frames=1))
    assert isinstance(outcome, Quarantined)
    assert (outcome.code, outcome.detail) == ("too_short", "1 frames, 2 are needed")


def test_the_plan_of_flow_names_its_opencv():
    import cv2

    assert settings_of(TranscodeConfig(codec="flow-jpeg"))["opencv"] == cv2.__version__
    assert "opencv" not in settings_of(TranscodeConfig())


def test_wrong_settings_and_damage_are_told():
    with pytest.raises(InputError, match="flow magic: expected one of dis"):
        FlowConfig(algorithm="magic")  # type: ignore[arg-type]
    for bound in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="expected a number of pixels above 0"):
            FlowConfig(bound=bound)
    record = VideoRecord("v", 0, "train", "flow-jpeg", 3, 25.0, HEIGHT, WIDTH)
    with pytest.raises(RunError, match="v, frame 1: the stored flow cannot be decoded"):
        decode(EncodedFrames("flow-jpeg", (1,), (b"no picture",)), record)
