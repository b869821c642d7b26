"""Where and when the network finds what speaks for a video's class."""

from __future__ import annotations

from dataclasses import replace
from xml.etree.ElementTree import Element

import numpy as np
import torch
from torch import Tensor

from data_process.contact_sheet import even_numbers
from engine.grad_cam import grad_cam
from launch.evaluate import evaluation_clips
from launch.report.animation import animated, heated, picture, side_by_side
from launch.report.charts import bars
from launch.report.look import Look
from launch.report.markup import node
from models.views import residual
from pipelines.evaluation import evaluation_batches

_VIDEOS, _FRAMES, _SIZE = 6, 16, 112
_STRIP, _SMALL = 8, 46
"""Frames that stand side by side, and their height, pixels."""


def attention(look: Look) -> list[Element]:
    """A clip of a few judged videos beside its heat, and how the heat changes over time."""
    places = look.examples(_VIDEOS)
    clips = _clips(look, places)
    labels = look.query.labels[places]
    seen = residual(clips) if look.config.modality == "residual" else clips
    maps = grad_cam(look.subject.backbone, seen, look.directions[labels].to(clips)).cpu().numpy()
    shown = [_figure(look, place, clip, heat) for place, clip, heat in zip(places, clips.cpu(), maps, strict=True)]
    text = (
        "Grad-CAM (arXiv 1610.02391) with time as a third axis: where and when a clip's features speak for its own "
        "class, by a linear probe on the gallery, as the network itself knows no classes. Of the deepest feature map "
        "that still tells times and places apart; red is some, yellow is most. The small frames are the clip over "
        "time, first to last, the bars below them the mean heat of each frame: where they are level, no moment counts "
        "more than others."
    )
    return [node("p", text, class_="faint"), node("div", shown, class_="cards")]


def _clips(look: Look, places: list[int]) -> Tensor:
    """(B, C, T, S, S), one clip a video, as the network gets them."""
    config = replace(look.config, num_clips=1, sampling="even", crops=1)
    batches = evaluation_batches(
        look.query.videos,
        evaluation_clips(config),
        config=look.subject.loaded.config.pipeline,
        indices=look.query.chosen[places].tolist(),
        batch_size=len(places),
        device=look.world.device,
    )
    return torch.cat([batch.clips[0] for batch in batches])


def _figure(look: Look, place: int, clip: Tensor, heat: np.ndarray) -> Element:
    from PIL import Image

    mean, std = np.array(look.config.mean or (0.0,) * 3), np.array(look.config.std or (1.0,) * 3)
    pixels = np.clip(np.rint(255 * (clip.permute(1, 2, 3, 0).float().numpy() * std + mean)), 0, 255).astype(np.uint8)
    shown = list(even_numbers(_FRAMES, len(pixels)))

    def film(frames: list[np.ndarray]) -> list[Image.Image]:
        return [Image.fromarray(frames[one]).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC) for one in shown]

    name = look.classes[int(look.query.labels[place])]
    plain = animated(film(list(pixels)), f"Clip of {name}")
    hot = animated(
        film([heated(*one) for one in zip(pixels, heat, strict=True)]), f"The same clip with its heat for {name}"
    )
    over_time = heat.mean(axis=(1, 2))
    peak = f"most in frame {int(over_time.argmax()) + 1} of {len(heat)}"
    level = bars((over_time / max(float(over_time.max()), 1e-12)).tolist(), f"Mean heat of each frame: {peak}")
    few = [heated(pixels[one], heat[one]) for one in even_numbers(_STRIP, len(pixels))]
    strip = picture(side_by_side([Image.fromarray(one) for one in few], _SMALL), f"{len(few)} frames with their heat")
    verdict = look.classes[int(look.predicted[place])]
    words = "right" if verdict == name else f"taken for {verdict}"
    return node(
        "figure", node("div", plain, hot, class_="pair"), node("div", strip, level, class_="strip"),
        node("figcaption", node("strong", name), f", {words} by kNN; {peak}"),
        class_="card",
    )  # fmt: skip
