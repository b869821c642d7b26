"""The awkward real files of ../shared/data/clips: every one ends as stored, degraded or left out, with its reason."""

import csv
import io
import itertools
import math
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_process.build import build
from data_process.build_config import BuildConfig
from data_process.quarantine import read_json_lines
from data_process.shards import ShardSet
from data_process.source import SourceRequest
from data_process.transcode_config import TranscodeConfig
from data_process.verify import VerifyConfig, verify

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "clips"

pytestmark = pytest.mark.skipif(not CLIPS.is_dir(), reason="the real clips are not beside this repository")

LEFT_OUT = {
    "WrongFile": "unreadable",
    "streamio_broken": "unreadable",
    "invalid_userdata": "unreadable",
    "invalid_vp9_bitstream-bug_1416": "bad_size",
    "gs-16b-2c-44100hz": "no_video_stream",
    "prog_8s_enc_dashinit": "encrypted",
}
DEGRADED = {"decord_corrupted", "no_timescale"}
THINNED = {"mp4ff_hevc": 2, "test_video_66x50": 2, "filetype_fixture.mov": 2}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """All decodable clips, however short."""
    out = tmp_path_factory.mktemp("clips") / "out"
    settings = TranscodeConfig(short_side=64, min_frames=1)
    build(
        "folder",
        SourceRequest(CLIPS),
        out,
        BuildConfig(transcode=settings, jobs=min(4, os.cpu_count() or 1), max_bad=1.0),
    )
    return out


def manifest():
    """Rows of the clips' own manifest, by the id that the folder adapter gives."""
    with (CLIPS / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    stems = Counter(Path(row["file"]).stem for row in rows)
    return {row["file"] if stems[Path(row["file"]).stem] > 1 else Path(row["file"]).stem: row for row in rows}


def test_every_file_ends_as_stored_or_left_out_with_its_reason(built):
    reported = {row["id"]: row["code"] for row in read_json_lines(built / "quarantine.jsonl") if not row["stored"]}
    assert reported == LEFT_OUT
    shards = ShardSet(built)
    assert {record.id for record in shards} | set(reported) == set(manifest())
    assert {shards[index].id for index in range(len(shards)) if shards.is_degraded(index)} == DEGRADED
    assert verify(built, VerifyConfig(level=3)) == []


def test_frame_counts_agree_with_the_manifest(built):
    rows = manifest()
    counts = {record.id: record.num_frames for record in ShardSet(built)}
    expected = {name: math.ceil(int(rows[name]["frames"]) / THINNED.get(name, 1)) for name in counts}
    assert counts == expected


def test_pictures_are_upright_and_not_enlarged(built):
    rows, shards = manifest(), ShardSet(built)
    for index, record in enumerate(shards):
        row = rows[record.id]
        height, width = int(row["display_height"]), int(row["display_width"])
        if row["sar"] not in ("", "1"):
            part, of = map(int, row["sar"].split("/"))
            width = width * part / of
        scale = min(1.0, 64 / min(height, width))
        assert (record.height, record.width) == pytest.approx((height * scale, width * scale), abs=0.6), record.id
        picture = Image.open(io.BytesIO(shards.read_frames(index, [record.num_frames - 1]).units[0]))
        assert picture.size == (record.width, record.height)


def test_rates_follow_the_frames_where_headers_lie(built):
    rates = {record.id: record.fps for record in ShardSet(built)}
    assert rates["filetype_fixture-null"] == pytest.approx(8.31, abs=0.02)  # its header claims 30
    assert rates["te[s]t_ video ' _ "] == pytest.approx(5.02, abs=0.02)  # 24
    assert rates["filetype_fixture2"] == pytest.approx(29.97, abs=0.02)  # 25
    assert rates["TrumanShow_wave_f_nm_np1_fr_med_26"] == 30  # packed B-frames: the times are wrong, not the header
    assert rates["mp4ff_hevc"] == 25  # every second frame of 50 a second
    assert rates["v_SoccerJuggling_g23_c01"] == pytest.approx(29.97, abs=0.01)


def test_turned_phone_clips_are_turned_back(built):
    shards = ShardSet(built)
    for name, upright in (("php-ffmpeg_portrait", True), ("streamio_ios9", True), ("decord_video_180", False)):
        record = shards[shards.index_of(name)]
        assert (record.height > record.width) == upright


def test_no_frame_is_an_invented_copy(built):
    shards = ShardSet(built)
    for name in ("filetype_fixture.asf", "short_hamilton_clip", "filetype_fixture-null"):
        index = shards.index_of(name)
        units = shards.read_frames(index, range(shards[index].num_frames)).units
        assert np.mean([one == two for one, two in itertools.pairwise(units)]) < 0.1
