"""The DALI graph's operators, from frames to normalised pixels; `pipelines.dali` hands in DALI's own modules."""

from __future__ import annotations

from typing import Any

from pipelines.dali_feed import COLUMN
from pipelines.plan import ClipFormat
from pipelines.vectors import ZERO_LEVEL


def augment(dali: Any, pixels: Any, row: Any, gains: tuple[Any, Any], clip_format: ClipFormat) -> Any:
    """Frames HWC uint8 to normalised HWC float; operations outside the clip format are not in the graph."""
    fn, types = dali.fn, dali.types

    def value(name: str) -> Any:
        return row[COLUMN[name]]

    operations = clip_format.operations
    is_flow, outside = clip_format.is_flow, ZERO_LEVEL if clip_format.is_flow else 0
    recolours = bool(operations & {"colour", "grey", "channel"}) and not is_flow
    if "rotate" in operations:
        # Levels are rounded once: behind the colours, which could amplify the rounding, where there are any.
        kept = types.FLOAT if recolours else types.UINT8
        pixels = fn.rotate(
            fn.cast(pixels, dtype=kept),
            angle=value("angle"),
            interp_type=types.INTERP_LINEAR,
            keep_size=True,
            fill_value=outside,
        )
    top, height = COLUMN["top"], COLUMN["height"]
    pixels = fn.slice(
        pixels,
        start=fn.cast(row[top : top + 2], dtype=types.INT32),
        shape=fn.cast(row[height : height + 2], dtype=types.INT32),
        axes=[0, 1],
        out_of_bounds_policy="pad" if "pad" in operations else "error",
        fill_values=outside,
    )
    if recolours:
        # color_twist would take the contrast of floats around 0.5, so contrast and brightness have an operator apart.
        is_grey = fn.cast(value("grey") == 1.0, dtype=types.FLOAT) if "channel" in operations else value("grey")
        saturation = value("saturation") * (1.0 - is_grey)
        pixels = fn.color_twist(pixels, saturation=saturation, hue=value("hue"), dtype=types.FLOAT)
        pixels = fn.brightness_contrast(
            pixels,
            brightness=value("brightness"),
            contrast=value("contrast"),
            contrast_center=128.0,
            dtype=types.UINT8,
        )
        if "channel" in operations:
            pixels = _one_channel(fn, types, pixels, value("grey"))
    pixels = (_resize_cubic if clip_format.interpolation == "bicubic" else _resize)(
        fn, types, pixels, row, gains, clip_format.size
    )
    if "tilt" in operations:
        pixels = fn.rotate(
            pixels, angle=value("tilt"), interp_type=types.INTERP_LINEAR, keep_size=True, fill_value=outside
        )  # fmt: skip
    if "flip" in operations:
        pixels = fn.flip(pixels, horizontal=fn.cast(value("flip"), dtype=types.INT32))
    if "turn" in operations:
        angle = value("turns") * 90.0
        pixels = fn.rotate(pixels, angle=angle, interp_type=types.INTERP_NN, keep_size=True, fill_value=0)
    if is_flow:
        pixels = _turned_vectors(dali, pixels, row)
        if (one := clip_format.component) is not None:
            shown = fn.slice(pixels, start=[one], shape=[1], axes=[2])
            pixels = fn.cat(shown, shown, shown, axis=2)
    elif "blur" in operations:
        # A window of 1 is the identity; sigma 0 with window 0 is refused by DALI.
        radius = fn.cast(-dali.math.floor(-3.0 * value("blur")), dtype=types.INT32)
        pixels = fn.gaussian_blur(pixels, sigma=value("blur"), window_size=2 * radius + 1)
    return fn.crop_mirror_normalize(
        pixels,
        dtype=types.FLOAT,
        mean=[255.0 * mean for mean in clip_format.mean[: clip_format.channels]],
        std=[255.0 * std for std in clip_format.std[: clip_format.channels]],
        output_layout="HWC",
    )


def flow_picture(dali: Any, stored: Any) -> Any:
    """Grey pictures of u above v (2 height, width, 1) to (height, width, 2)."""
    halves = (dali.fn.slice(stored, rel_start=[start], rel_shape=[0.5], axes=[0]) for start in (0.0, 0.5))
    return dali.fn.cat(*halves, axis=2)


def _turned_vectors(dali: Any, pixels: Any, row: Any) -> Any:
    """Vectors of a moved picture, by the map that the last four columns hold."""
    fn, types = dali.fn, dali.types
    first = COLUMN["margin"] + 1
    matrix = fn.reshape(row[first : first + 4], shape=[2, 2])
    offset = ZERO_LEVEL - fn.reductions.sum(matrix * float(ZERO_LEVEL), axes=1)
    moved = fn.coord_transform(pixels, M=matrix, T=offset, dtype=types.FLOAT)
    return fn.cast(dali.math.clamp(dali.math.floor(moved + 0.5), 0.0, 255.0), dtype=types.UINT8)


def _one_channel(fn: Any, types: Any, pixels: Any, grey: Any) -> Any:
    """Channel 0, 1 or 2 in all three places where grey is 2, 3 or 4."""
    picked = fn.cast(grey > 1.0, dtype=types.FLOAT)
    places = [fn.cast(picked * (grey - 2.0) + (1.0 - picked) * float(place), dtype=types.INT32) for place in range(3)]
    return fn.cat(*(fn.slice(pixels, start=fn.stack(place), shape=[1], axes=[2]) for place in places), axis=2)


def _resize(fn: Any, types: Any, pixels: Any, row: Any, gains: tuple[Any, Any], size: int) -> Any:
    """Antialiased bilinear resize whose filter ends at the edge of the crop, as Pillow's and torch's.

    DALI would repeat the pixels at the edge instead, which was seen to move it by 20 levels where much is shrunk.
    """
    height, margin = COLUMN["height"], row[COLUMN["margin"]]
    sides, margins = row[height : height + 2], fn.stack(margin, margin)
    resized = fn.resize(
        _padded(fn, types, pixels, sides, margins),
        size=(size, size),
        roi_start=margins,
        roi_end=sides + margins,
        interp_type=types.INTERP_LINEAR,
        antialias=True,
    )
    return fn.cast(resized * (gains[0] * gains[1]), dtype=types.UINT8)


def _resize_cubic(fn: Any, types: Any, pixels: Any, row: Any, gains: tuple[Any, Any], size: int) -> Any:
    """The same with a cubic filter, first along rows and then along columns.

    Such filters reach beyond 0..255. Pillow and torch cut levels between the two passes; in one call of DALI, which
    does not, hard edges were seen to come out 9 levels apart.
    """
    margin, nothing = row[COLUMN["margin"]], row[COLUMN["margin"]] * 0.0
    height, width = row[COLUMN["height"]], row[COLUMN["width"]]
    options = {"interp_type": types.INTERP_CUBIC, "antialias": True, "dtype": types.FLOAT}
    sides, margins = fn.stack(height, width), fn.stack(nothing, margin)
    wide = fn.resize(
        _padded(fn, types, pixels, sides, margins),
        resize_x=float(size),
        resize_y=height,
        roi_start=margins,
        roi_end=sides + margins,
        **options,
    )
    wide = fn.cast(wide * gains[1], dtype=types.UINT8)
    sides, margins = fn.stack(height, nothing + float(size)), fn.stack(margin, nothing)
    resized = fn.resize(
        _padded(fn, types, wide, sides, margins),
        size=(size, size),
        roi_start=margins,
        roi_end=sides + margins,
        **options,
    )
    return fn.cast(resized * gains[0], dtype=types.UINT8)


def _padded(fn: Any, types: Any, pixels: Any, sides: Any, margins: Any) -> Any:
    """Pictures with so many zeros on both ends of each axis."""
    return fn.slice(
        pixels,
        start=fn.cast(-margins, dtype=types.INT32),
        shape=fn.cast(sides + 2.0 * margins, dtype=types.INT32),
        axes=[0, 1],
        out_of_bounds_policy="pad",
        fill_values=0,
    )
