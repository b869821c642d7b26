"""Draws that planners are made of; each takes its generator first and returns plain numbers."""

from pipelines.draw.colour import Augmentation, Augmented, ColourJitter
from pipelines.draw.overlap import RATES, SpatialOverlap, TemporalOverlap, overlap_shifts, shared_area
from pipelines.draw.space import (
    area_aspect_box,
    centre_box,
    cut_sides,
    random_area_box,
    random_crop,
    random_resized_crop,
    resized_crop,
    short_side_size,
    unturned,
)
from pipelines.draw.time import (
    TripletStarts,
    centred_frames,
    clip_frames,
    even_starts,
    looped,
    playback_label,
    random_start,
    restarted,
    span,
)

__all__ = [
    "RATES",
    "Augmentation",
    "Augmented",
    "ColourJitter",
    "SpatialOverlap",
    "TemporalOverlap",
    "TripletStarts",
    "area_aspect_box",
    "centre_box",
    "centred_frames",
    "clip_frames",
    "cut_sides",
    "even_starts",
    "looped",
    "overlap_shifts",
    "playback_label",
    "random_area_box",
    "random_crop",
    "random_resized_crop",
    "random_start",
    "resized_crop",
    "restarted",
    "shared_area",
    "short_side_size",
    "span",
    "unturned",
]
