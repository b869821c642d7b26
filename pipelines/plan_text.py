"""Plans in words, for people."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from data_process.records import VideoRecord
from pipelines.plan import ClipPlan, Photometric


def sample_text(index: int, record: VideoRecord) -> str:
    """What a sample is cut from, in one line."""
    return (
        f"sample {index}: {record.id}   label {record.label}   {record.num_frames} frames of "
        f"{record.width} x {record.height} at {record.fps:g}/s"
    )


def target_texts(targets: Mapping[str, np.ndarray]) -> list[str]:
    """Each target as ``name value``; of long ones the beginning and the length."""
    return [f"{name} {_value(value)}" for name, value in targets.items()]


def _value(value: np.ndarray) -> str:
    numbers = [f"{number:.3f}" if value.dtype.kind == "f" else str(number) for number in value.reshape(-1)[:8].tolist()]
    if value.ndim == 0:
        return numbers[0]
    more = f", ... ({value.size})" if value.size > 8 else ""
    return f"[{', '.join(numbers)}{more}]"


def clip_text(view: int, clip: ClipPlan) -> str:
    """What is done to a clip, in one line and in the order in which it is done."""
    first, last = clip.frames[0], clip.frames[-1]
    step = clip.frames[1] - first if len(clip.frames) > 1 else 0
    regular = clip.frames == tuple(range(first, first + len(clip.frames) * step, step)) if step else False
    frames = f"frames {first}..{last} by {step}" if regular else f"frames {_shortened(clip.frames)}"
    told = [f"view {view}: {frames}"]
    told += [f"rotated {clip.angle:+.1f}\N{DEGREE SIGN}"] if clip.angle else []
    told += [_colour_text(clip.photometric[0])] if clip.photometric[0] != Photometric() else []
    told += ["each frame otherwise"] if len(clip.photometric) > 1 else []
    told += [f"tilted {clip.tilt:+.1f}\N{DEGREE SIGN}"] if clip.tilt else []
    told += ["mirrored"] if clip.flip else []
    told += [f"turned {90 * clip.quarter_turns}\N{DEGREE SIGN}"] if clip.quarter_turns else []
    return ", ".join(told)


def _shortened(frames: tuple[int, ...]) -> str:
    return " ".join(map(str, frames)) if len(frames) <= 8 else f"{' '.join(map(str, frames[:6]))} ... {frames[-1]}"


def _colour_text(change: Photometric) -> str:
    told = [
        f"{name} {value:.2f}"
        for name, value in (
            ("brightness", change.brightness), ("contrast", change.contrast), ("saturation", change.saturation),
        )
        if value != 1.0
    ]  # fmt: skip
    told += [f"hue {change.hue:+.0f}\N{DEGREE SIGN}"] if change.hue else []
    told += ["grey"] if change.grey else []
    told += [f"{('red', 'green', 'blue')[change.channel]} alone"] if change.channel is not None else []
    told += [f"blur {change.blur:.1f}"] if change.blur else []
    return " ".join(told)
