import sys

import torch

from benchmarks import step


def test_every_counted_step_stands_in_one_row(monkeypatch, capsys):
    sizes = ["--steps", "8", "--warmup", "2", "--batch", "2", "--width", "2", "--frames", "2", "--size", "16"]
    often = ["--log-every", "2", "--save-every", "4", "--threads", str(torch.get_num_threads())]
    monkeypatch.setattr(sys, "argv", ["step", *sizes, *often])
    step.main()
    rows = [line.rsplit(maxsplit=4)[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["plain", "3"], ["with a record", "1"], ["with a checkpoint", "2"]]
