import json

import pytest

from data_process.verify import VerifyConfig, verify
from engine.log import read_log
from launch.cli import main
from tests.launch.runs import ROOT
from tests.sample_videos import write_video
from tests.slurm.conftest import LONG
from tests.test_docs import commands, put_programs

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.slow,
    pytest.mark.skipif(not LONG, reason="takes minutes; INTRAVID_SLURM_LONG=1 runs it"),
]

PAGE_S = 400


@pytest.fixture
def login_node(cluster, tmp_path):
    """A stand-in for Kinetics, recipes and programs in a folder: the function that runs a script there."""
    rows = ["label,youtube_id,time_start,time_end,split"]
    for number in range(16):
        one, label = f"abcdefghi{number:02d}", ("air drumming", "abseiling")[number % 2]
        rows.append(f"{label},{one},{number},{number + 10},{'val' if number >= 12 else 'train'}")
        name = f"{label.replace(' ', '_')}/{one}_{number:06d}_{number + 10:06d}.mp4"
        write_video(tmp_path / "k400" / "videos" / name, seed=number, frames=20)
    (tmp_path / "k400" / "annotations").mkdir()
    (tmp_path / "k400" / "annotations" / "k400.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    put_programs(tmp_path)
    (tmp_path / "bin" / "sbatch").unlink()  # a real one is there

    def run(lines):
        script = "\n".join(["set -e", f"cd {tmp_path}", f"export PATH={tmp_path}/bin:$PATH PYTHONPATH={ROOT}", *lines])
        return cluster.run("bash", "-c", script, limit_s=PAGE_S).stdout

    yield tmp_path, run
    for run_dir in (tmp_path / "runs").glob("*"):
        main(["cancel", str(run_dir)])


@pytest.mark.timeout(PAGE_S + 60)
def test_every_command_about_clusters_does_what_it_says(cluster, login_node):
    folder, run = login_node
    lines = commands("cluster.md")
    assert len(lines) >= 10
    said = run(lines)
    assert "#SBATCH --nodes=2" in said
    assert verify(folder / "shards" / "k400", VerifyConfig(level=4)) == []
    local = ["build", str(folder / "k400" / "videos"), str(folder / "local"), "--dataset", "kinetics"]
    assert main([*local, "--annotations", str(folder / "k400" / "annotations")]) == 0
    shards = {path.name: path.read_bytes() for path in (folder / "shards" / "k400").glob("*.lmdb")}
    assert shards == {path.name: path.read_bytes() for path in (folder / "local").glob("*.lmdb")}
    starts = [json.loads(path.read_text()) for path in (folder / "shards" / "k400").glob("slurm/*/starts.jsonl")]
    assert len(starts) == 4
    assert len({start["nodes"] for start in starts}) == 2
    assert [record["step"] for record in read_log(folder / "runs" / "k400" / "log.jsonl")][-1] == 30
    assert (folder / "runs" / "k400" / "eval-knn.json").is_file()
    jobs = [line.split() for line in said.splitlines() if line.startswith("job ") and "submitted" in line]
    final = {key: (command, state.strip(",")) for _, key, command, state, *_ in jobs}
    assert final == {key: (command, "COMPLETED") for key, (command, _) in final.items()}
    assert sorted(command for command, _ in final.values()) == ["build"] * 4 + ["knn", "pretrain", "pretrain", "report"]
    assert (folder / "runs" / "k400" / "report.html").is_file()
    assert ": cancelled" in said
    assert not list((folder / "runs" / "other").glob("checkpoints/*.pt"))
