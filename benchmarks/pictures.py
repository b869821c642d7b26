"""JPEGs that compress like footage, made in milliseconds: soft patches that drift, under grain."""

from __future__ import annotations

import numpy as np

_QUALITY = 85


def drifting_jpegs(
    rng: np.random.Generator, count: int, *, height: int, width: int, patch: int = 8, grain: float = 6.0
) -> list[bytes]:
    """Neighbouring frames of one scene.

    Args:
        rng: draws patches and grain.
        count: number of frames.
        height: pixels.
        width: pixels.
        patch: size of the patches, pixels; larger ones make smaller files.
        grain: standard deviation, grey levels.
    """
    import simplejpeg
    import torch

    coarse = torch.from_numpy(rng.random((1, 3, height // patch, width // patch), dtype=np.float32))
    picture = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic")[0].permute(1, 2, 0).numpy()
    frames = []
    for shift in range(count):
        moved = np.roll(picture, (shift, 2 * shift), axis=(0, 1)) * 255.0
        noisy = moved + grain * rng.standard_normal(moved.shape, dtype=np.float32)
        pixels = np.clip(noisy, 0, 255).astype(np.uint8)
        # Colour at half the size, as in a build's JPEGs.
        frames.append(simplejpeg.encode_jpeg(pixels, quality=_QUALITY, colorsubsampling="420"))
    return frames
