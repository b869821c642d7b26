import json

import torch

from benchmarks import step


def test_every_counted_step_stands_in_one_row(tmp_path):
    sizes = ["--steps", "8", "--warmup", "2", "--batch", "2", "--width", "2", "--frames", "2", "--size", "16"]
    often = ["--log-every", "2", "--save-every", "4", "--threads", str(torch.get_num_threads())]
    assert step.main([*sizes, *often, "--json", str(tmp_path / "step.json")]) == 0
    rows = json.loads((tmp_path / "step.json").read_text())["rows"]
    counted = {kind: row["steps"] for kind, row in rows.items()}
    assert counted == {"plain": 3, "with a record": 1, "with a checkpoint": 2}
    assert all(row["engine / bare"] > 0 for row in rows.values())
