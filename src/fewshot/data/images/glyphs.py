"""The embedded dataset: characters of many scripts, drawn in the fonts that matplotlib ships, distorted as handwriting varies.

1,119 classes of 20 drawings. The splits hold out whole scripts, so that a test task shows letters of an alphabet never seen:

- train: Latin (with its extensions and phonetic letters), digits, punctuation, arrows, mathematical and technical signs;
- val: Greek, miscellaneous symbols, number forms, currency signs;
- test: Cyrillic, Armenian, Georgian, geometric shapes.

No two classes look alike (`fewshot.data.images.lookalikes`); the surviving characters are listed in ``splits/glyphs.json``.
"""

import json
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.data.images.decode import decode, white_on_black
from fewshot.data.images.font_raster import Face, FloatArray, rasterize
from fewshot.data.source import ImageClass, ImageSource
from fewshot.tasks.streams import sample_without_replacement, stream_key, uniforms

FACES = tuple(
    [f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")]
    + [f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")]
)
SIZE = 28
"""Height and width of a drawing, pixels."""
DRAWINGS = 20
"""Drawings of each character."""

RADIUS = 9.5
"""Half the longer side of an undistorted character, pixels."""
STRETCH, SHEAR, SHIFT, BEND = 0.15, 0.12, 1.5, 0.1
"""Largest change of width or height, slant of an axis, shift in pixels, and elastic displacement as a share of `RADIUS`."""
GRID = 4
"""Elastic displacements are drawn on a grid of ``GRID x GRID`` points and interpolated smoothly between them."""


class Glyphs(ImageSource):
    """Characters in matplotlib's fonts: 28x28, white on black, no download."""

    name = "glyphs"
    version = 1
    image_shape = (1, SIZE, SIZE)
    group = "alphabet"

    def files(self, split: str) -> list[Path]:
        return [font_path(face) for face in FACES]

    def classes(self, split: str) -> list[ImageClass]:
        return [ImageClass(class_name(c), group, DRAWINGS) for c, group in characters(split)]

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        faces = load_faces()
        for character, _ in characters(split):
            yield draw(character, faces)[:, None]

    def pixels(self, data: bytes, origin: str) -> npt.NDArray[np.uint8]:
        return white_on_black(decode(data, "L", (SIZE, SIZE), origin))[None]


def font_path(face: str) -> Path:
    """Where matplotlib keeps a face."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"


@cache
def load_faces() -> tuple[Face, ...]:
    """All faces, opened once a process."""
    return tuple(Face(font_path(name)) for name in FACES)


def draw(character: int, faces: tuple[Face, ...], angles: FloatArray | None = None) -> npt.NDArray[np.uint8]:
    """A character's 20 drawings ``(20, 28, 28)``.

    Faces that have the character take turns in a shuffled order; every drawing has its own affine and elastic distortion.

    Args:
        character: its code point.
        faces: to draw it in.
        angles: that each drawing is turned by, anticlockwise, in radians ``(20,)``.
    """
    outlines = [outline for face in faces if (outline := outline_of(face, character)) is not None]
    key = stream_key("glyphs", character)
    order = sample_without_replacement(np.array([len(outlines)]), uniforms(key, [0], len(outlines)))[0]
    random = uniforms(key, range(1, DRAWINGS + 1), 6 + 2 * GRID * GRID) * 2.0 - 1.0
    shapes = [outlines[order[i % len(order)]] for i in range(DRAWINGS)]
    if angles is not None:
        shapes = [turned(shape, angle) for shape, angle in zip(shapes, angles, strict=True)]
    edges = [_distort(shape, numbers) for shape, numbers in zip(shapes, random, strict=True)]
    image = np.repeat(np.arange(DRAWINGS), [len(e) for e in edges])
    return rasterize(np.concatenate(edges), image, DRAWINGS, SIZE)


def outline_of(face: Face, character: int) -> FloatArray | None:
    """A character's edges, centred, its longer side from -1 to 1, y downward; None where the face cannot draw it."""
    outline = face.outline(character) if character in face.characters else None
    if outline is None:
        return None
    low, high = outline.min(axis=(0, 1)), outline.max(axis=(0, 1))
    centred: FloatArray = (outline - (low + high) * 0.5) * np.array([1.0, -1.0]) / ((high - low).max() * 0.5)
    return centred


def turned(outline: FloatArray, angle: float) -> FloatArray:
    """Edges turned anticlockwise about their centre; y points downward."""
    sine, cosine = np.sin(angle), np.cos(angle)
    rotated: FloatArray = outline @ np.array([[cosine, -sine], [sine, cosine]])
    return rotated


def _distort(outline: FloatArray, random: FloatArray) -> FloatArray:
    """Edges in pixels after a random affine and elastic distortion; `random` in [-1, 1)."""
    x, y = outline[:, :, 0], outline[:, :, 1]
    bend_x, bend_y = BEND * random[6:].reshape(2, GRID, GRID)
    bent_x, bent_y = x + _interpolate(bend_x, x, y), y + _interpolate(bend_y, x, y)
    new_x = bent_x * (1.0 + STRETCH * random[0]) + bent_y * (SHEAR * random[1])
    new_y = bent_x * (SHEAR * random[2]) + bent_y * (1.0 + STRETCH * random[3])
    centre = SIZE * 0.5
    return np.stack([new_x * RADIUS + (centre + SHIFT * random[4]), new_y * RADIUS + (centre + SHIFT * random[5])], axis=2)


def _interpolate(grid: FloatArray, x: FloatArray, y: FloatArray) -> FloatArray:
    """A smooth function with the values of `grid` at equidistant points of [-1, 1] x [-1, 1] (value noise, smoothstep)."""
    column, u = _cell(x)
    row, v = _cell(y)
    upper = grid[row, column] * (1.0 - u) + grid[row, column + 1] * u
    lower = grid[row + 1, column] * (1.0 - u) + grid[row + 1, column + 1] * u
    return upper * (1.0 - v) + lower * v


def _cell(position: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """The grid cell of a coordinate, and the smoothstep of the place within it."""
    scaled = (position + 1.0) * (0.5 * (GRID - 1))
    cell = np.clip(np.floor(scaled), 0, GRID - 2)
    t = scaled - cell
    return cell.astype(np.int64), t * t * (3.0 - 2.0 * t)


@cache
def characters(split: str) -> list[tuple[int, str]]:
    """Code point and script of each character of a split, sorted by class name."""
    text = (resources.files("fewshot.data.images") / "splits" / "glyphs.json").read_text("utf-8")
    return sorted((ord(c), script) for script, characters in json.loads(text)[split].items() for c in characters)


def class_name(character: int) -> str:
    """The class name, as in ``U+0041``; of one width up to U+FFFF, so sorting names sorts characters."""
    return f"U+{character:04X}"
