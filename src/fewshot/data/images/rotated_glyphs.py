"""Regression on images without a download: by which angle is a character turned? A task is one character."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.data.images.font_raster import FloatArray
from fewshot.data.images.glyphs import DRAWINGS, Glyphs, characters, class_name, draw, load_faces
from fewshot.data.source import ArraySpec, ImageClass
from fewshot.tasks.streams import stream_key, uniforms

LARGEST = np.pi / 4
"""Angle, radians: up to here even a cross, which a right angle maps to itself, shows by how much it is turned."""


class RotatedGlyphs(Glyphs):
    """Drawings of the embedded characters, each turned by an angle that is drawn uniformly from -45 to 45 degrees.

    The target is the angle, anticlockwise, as a share of 45 degrees. The scripts of training, validation and test are those
    of `Glyphs`. Rows have the column ``character``. Of a disc nobody can tell the angle, so that no model reaches zero.
    """

    name = "rotated_glyphs"
    y = ArraySpec((), "float32")

    def classes(self, split: str) -> list[ImageClass]:
        return []

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        return {"character": [class_name(character) for character, _ in characters(part) for _ in range(DRAWINGS)]}

    def read(self, part: str) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any] | None]]:
        faces = load_faces()
        for character, _ in characters(part):
            shares = shares_of(character)
            yield draw(character, faces, shares * LARGEST)[:, None], shares.astype(np.float32)


def shares_of(character: int) -> FloatArray:
    """The angle of each drawing of a character as a share of `LARGEST`, from -1 to 1."""
    shares: FloatArray = uniforms(stream_key("rotated_glyphs", character), [0], DRAWINGS)[0] * 2.0 - 1.0
    return shares
