"""Clips that the originals of VTDL, DualVar and CSTP drew, reproduced frame by frame and box by box."""

import numpy as np
import pytest

from pipelines.draw import RATES, centred_frames, clip_frames, overlap_shifts, random_start, restarted
from pipelines.draw.windows import capped_clips, drawn_clips, joined_windows, sliding_windows
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


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_dualvar_tests_on_ten_capped_clips(stride: int) -> None:
    vectors = recorded("dualvar/samplers")
    for length, clips in zip(vectors["vlens"].tolist(), vectors[f"tenclip_ds{stride}"].tolist(), strict=True):
        ours = capped_clips(length, num_clips=10, num_frames=16, stride=stride)
        assert [list(clip) for clip in ours] == clips


def test_dualvar_slides_windows_so() -> None:
    vectors = recorded("dualvar/samplers")
    names = [name for name in vectors if name.startswith("slide_")]
    assert names
    for name in names:
        stride, length, pad = (int("".join(filter(str.isdigit, word))) for word in name.split("_")[1:])
        ours = sliding_windows(length, num_frames=16, stride=stride, pad_front=bool(pad))
        assert [list(clip) for clip in ours] == vectors[name].tolist(), name


def test_cstp_joins_test_windows_so() -> None:
    vectors = recorded("cstp/misc")
    names = [name for name in vectors if name.startswith("test_dir_")]
    assert names
    for name in names:
        rate, length = (int("".join(filter(str.isdigit, word))) for word in name.split("_")[2:])
        ours = joined_windows(length, num_frames=16, stride=rate)
        from_files, from_database = vectors[name].tolist(), vectors[name.replace("dir", "lmdb")].tolist()
        if length > 15 * rate:
            assert [list(clip) for clip in ours] == from_database, name
            assert [[frame + 1 for frame in clip] for clip in ours] == from_files, name
        else:
            # As released the last frame of a short video is never seen from files, the first never from a database.
            (clip,) = joined_windows(length - 1, num_frames=16, stride=rate)
            assert [frame + 1 for frame in clip] == from_files[0] == from_database[0], name
            assert max(ours[0]) == (length - 1) // rate * rate


def test_vtdl_extracts_and_validates_on_clips_that_it_would_read() -> None:
    vectors = recorded("vtdl/sampling")
    ranges = {length: (first, last) for length, first, last in vectors["val_start_range_len64_stride1_1based"].tolist()}
    read = {
        (length, start): frames
        for (length, stride, start), frames in zip(
            vectors["clip64_rows"].tolist(), vectors["clip64_frames_1based"].tolist(), strict=True
        )
        if stride == 1
    }
    met = 0
    for length, (first, last) in ranges.items():
        for seed in range(200):
            ((*frames,),) = drawn_clips(np.random.default_rng(seed), length, num_clips=1, num_frames=64, stride=1)
            assert first <= frames[0] + 1 <= last
            if theirs := read.get((length, frames[0] + 1)):
                met += 1
                assert [frame + 1 for frame in frames] == theirs
    assert met or not read


def test_vtdl_validates_between_these_starts() -> None:
    for length, first, last in recorded("vtdl/sampling")["val_start_range_len64_stride1_1based"].tolist():
        starts = {
            random_start(np.random.default_rng(seed), video_frames=length, num_frames=64) + 1 for seed in range(2000)
        }
        assert min(starts) == first
        assert max(starts) == last
