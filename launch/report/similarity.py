"""How alike a network finds the moments of one video, and a method's own parts of a clip, beside other videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

import torch
from torch import Tensor

from data_process.errors import InputError
from engine.checkpoint import latest_checkpoint, method_weights, read_checkpoint
from engine.part_cosines import part_cosines
from launch.report.look import Look
from launch.report.markup import node, table
from launch.seen import draw_batch
from models.method import DatasetFacts, Method
from pipelines.batch import ViewBatch

_SAMPLES = 64
_FEW = 6
"""Parts whose numbers are written in full size."""
_SPREAD = ("even", "capped")
"""Samplings that give every video as many clips."""


def similarity(look: Look) -> list[Element]:
    """Matrices of the clips of a video over time, and of the method's parts where it has such.

    Raises:
        InputError: where there is nothing to be compared with.
    """
    made = [*_over_time(look), *_of_parts(look)]
    if not made:
        raise InputError(
            "it needs two evenly spaced clips of a video or more (eval.num_clips, eval.sampling, eval.crops 1)"
        )
    return made


def _over_time(look: Look) -> list[Element]:
    seen, config = look.query, look.config
    if config.num_clips < 2 or config.crops != 1 or config.sampling not in _SPREAD:
        return []
    order = torch.argsort(seen.of_video, stable=True)  # clips of a video keep their order in time
    networks = {look.subject.origin: seen.clips, "random network": look.first_clips}
    cosines = {}
    for name, clips in networks.items():
        clips = clips - clips.mean(dim=0) if config.centre else clips
        cosines[name] = part_cosines(clips[order].view(len(seen.chosen), config.num_clips, -1))
    names = [f"clip {number}" for number in range(1, config.num_clips + 1)]
    text = (
        f"Mean cosine of the {config.num_clips} clips of a video, first to last, over {seen.extent}"
        f"{', the mean of all clips subtracted' if config.centre else ''}. All near 1: what changes inside of a video "
        "is lost. No more than for other videos: a video is not known again."
    )
    return [node("h4", "Clips of a video"), node("p", text, class_="faint"), _side_by_side(cosines, names)]


def _of_parts(look: Look) -> list[Element]:
    loaded, videos = look.subject.loaded, look.query.videos
    untrained = loaded.build_method(DatasetFacts(1, len(look.classes))).eval()
    if type(untrained).parts is Method.parts:
        return []
    batch = draw_batch(loaded, untrained, videos, most=_SAMPLES)
    networks = {look.subject.origin: _trained(look), "random network": untrained}
    names = list(untrained.parts(_rows(batch, slice(0, 1), torch.device("cpu"))))
    if not names:
        return []
    cosines = {name: part_cosines(_parts(look, network, batch)) for name, network in networks.items()}
    text = (
        f"Mean cosine of the embeddings of a clip's segments and of the same segments where the clip was shown to the "
        f"network in another order (moved), over {len(batch.index)} {videos.split} clips, augmented as in training. A "
        "method that ranks segments wants each nearest to its own twin: segment 1 to moved 1."
    )
    return [node("h4", "Segments of a clip"), node("p", text, class_="faint"), _side_by_side(cosines, names)]


def _parts(look: Look, network: Method, batch: ViewBatch) -> Tensor:
    """(B, parts, D) on the CPU, as few samples at a time as in evaluation."""
    device, size = look.world.device, look.config.batch_size
    network = network.to(device)
    found = []
    for first in range(0, len(batch.index), size):
        parts = network.parts(_rows(batch, slice(first, first + size), device))
        found.append(torch.stack([one.float().cpu() for one in parts.values()], dim=1))
    return torch.cat(found)


def _rows(batch: ViewBatch, rows: slice, device: torch.device) -> ViewBatch:
    targets = {name: value[rows].to(device) for name, value in batch.targets.items()}
    return ViewBatch(tuple(one[rows].to(device) for one in batch.clips), batch.index[rows].to(device), targets)


def _trained(look: Look) -> Method:
    """The whole method with what its run has learned; memories, which have rows for the run's videos, stay empty."""
    method = look.subject.loaded.build_method(DatasetFacts(1, len(look.classes)))
    path = latest_checkpoint(look.run.path)
    state, wanted = method_weights(read_checkpoint(path)), method.state_dict()
    fitting = {name: value for name, value in state.items() if name in wanted and value.shape == wanted[name].shape}
    if absent := [name for name, _ in method.named_parameters() if name not in fitting]:
        raise InputError(f"{path} does not fit the method of its run: no {', '.join(absent[:5])}")
    method.load_state_dict(fitting, strict=False)
    return method.eval()


def _side_by_side(cosines: Mapping[str, tuple[Tensor, float]], names: Sequence[str]) -> Element:
    return node("div", [_matrix(name, *one, names) for name, one in cosines.items()], class_="columns")


def _matrix(title: str, within: Tensor, between: float, names: Sequence[str]) -> Element:
    rows = [
        node(
            "tr",
            node("th", name, scope="row"),
            [node("td", f"{value:.2f}", style=f"--v: {min(max(value, 0.0), 1.0):.3f}") for value in row],
        )
        for name, row in zip(names, within.tolist(), strict=True)
    ]
    head = ["", *(node("span", name, class_="upright") for name in names)]
    caption = f"{title}; mean of different videos {between:.2f}"
    return table(
        head,
        rows,
        label=f"mean cosines, {title}",
        caption=caption,
        class_=f"confusion{' small' if len(names) > _FEW else ''}",
    )
