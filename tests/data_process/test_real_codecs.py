"""Real videos stored in each way: the same ones, and the pictures that another decoder gives."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from data_process.build import build
from data_process.build_config import BuildConfig
from data_process.decoding import decode
from data_process.quarantine import read_json_lines
from data_process.shards import ShardSet
from data_process.source import SourceRequest
from data_process.transcode_config import TranscodeConfig
from data_process.verify import VerifyConfig, verify

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "clips"
pytestmark = pytest.mark.skipif(not CLIPS.is_dir(), reason="real videos are not here (../shared/data/clips)")
av = pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")

MEAN_ERROR = {"jpeg": (3.5, 10.0), "mp4": (4.0, 10.0)}
"""Grey levels between a stored frame and PyAV's of the source, mean over a video: below the first for half of the
clips, below the second for all (graphics in saturated colours are the worst, since chroma is halved)."""


@pytest.fixture(scope="module", params=["jpeg", "mp4", "flow-jpeg"])
def built(request, tmp_path_factory):
    if request.param == "flow-jpeg":
        pytest.importorskip("cv2", reason="OpenCV (the extra `flow`) is not installed")
    out = tmp_path_factory.mktemp(request.param) / "out"
    settings = TranscodeConfig(short_side=64, codec=request.param, min_frames=2)
    jobs = min(4, os.cpu_count() or 1)
    build("folder", SourceRequest(CLIPS), out, BuildConfig(transcode=settings, jobs=jobs, max_bad=1.0))
    return request.param, out


def test_every_way_stores_the_same_videos(built):
    codec, out = built
    left_out = {row["id"]: row["code"] for row in read_json_lines(out / "quarantine.jsonl") if not row["stored"]}
    codes = {
        "WrongFile": "unreadable", "streamio_broken": "unreadable", "invalid_userdata": "unreadable",
        "invalid_vp9_bitstream-bug_1416": "bad_size", "gs-16b-2c-44100hz": "no_video_stream",
        "prog_8s_enc_dashinit": "encrypted",
    }  # fmt: skip
    assert {name: left_out.get(name) for name in codes} == codes
    too_short = {name for name, code in left_out.items() if code == "too_short"}
    too_small = {name for name, code in left_out.items() if code == "bad_size"} - set(codes)
    assert set(left_out) == set(codes) | too_short | too_small
    assert not too_small or codec == "flow-jpeg"
    assert verify(out, VerifyConfig(level=4, every=7)) == []


def plain_clips():
    """Clips that PyAV decodes to the end, upright, of square pixels and one rate."""
    with (CLIPS / "manifest.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            whole = row["frames"] == row["frames_pyav"] == row["frames_ffmpeg_default"] and row["frames"] not in (
                "",
                "0",
            )
            upright = row["rotation_cw"] in ("", "0") and row["sar"] in ("", "1", "1/1") and row["vfr"] != "yes"
            if whole and upright and 16 <= int(row["frames"]) <= 400 and row["pix_fmt"] in ("yuv420p", "yuvj420p"):
                yield Path(row["file"])


def test_stored_frames_are_those_of_another_decoder(built):
    codec, out = built
    if codec == "flow-jpeg":
        pytest.skip("flow has no picture to compare with; its motion is tested on generated textures")
    shards, compared, errors = ShardSet(out), 0, {}
    for path in plain_clips():
        try:
            index = shards.index_of(path.stem)
        except KeyError:
            continue
        record = shards[index]
        expected = pyav_frames(path, record.height, record.width)
        if len(expected) != record.num_frames:
            continue  # thinned out
        stored = decode(shards.read_frames(index, range(record.num_frames)), record)
        difference = [np.abs(stored[n].astype(int) - frame).mean() for n, frame in enumerate(expected)]
        errors[path.name] = float(np.mean(difference))
        # A frame too early or too late would stand out from the others.
        assert max(difference) < 3 * np.median(difference) + 6, path.name
        compared += 1
    assert compared >= 10
    usual, worst = MEAN_ERROR[codec]
    assert np.median(list(errors.values())) < usual, errors
    assert max(errors.values()) < worst, errors


def pyav_frames(path, height, width):
    with av.open(str(CLIPS / path)) as container:
        kind = av.video.reformatter.Interpolation
        how = {
            "width": width,
            "height": height,
            "interpolation": kind.BICUBIC | kind.ACCURATE_RND | kind.FULL_CHR_H_INT,
        }
        return [
            frame.reformat(format="rgb24", **how).to_ndarray().astype(int)
            for frame in container.decode(container.streams.video[0])
        ]
