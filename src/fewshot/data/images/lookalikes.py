"""Which characters become classes of `glyphs`: each common to many faces, none looking like another.

Writes ``splits/glyphs.json``; a test holds the file against this code::

    python -m fewshot.data.images.lookalikes
"""

import json
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np

from fewshot.data.images.font_raster import Face, FloatArray, rasterize
from fewshot.data.images.glyphs import DRAWINGS, FACES, SIZE, load_faces, outline_of

LETTERS_AND_SIGNS = ("Ll", "Lu", "Lt", "Lo", "Nd", "No", "Po", "Sm", "So", "Sc")
"""Unicode categories admitted. Modifier letters (Lm) are small copies of others; combining marks draw nothing alone."""
LEFT_OUT = (range(0x2500, 0x25A0), range(0xFFF0, 0x10000))
"""Box drawing and block elements differ by line weight only; Specials hold the replacement characters."""
FACES_NEEDED = 12

SAME_SHAPE = 0.065
"""Two drawings are alike where |a - b|^2 <= SAME_SHAPE * (|a|^2 + |b|^2), both stretched to one square ..."""
SAME_ASPECT = 1.6
"""... and their ratios of width to height differ by less than this factor: distortion stretches each axis by up to 1.2."""
FACES_ALIKE = 3
"""Characters are alike where that holds in as many of the faces common to most characters (the first 12)."""
LEVELS = 16
"""Grey levels compared: squares of 4-bit numbers sum exactly in float32, so every machine decides alike."""

SCRIPTS = (  # range of code points, script or kind of sign, split
    (range(0x0370, 0x0400), "greek", "val"),
    (range(0x0400, 0x0530), "cyrillic", "test"),
    (range(0x0530, 0x0590), "armenian", "test"),
    (range(0x10A0, 0x1100), "georgian", "test"),
    (range(0x1F00, 0x2000), "greek", "val"),
    (range(0x20A0, 0x20D0), "currency", "val"),
    (range(0x2150, 0x2190), "numbers", "val"),
    (range(0x2190, 0x2200), "arrows", "train"),
    (range(0x2200, 0x2300), "mathematics", "train"),
    (range(0x25A0, 0x2600), "shapes", "test"),
    (range(0x2600, 0x2700), "symbols", "val"),
)


def script_of(character: int) -> tuple[str, str]:
    """Script (or kind of sign) and split of a character."""
    for codes, script, split in SCRIPTS:
        if character in codes:
            return script, split
    return ("latin" if unicodedata.name(chr(character)).startswith("LATIN") else "signs"), "train"


def candidates(faces: tuple[Face, ...]) -> list[int]:
    """Characters of the admitted kinds that enough faces can draw."""
    count = Counter(character for face in faces for character in face.characters)
    return sorted(
        character
        for character, drawn in count.items()
        if drawn >= FACES_NEEDED
        and unicodedata.category(chr(character)) in LETTERS_AND_SIGNS
        and not any(character in block for block in LEFT_OUT)
    )


def alike(characters: list[int], faces: tuple[Face, ...]) -> np.ndarray:
    """``(characters, characters)`` bool: which pairs look alike."""
    votes = np.zeros((len(characters), len(characters)), dtype=np.int64)
    for face in faces[:FACES_NEEDED]:
        shape, aspect = _shapes(characters, face)
        square = (shape * shape).sum(axis=1)
        total = square[:, None] + square
        distance = total - 2 * shape @ shape.T
        ratio = aspect[:, None] / aspect
        drawn = square > 0
        votes += (distance <= SAME_SHAPE * total) & (np.maximum(ratio, 1 / ratio) < SAME_ASPECT) & drawn[:, None] & drawn
    return votes >= FACES_ALIKE


def _shapes(characters: list[int], face: Face) -> tuple[np.ndarray, FloatArray]:
    """Undistorted drawings stretched to one square ``(characters, pixels)``, 0 to 15; width over height ``(characters,)``."""
    shapes = np.zeros((len(characters), SIZE * SIZE), dtype=np.float32)
    aspect = np.ones(len(characters))
    for row, character in enumerate(characters):
        outline = outline_of(face, character)
        if outline is None:
            continue
        extent = np.maximum(outline.max(axis=(0, 1)), 2.0**-9)
        aspect[row] = extent[0] / extent[1]
        edges = outline / extent * (SIZE * 0.5 - 2.0) + SIZE * 0.5
        image = rasterize(edges, np.zeros(len(edges), dtype=np.int64), 1, SIZE)
        shapes[row] = image.reshape(-1) // (256 // LEVELS)
    return shapes, aspect


def distinct(characters: list[int], faces: tuple[Face, ...]) -> list[int]:
    """Keeps a character, in the order of code points, unless it looks like one already kept."""
    look_alike = alike(characters, faces)
    kept: list[int] = []
    for row in range(len(characters)):
        if not look_alike[row, kept].any():
            kept.append(row)
    return [characters[row] for row in kept]


def splits() -> dict[str, dict[str, str]]:
    """Split -> script -> its characters."""
    faces = load_faces()
    chosen: dict[str, dict[str, str]] = {"train": {}, "val": {}, "test": {}}
    for character in distinct(candidates(faces), faces):
        script, split = script_of(character)
        chosen[split][script] = chosen[split].get(script, "") + chr(character)
    return chosen


if __name__ == "__main__":
    result = splits()
    path = Path(__file__).parent / "splits" / "glyphs.json"
    path.write_text(json.dumps(result, ensure_ascii=False, indent=1) + "\n", "utf-8")
    for split, scripts in result.items():
        print(split, sum(map(len, scripts.values())), {script: len(text) for script, text in scripts.items()})
    print(f"{DRAWINGS} drawings each in {len(FACES)} faces -> {path}")
