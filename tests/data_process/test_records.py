import struct
import zlib

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_process.records import (
    PREFIX,
    RecordFormatError,
    RecordHeader,
    describe_units,
    header_length,
    pack_record,
    parse_header,
)


def header_of(units, **facts):
    sizes, crcs = describe_units(units)
    given = {"id": "a/b", "label": 3, "split": "val", "codec": "jpeg", "width": 40, "height": 32, "fps": (30000, 1001)}
    given["num_frames"] = len(units)
    return RecordHeader(**{**given, **facts}, unit_sizes=sizes, unit_crcs=crcs)


@given(
    units=st.lists(st.binary(max_size=300), max_size=40),
    video_id=st.text(st.characters(exclude_categories=("Cs",)), max_size=40),
    label=st.integers(-1, 2**31 - 1),
)
def test_a_record_gives_back_header_and_units(units, video_id, label):
    given = header_of(units, id=video_id, label=label, source={"codec": "h264", "vfr": True})
    value = pack_record(given, units)
    read = parse_header(value)
    for name in ("id", "label", "split", "codec", "width", "height", "fps", "source", "state", "num_frames"):
        assert getattr(read, name) == getattr(given, name)
    start = PREFIX.size + header_length(value)
    ends = read.unit_offsets()
    assert [value[start + ends[n] : start + ends[n + 1]] for n in range(len(units))] == units
    assert read.unit_crcs.tolist() == [zlib.crc32(unit) for unit in units]


def test_the_layout_is_the_one_that_is_written_down():
    units = [b"one", b"second"]
    value = pack_record(header_of(units), units)
    magic, length, crc, flags = struct.unpack("<4sIII", value[:16])
    packed = value[16 : 16 + length]
    assert (magic, crc, flags) == (b"IVR1", zlib.crc32(packed), 0)
    assert value[16 + length :] == b"onesecond"
    fields = msgpack.unpackb(packed)
    assert list(fields) == ["id", "label", "split", "codec", "w", "h", "fps", "n", "units", "crc", "src", "st"]
    assert (fields["n"], fields["fps"], fields["st"]) == (2, [30000, 1001], "ok")
    assert np.frombuffer(fields["units"], "<u4").tolist() == [3, 6]


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_of_prefix_or_header_is_noticed(position, bit):
    units = [b"unit"] * 5
    value = bytearray(pack_record(header_of(units), units))
    value[position % (len(value) - 20)] ^= 1 << bit
    with pytest.raises(RecordFormatError):
        parse_header(bytes(value))


def test_units_other_than_described_are_refused():
    with pytest.raises(ValueError, match="a/b"):
        pack_record(header_of([b"one"]), [b"four"])


def test_a_record_becomes_what_training_knows_of_a_video():
    record = header_of([b"one", b"two"]).as_video_record()
    assert (record.id, record.label, record.split, record.num_frames) == ("a/b", 3, "val", 2)
    assert (record.height, record.width) == (32, 40)
    assert record.fps == pytest.approx(29.97, abs=1e-3)


def test_a_video_file_is_one_unit_and_codecs_add_keys_of_their_own():
    stream = header_of([b"a whole file"], codec="mp4", num_frames=120)
    assert parse_header(pack_record(stream, [b"a whole file"])).num_frames == 120
    flow = header_of([b"one", b"two"], codec="flow-jpeg", extra={"bound": 20.0, "alg": "dis"})
    assert parse_header(pack_record(flow, [b"one", b"two"])).extra == {"bound": 20.0, "alg": "dis"}
    with pytest.raises(RecordFormatError, match="7 frames of jpeg are 7 units, 2 sizes"):
        header_of([b"one", b"two"], num_frames=7)
    with pytest.raises(ValueError, match="keys of every header"):
        header_of([b"one"], extra={"fps": 3})
