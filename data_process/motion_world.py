"""The look of a motion video: levels, palettes, background, light, camera and noise, down to RGB frames.

Nothing here but the sprites' poses depends on the class.

Letters: T frames, S rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_process.motion_poses import draw_sprite, sprite_poses
from data_process.motion_sprites import SHAPES, TEXTURES, paint_sprite

_LUMINANCE = np.array([0.299, 0.587, 0.114])
_WAVES, _CYCLES, _CONTRAST = 12, 4, 0.35


@dataclass(frozen=True)
class Level:
    """How much there is beside the motion.

    Attributes:
        sprites: fewest and most sprites in a video; all of one class.
        own_shapes: each sprite has its own shape and texture, instead of one for the video.
        palettes: number of palettes; 0 draws a new one for each video.
        patterns: number of background patterns; 0 draws a new one for each video.
        shift: whether each video's background starts somewhere else on the torus.
        colours: luminance ranges, grey levels: ground, second ground, sprite, second sprite colour.
        tint: largest colour offset in one channel before its luminance is taken out, grey levels.
        width: share of the full range of each motion parameter that is used.
        light: brightness of the top and the bottom row.
        shake: camera's random walk, pixels a frame (of a world of 64), tied at both ends.
        drift: largest steady camera speed, likewise.
        noise: range of the Gaussian noise's sigma, grey levels.
        flicker: sigma of the brightness from frame to frame, as a share.
    """

    sprites: tuple[int, int] = (1, 2)
    own_shapes: bool = False
    palettes: int = 6
    patterns: int = 4
    shift: bool = True
    colours: tuple[tuple[float, float], ...] = ((25, 75), (60, 120), (190, 240), (110, 150))
    tint: float = 45.0
    width: float = 0.3
    light: tuple[float, float] = (1.3, 0.7)
    shake: float = 0.05
    drift: float = 0.05
    noise: tuple[float, float] = (1.0, 5.0)
    flicker: float = 0.008


LEVELS = {
    "plain": Level(palettes=1, patterns=1, shift=False),
    "default": Level(),
    "medium": Level(own_shapes=True, palettes=0, patterns=0, width=1.0),
    "hard": Level(
        sprites=(2, 3),
        own_shapes=True,
        palettes=0,
        patterns=0,
        colours=((20, 235),) * 4,
        width=1.0,
        light=(1.0, 1.0),
        shake=0.15,
        drift=0.25,
        noise=(2.0, 7.0),
        flicker=0.015,
    ),
}
"""Level by name. At plain, videos share their colours and their ground, so that little but motion tells one from
another. Networks were seen to learn plain, default and (with labels) medium; nothing is claimed for hard."""


@dataclass(frozen=True)
class Look:
    """What a video looks like, apart from where its sprites are.

    Attributes:
        palette: (4, 3) float64, grey levels: ground, second ground, sprite, second sprite colour.
        waves: (12, 4) float64, background waves: cycles across, cycles down, phase / 2 pi, height.
        shift: (2,) float64, where the background starts, as shares of the torus.
        shapes: per sprite, out of `SHAPES`.
        textures: per sprite, out of `TEXTURES`.
        drift: (2,) float64, camera speed, pixels a frame.
        noise: sigma, grey levels.
    """

    palette: np.ndarray
    waves: np.ndarray
    shift: np.ndarray
    shapes: tuple[str, ...]
    textures: tuple[str, ...]
    drift: np.ndarray
    noise: float


def stream(seed: int, *, split: str, number: int, purpose: str) -> np.random.Generator:
    """Generator of one purpose (``look``, ``motion``, ``noise``) of one video, independent of all others."""
    place = int.from_bytes(f"{split}/{purpose}".encode()[:16].ljust(16, b"\0"), "little")
    counter = np.array([0, number, place & 0xFFFFFFFFFFFFFFFF, place >> 64], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array([seed, 0x30710], dtype=np.uint64), counter=counter))


def draw_look(rng: np.random.Generator, level: Level, *, size: int) -> Look:
    """Draw the look of one video, with its number of sprites."""
    palettes, patterns = _stock(level)
    palette = palettes[rng.integers(len(palettes))] if palettes else _draw_palette(rng, level)
    waves = patterns[rng.integers(len(patterns))] if patterns else _draw_waves(rng)
    count = int(rng.integers(level.sprites[0], level.sprites[1] + 1))
    kinds = rng.integers((len(SHAPES), len(TEXTURES)), size=(count, 2))
    if not level.own_shapes:
        kinds[:] = kinds[0]
    direction = 2 * np.pi * rng.random()
    speed = level.drift * rng.random() * size / 64
    return Look(
        palette=palette,
        waves=waves,
        shift=rng.random(2) * level.shift,
        shapes=tuple(SHAPES[shape] for shape in kinds[:, 0]),
        textures=tuple(TEXTURES[texture] for texture in kinds[:, 1]),
        drift=speed * np.array([np.cos(direction), np.sin(direction)]),
        noise=float(rng.uniform(*level.noise)),
    )


@lru_cache(maxsize=8)
def _stock(level: Level) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The level's fixed palettes and patterns: the same in every set, so that sets of other seeds look alike."""
    rng = stream(0, split="", number=0, purpose="stock")
    return [_draw_palette(rng, level) for _ in range(level.palettes)], [_draw_waves(rng) for _ in range(level.patterns)]


def _draw_palette(rng: np.random.Generator, level: Level) -> np.ndarray:
    luminance = np.array([rng.uniform(low, high) for low, high in level.colours])
    tint = rng.uniform(-level.tint, level.tint, size=(len(level.colours), 3))
    return np.clip(luminance[:, None] + tint - (tint @ _LUMINANCE)[:, None], 0, 255)


def _draw_waves(rng: np.random.Generator) -> np.ndarray:
    across = rng.integers(0, _CYCLES + 1, size=_WAVES)
    down = rng.integers(-_CYCLES, _CYCLES + 1, size=_WAVES)
    down[(across == 0) & (down == 0)] = 1
    return np.stack([across, down, rng.random(_WAVES), rng.standard_normal(_WAVES)], axis=1)


def render(seed: int, *, split: str, number: int, motion: str, level: Level, size: int, num_frames: int) -> np.ndarray:
    """Frames of one video (T, S, S, 3) uint8 RGB, a pure function of the arguments."""
    look = draw_look(stream(seed, split=split, number=number, purpose="look"), level, size=size)
    moves = stream(seed, split=split, number=number, purpose="motion")
    draws = [draw_sprite(moves, size=size, num_frames=num_frames, width=level.width) for _ in look.shapes]
    noise = stream(seed, split=split, number=number, purpose="noise")
    camera = _camera_path(noise, look, level, size=size, num_frames=num_frames)
    frames = _background(look, camera, size)
    for draw, shape, texture in zip(draws, look.shapes, look.textures, strict=True):
        poses = sprite_poses(draw, motion, size=size, num_frames=num_frames)
        paint_sprite(frames, poses, camera, shape=shape, texture=texture, colours=look.palette[2:])
    return _exposed(noise, frames, look, level)


def _camera_path(rng: np.random.Generator, look: Look, level: Level, *, size: int, num_frames: int) -> np.ndarray:
    """Offset (T, 2) of the world in the picture, (x, y) pixels: steady drift and a random walk that returns."""
    steps = np.arange(num_frames)[:, None]
    walk = np.cumsum(rng.standard_normal((num_frames, 2)), axis=0) * level.shake * size / 64
    walk -= walk[0]
    return walk - walk[-1] * steps / max(1, num_frames - 1) + look.drift * steps


def _background(look: Look, camera: np.ndarray, size: int) -> np.ndarray:
    """The ground, (T, S, S, 3) float32: two colours mixed by a sum of waves that fit the torus."""
    across, down, phase, height = look.waves.T
    pixels = np.arange(size)
    x = pixels[None] - camera[:, :1] + look.shift[0] * size  # (T, S)
    y = pixels[None] - camera[:, 1:] + look.shift[1] * size
    columns = np.exp(2j * np.pi * across[:, None] * x[:, None] / size)  # (T, 12, S)
    rows = np.exp(2j * np.pi * (down[:, None] * y[:, None] / size + phase[:, None])) * height[:, None]
    waves = np.real(np.swapaxes(rows, 1, 2) @ columns) / np.sqrt((height**2).sum() / 2)  # (T, S, S), variance 1
    mix = np.clip(0.5 + _CONTRAST * waves, 0, 1).astype(np.float32)[..., None]
    ground, second = look.palette[:2].astype(np.float32)
    return ground + mix * (second - ground)


def _exposed(rng: np.random.Generator, frames: np.ndarray, look: Look, level: Level) -> np.ndarray:
    """Light from above, flicker, noise and rounding, (T, S, S, 3) uint8."""
    num_frames, size = frames.shape[:2]
    light = np.linspace(*level.light, size, dtype=np.float32)
    flicker = 1 + level.flicker * rng.standard_normal(num_frames, dtype=np.float32)
    frames *= light[:, None, None] * flicker[:, None, None, None]
    frames += look.noise * rng.standard_normal(frames.shape, dtype=np.float32)
    return np.clip(np.rint(frames, out=frames), 0, 255).astype(np.uint8)
