"""The commands of docs/data.md, run as they are written, on a small stand-in."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from data_process.shards import ShardSet
from data_process.verify import VerifyConfig, verify
from tests.data_process.test_import_lmdb import write_legacy
from tests.sample_videos import write_video

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "data.md"
SLOW = ("intravid bench",)
"""Run by tests of their own."""

SBATCH = """\
#!/bin/bash
# sbatch --array=0-N [options] --wrap COMMAND: every task, one after the other, as SLURM would set its variables.
last=${1#--array=0-}
for task in $(seq 0 $last); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_MIN=0 SLURM_ARRAY_TASK_STEP=1 SLURM_ARRAY_TASK_COUNT=$((last + 1)) \\
        bash -c "${@: -1}" || exit 1
done
"""


@pytest.fixture
def stand_in(tmp_path):
    """Eight videos of Kinetics, one of them missing; an old database; `intravid` and `sbatch` on the path."""
    rows = ["label,youtube_id,time_start,time_end,split"]
    for number in range(8):
        one, label = f"abcdefghi{number:02d}", ("air drumming", "abseiling")[number % 2]
        rows.append(f"{label},{one},{number},{number + 10},{'val' if number % 4 == 3 else 'train'}")
        if number < 7:
            name = f"{label.replace(' ', '_')}/{one}_{number:06d}_{number + 10:06d}.mp4"
            write_video(tmp_path / "k400" / "videos" / name, seed=number, frames=20)
    (tmp_path / "k400" / "annotations").mkdir()
    (tmp_path / "k400" / "annotations" / "k400.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "old").mkdir()
    write_legacy(tmp_path / "old" / "k400.lmdb")
    programs = {"intravid": f'#!/bin/bash\nexec {sys.executable} -m launch "$@"\n', "sbatch": SBATCH}
    for name, text in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return tmp_path


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line and not line.startswith(SLOW)]


def test_every_command_of_the_page_does_what_it_says(stand_in):
    pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")
    pytest.importorskip("cv2", reason="OpenCV (the extra `flow`) is not installed")
    environment = {**os.environ, "PATH": f"{stand_in / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment = {name: value for name, value in environment.items() if not name.startswith("SLURM_")}
    lines = commands()
    assert len(lines) >= 14
    for line in lines:
        ran = subprocess.run(["bash", "-c", line], cwd=stand_in, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"
    for name, videos in {
        "k400": 7,
        "k400-cluster": 7,
        "k400-mp4": 7,
        "k400-flow": 7,
        "k400-val": 1,
        "k400-old": 4,
    }.items():
        root = stand_in / "shards" / name
        assert len(ShardSet(root)) == videos, name
        assert verify(root, VerifyConfig(level=4)) == [], name
    assert len(ShardSet(stand_in / "scratch" / "k400")) == 7
    assert (stand_in / "shards" / "k400" / "missing.jsonl").read_text().count("\n") == 1
    for shard in (stand_in / "shards" / "k400").glob("*.lmdb"):
        assert shard.read_bytes() == (stand_in / "shards" / "k400-cluster" / shard.name).read_bytes()
