"""The commands of the pages in docs/, run as they are written, on small stand-ins."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from data_process.shards import ShardSet
from data_process.verify import VerifyConfig, verify
from engine.log import read_log
from launch import cli
from models.weights.architecture import build, find_kind, naming
from models.weights.exported import load_backbone, load_weights
from tests.data_process.test_import_lmdb import write_legacy
from tests.launch.runs import pretrain_words
from tests.models.weights.saved_files import saved_as
from tests.sample_videos import small_dataset, write_video

ROOT = Path(__file__).resolve().parents[1]
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


def put_programs(folder):
    """`intravid` and `sbatch` in a folder `bin`."""
    programs = {"intravid": f'#!/bin/bash\nexec {sys.executable} -m launch "$@"\n', "sbatch": SBATCH}
    for name, text in programs.items():
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


def blocks(page, language):
    """The blocks of a page in one language."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(page):
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(SLOW)]


def run_all(lines, folder):
    """Run shell commands in a folder; each must end well."""
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    environment = {name: value for name, value in environment.items() if not name.startswith("SLURM_")}
    for line in lines:
        ran = subprocess.run(["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, f"{line}\n{ran.stdout}\n{ran.stderr}"


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
    put_programs(tmp_path)
    return tmp_path


def test_every_command_about_data_does_what_it_says(stand_in):
    pytest.importorskip("av", reason="PyAV (the extra `video`) is not installed")
    pytest.importorskip("cv2", reason="OpenCV (the extra `flow`) is not installed")
    lines = commands("data.md")
    assert len(lines) >= 14
    run_all(lines, stand_in)
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


@pytest.fixture
def weights_of_others(tmp_path, monkeypatch):
    """Checkpoints of DualVar, CSTP and torchvision, and a run of ours."""
    saved = {"epoch189.pth.tar": ("r21d", "dualvar"), "save_300.pth": ("resnet3d", "cstp")}
    saved["r3d_18.pth"] = ("r3d_18", "torchvision")
    (tmp_path / "theirs").mkdir()
    for path, (name, layout) in saved.items():
        backbone, to_name = build(find_kind(name), {}), naming(find_kind(name), layout)
        state = {to_name(key): value for key, value in backbone.state_dict().items()}
        other = {name: value + 1 for name, value in state.items()}
        torch.save(saved_as(layout, state, other), tmp_path / "theirs" / path)
    settings = {"train.steps": 30, "train.save_every": 20, "eval.num_clips": 2, "eval.num_frames": 4, "eval.size": 16}
    small_dataset(tmp_path / "shards", videos=24)
    monkeypatch.chdir(ROOT)  # where the recipe is
    words = pretrain_words(tmp_path / "runs" / "iic", tmp_path / "shards", {**settings, "eval.resize": "null"})
    assert cli.main(words) == 0
    put_programs(tmp_path)
    return tmp_path


def test_every_command_about_weights_does_what_it_says(weights_of_others):
    folder = weights_of_others
    lines = commands("weights.md")
    assert len(lines) == 8
    run_all(lines, folder)
    for number, program in enumerate(blocks("weights.md", "python")):
        (folder / f"{number}.py").write_text(program)
        run_all([f"{sys.executable} {number}.py"], folder)
    for name, source in {"r21d": "epoch189.pth.tar", "resnet3d": "save_300.pth", "r3d_18": "r3d_18.pth"}.items():
        weights, _ = load_weights(folder / "weights" / f"{name}.safetensors")
        assert weights.provenance["source"] == source
        first = build(find_kind(name), {}).state_dict()
        assert all(torch.equal(value, first[key]) for key, value in weights.backbone.state_dict().items()), name
    online, target = (load_backbone(folder / "weights" / f"resnet3d{end}.safetensors") for end in ("", "-target"))
    assert all(torch.equal(one + 1, other) for one, other in zip(online.parameters(), target.parameters(), strict=True))
    assert load_weights(folder / "weights" / "iic-20.safetensors")[0].provenance["step"] == 20


@pytest.fixture
def recipes_at_hand(tmp_path):
    """The folder of recipes; `intravid` on the path."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    put_programs(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_every_command_about_methods_does_what_it_says(recipes_at_hand):
    folder = recipes_at_hand
    lines = commands("methods.md")
    assert len(lines) >= 9
    run_all(lines, folder)
    for run in ("iic", "iic_simclr"):
        assert read_log(folder / "runs" / run / "log.jsonl")[-1]["step"] == 30
    drawn = sorted(path.name for path in folder.glob("*.png"))
    shown = re.findall(r"\]\(pictures/(\w+\.png)\)", (ROOT / "docs" / "methods.md").read_text(encoding="utf-8"))
    assert sorted(shown) == drawn
    for name in drawn:
        with Image.open(folder / name) as made, Image.open(ROOT / "docs" / "pictures" / name) as kept:
            assert made.size == kept.size, f"{name} shows something else now: draw it anew"
        assert (ROOT / "docs" / "pictures" / name).stat().st_size < 300_000


def test_the_page_of_methods_names_every_method_and_every_reported_recipe():
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for path in (ROOT / "models" / "methods").glob("[a-z]*.py"):
        assert f"`{path.stem}." in page, path.stem
    sections = {text.partition("\n")[0].lower(): text for text in page.split("\n## ")[1:]}
    for path in (ROOT / "configs" / "pretrain").glob("*.yaml"):
        method, _, rest = path.stem.partition("_")
        assert f"`{rest}`" in sections[method], path.stem
