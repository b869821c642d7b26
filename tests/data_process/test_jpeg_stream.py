import pytest

from data_process.jpeg_stream import split_jpegs
from tests.sample_videos import jpegs


def test_parts_are_the_frames_that_were_joined():
    frames = jpegs(0, frames=7)
    assert list(split_jpegs(b"".join(frames))) == frames


def test_an_end_marker_inside_a_table_ends_no_frame():
    frame = jpegs(0, frames=1)[0]
    comment = b"\xff\xfe\x00\x06\xff\xd9\xff\xd9"
    with_comment = frame[:2] + comment + frame[2:]
    assert list(split_jpegs(with_comment + frame)) == [with_comment, frame]


@pytest.mark.parametrize("missing", [1, 2, 50, 600])
def test_a_pipe_cut_inside_a_frame_is_noticed(missing):
    stream = b"".join(jpegs(0, frames=3))
    with pytest.raises(ValueError, match=r"cut off|no marker"):
        list(split_jpegs(stream[:-missing]))


def test_anything_else_between_frames_is_noticed():
    one, two = jpegs(0, frames=2)
    with pytest.raises(ValueError, match=f"byte {len(one)} of the frames is not the beginning"):
        list(split_jpegs(one + b"warning" + two))


def test_no_frames_come_of_no_bytes():
    assert list(split_jpegs(b"")) == []
