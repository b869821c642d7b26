"""Clips that the originals of VTDL, DualVar and CSTP drew, reproduced frame by frame and box by box."""

import numpy as np
import pytest

from pipelines.draw import RATES, centred_frames, clip_frames, overlap_shifts, restarted
from tests.parity.recorded import load, vectors_root


def recorded(name: str) -> dict[str, np.ndarray]:
    path = vectors_root() / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} of {path.parent.name} was recorded elsewhere: INTRAVID_VECTORS names its folder")
    return load(path)


def test_vtdl_reads_triplets_and_long_clips_so() -> None:
    vectors = recorded("vtdl/sampling")
    for row, anchor, negative in zip(
        vectors["triplet_rows"], vectors["anchor_frames_1based"], vectors["negative_frames_1based"], strict=True
    ):
        length, first, drawn, low, high, other = row.tolist()
        assert (low, high) == (1, max(length - 128, 0) + 1)
        if abs(drawn - first) < 2:
            drawn = (drawn + length // 3) % length or 1
        assert drawn == other
        for start, frames in ((first, anchor), (other, negative)):
            ours = restarted(start - 1, num_frames=16, stride=4, video_frames=length)
            assert [frame + 1 for frame in ours] == frames.tolist()
    for (length, stride, start), frames in zip(vectors["clip64_rows"], vectors["clip64_frames_1based"], strict=True):
        ours = restarted(int(start) - 1, num_frames=64, stride=int(stride), video_frames=int(length))
        assert [frame + 1 for frame in ours] == frames.tolist()


def test_dualvar_centres_clips_so() -> None:
    vectors = recorded("dualvar/samplers")
    for (length, centre, stride), frames in zip(vectors["proto_args"].tolist(), vectors["proto_idx"], strict=True):
        ours = centred_frames(centre, num_frames=16, stride=stride, video_frames=length)
        assert list(ours) == frames.tolist()


def test_cstp_shifts_spans_so() -> None:
    vectors = recorded("cstp/misc")
    table = [overlap_shifts(15 * rate) for rate in (1, 2, 4, 8)]
    assert table == [tuple(row) for row in vectors["tem_shift_table"].tolist()]
    for row, frames in zip(vectors["temporal_dir"], vectors["temporal_dir_idx"], strict=True):
        length, first, second, label, playback = row[:5].tolist()
        rate = (1, 2, 4, 8)[playback]
        if length <= 15 * rate:
            expected = [restarted(0, num_frames=16, stride=rate, video_frames=length)] * 2
        else:
            assert abs(first - second) == table[playback][label]
            expected = [clip_frames(start - 1, num_frames=16, stride=rate) for start in (first, second)]
        assert [[frame + 1 for frame in clip] for clip in expected] == frames.tolist()


@pytest.mark.parametrize("name", ["spatial_same", "spatial_mixed"])
def test_cstp_places_boxes_so(name: str) -> None:
    rows = recorded("cstp/misc")[name].tolist()
    for _, _, _, _, x1, y1, x2, y2, u1, v1, u2, v2, label in rows:
        width, height = x2 - x1, y2 - y1
        assert (u2 - u1, v2 - v1) == (width, height)
        shared = width - abs(u1 - x1)
        # The shared width is cut to whole pixels, so the height may come out a pixel larger than the box.
        assert abs(v1 - y1) == abs(height - int(RATES[label] * width * height / shared))
