"""What a training step of each backbone costs, and what the engine's loop adds to the plainest loop that takes it.

Both loops train IIC with one forward pass a step on the same batches, prepared before the clock starts. They take turns
step by step, so a machine that is busy with other things slows both alike; read the ratios, not the milliseconds.

On a CUDA device: published networks, clips of 16 x 112 x 112 in bfloat16, eager and compiled. On the CPU: all networks,
but small ones, in float32, eager. Every default can be changed. "Of matmul" and "of copy" are what the bare loop
reaches of a large matrix product and of a large copy, measured in the same run: operations forward and backward, and
the bytes that must pass through memory at least. "With a checkpoint" is the step that copies the state; "beside its
writing" is the bare step that runs right behind it, while a thread writes the copy, over the other bare steps.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import torch

from benchmarks.ceilings import copy_bytes, matmul_flops
from benchmarks.lockstep import (
    LockStep,
    Steps,
    bare_loop,
    make_batches,
    make_method,
    peak_bytes,
    step_cost,
    train_beside,
)
from benchmarks.options import add_outputs, positive
from benchmarks.scoreboard import Goal, Scoreboard
from data_process.errors import InputError
from models.backbone import Backbone
from models.weights.architecture import build, find_kind, shipped

_DEFAULTS = {
    "cpu": {
        "networks": shipped(),
        "width": 16, "batch": 16, "frames": 8, "size": 32, "bf16": False, "compiled": [False],
    },
    "cuda": {
        "networks": ["r3d_18", "r2plus1d_18", "r21d", "s3d", "i3d"],
        "width": None, "batch": 16, "frames": 16, "size": 112, "bf16": True, "compiled": [False, True],
    },
}  # fmt: skip
_COLUMNS = (
    "bare, clips/s", "engine, clips/s", "adds, ms", "engine / bare", "with a record", "with a checkpoint",
    "beside its writing",
    "GFLOP/clip", "of matmul", "of copy", "peak, GiB",
)  # fmt: skip
_OVERHEAD = 1.01
_SAVING = 1.05


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    given = _parse(arguments)
    do = Steps(
        batch=given.batch,
        frames=given.frames,
        size=given.size,
        steps=given.steps,
        log_every=given.log_every,
        save_every=given.save_every,
        channels_last=given.channels_last,
        bf16=given.bf16,
        device=torch.device(given.device),
    )
    ceilings = matmul_flops(do.device, do.dtype), copy_bytes(do.device)
    rows = {}
    for name in given.networks:
        for compiled in given.compiled:
            row = f"{name}, compiled" if compiled else name
            rows[row] = measure(_maker(name, given.width), do, compiled, warmup=given.warmup, ceilings=ceilings)
    Scoreboard("step", _setting(given, do), _COLUMNS, rows, goals(rows), _remarks(do, ceilings)).publish(given.json)
    return 0


def measure(
    make: Callable[[], Backbone], do: Steps, compiled: bool, *, warmup: int, ceilings: tuple[float, float]
) -> tuple[float | None, ...]:
    """The numbers of one network, one a column.

    Args:
        make: gives the network.
        do: what the loops do.
        compiled: by torch.compile, in both loops.
        warmup: first steps that are not counted.
        ceilings: operations and bytes a second of the device.
    """
    torch.compiler.reset()
    bare = make_method(make, do)
    batches = make_batches(bare, do)
    step = bare_loop(bare, do, compiled=compiled)
    cost = step_cost(bare, batches[0], do)
    peak = peak_bytes(step, batches[0], do.device)
    loader = LockStep(batches, step, device=do.device)
    train_beside(make_method(make, do), loader, do, compiled=compiled)
    added_ms: list[float] = []
    beside: list[float] = []
    ratios: dict[str, list[float]] = {"plain": [], "record": [], "checkpoint": []}
    for number, (one, other) in enumerate(zip(loader.bare_s, loader.engine_s, strict=False), start=1):
        if number > warmup:
            kind = "record" if number % do.log_every == 0 else "plain"
            ratios["checkpoint" if number % do.save_every == 0 else kind].append(other / one)
            added_ms.append(1e3 * (other - one))
            if number > do.save_every and number % do.save_every == 1:
                beside.append(one)
    bare_s, engine_s = (statistics.median(times[warmup:]) for times in (loader.bare_s, loader.engine_s))
    return (
        do.batch / bare_s,
        do.batch / engine_s,
        statistics.median(added_ms),
        *(statistics.median(found) if found else None for found in ratios.values()),
        statistics.median(beside) / bare_s if beside else None,
        cost.flops / do.batch / 1e9,
        cost.flops / bare_s / ceilings[0],
        cost.moved_bytes / bare_s / ceilings[1],
        None if peak is None else peak / 2**30,
    )


def goals(rows: dict[str, tuple[float | None, ...]]) -> tuple[Goal, ...]:
    """What the engine may add to a plain step, for the median network and for each, and to those around a save."""
    ratios = _column(rows, "engine / bare")
    whole = Goal("engine / bare, median of the networks", _median(ratios), _OVERHEAD, True)
    saves = (
        Goal(f"{name}, median of the networks", _median(_column(rows, name)), _SAVING, True)
        for name in ("with a checkpoint", "beside its writing")
    )
    return (whole, *(Goal(f"engine / bare, {name}", ratio, _OVERHEAD, True) for name, ratio in ratios.items()), *saves)


def _column(rows: dict[str, tuple[float | None, ...]], column: str) -> dict[str, float | None]:
    return {name: row[_COLUMNS.index(column)] for name, row in rows.items()}


def _median(ratios: dict[str, float | None]) -> float | None:
    known = [ratio for ratio in ratios.values() if ratio is not None]
    return statistics.median(known) if known else None


def _maker(name: str, width: int | None) -> Callable[[], Backbone]:
    kind = find_kind(name)
    return lambda: build(kind, {} if width is None else {"width": width})


def _setting(given: argparse.Namespace, do: Steps) -> str:
    width = f"width {given.width}" if given.width else "published widths"
    form = "bfloat16" if do.bf16 else "float32"
    return (
        f"{do.batch} clips of {do.frames} x {do.size} x {do.size}, {width}, {form}, {do.device}; "
        "medians of pairs of steps"
    )


def _remarks(do: Steps, ceilings: tuple[float, float]) -> tuple[str, ...]:
    name = torch.cuda.get_device_name(do.device) if do.device.type == "cuda" else f"{torch.get_num_threads()} threads"
    return (
        f"ceilings of {name}: {ceilings[0] / 1e12:.3g} TFLOP/s, {ceilings[1] / 1e9:.3g} GB/s read and written",
        "operations on padding are counted and may be left out: small clips can seem to pass the ceiling",
    )


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="intravid bench step",
        description=__doc__,
        epilog="example:\n  intravid bench step --networks r3d s3d --steps 200\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(cuda where there is one)")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="backbones, as `intravid inspect --model` names")
    parser.add_argument("--width", type=positive, help="of their first stage (16 on the CPU, as published on a GPU)")
    parser.add_argument("--batch", type=positive, help="clips a step (16)")
    parser.add_argument("--frames", type=positive, help="of a clip (8; 16 on a GPU)")
    parser.add_argument("--size", type=positive, help="of a clip, pixels (32; 112 on a GPU)")
    switch = argparse.BooleanOptionalAction
    parser.add_argument("--bf16", action=switch, default=None, help="bfloat16 (on a GPU), or float32")
    parser.add_argument("--compiled", action=switch, default=None, help="by torch.compile (both on a GPU, else not)")
    parser.add_argument("--steps", type=positive, default=60, help="steps of each loop, warm-up included (60)")
    parser.add_argument("--warmup", type=int, default=10, help="first steps that are not counted (10)")
    parser.add_argument("--log-every", type=positive, default=10, help="steps between records of the engine (10)")
    parser.add_argument("--save-every", type=positive, default=25, help="steps between checkpoints of the engine (25)")
    parser.add_argument("--channels-last", action=switch, default=True, help="memory layout of both loops")
    parser.add_argument("--threads", type=positive, default=2, help="of torch on the CPU (2)")
    add_outputs(parser)
    given = parser.parse_args(arguments)
    if not 0 <= given.warmup < given.steps:
        parser.error(f"--warmup ({given.warmup}) must lie below --steps ({given.steps}) and not be negative")
    if given.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU here; use --device cpu")
    if given.device == "auto":
        given.device = "cuda" if torch.cuda.is_available() else "cpu"
    given.compiled = None if given.compiled is None else [given.compiled]
    for name, value in _DEFAULTS[given.device].items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    for name in given.networks:
        find_kind(name)  # a wrong name is told before anything is measured
    torch.set_num_threads(given.threads)
    return given
