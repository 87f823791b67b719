"""What tests of the data share: refusals, tiny archives in the layouts of Omniglot and mini-ImageNet, and a slow source."""

import csv
import io
import os
import pickle
import struct
import tarfile
import time
import zipfile
import zlib
from importlib import resources
from json import loads
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot.data.content import Content
from fewshot.data.datamodule import EpisodicDataModule
from fewshot.data.prepared import PreparedSplit
from fewshot.data.source import SPLITS, ImageClass
from fewshot.errors import UserError
from tests.toy import EvalTasks, Toy, parts


def refusal(function, *arguments, **keywords) -> str:
    """The message of the UserError that a call raises, which must be one line."""
    with pytest.raises(UserError) as caught:
        function(*arguments, **keywords)
    message = str(caught.value)
    assert message.splitlines() == [message]
    return message


def silent(message: str) -> None:
    """Nobody to tell."""


def unfolding(depth: int = 22) -> list:
    """A list of lists of one list, and so on: some hundred bytes as a pickle, millions of numbers for NumPy."""
    found: list = [0] * 2
    for _ in range(depth):
        found = [found] * 2
    return found


def image_bytes(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that promises a size and brings no pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def write_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    """Compressed as its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, {".tar": "w", ".bz2": "w:bz2"}.get(path.suffix, "w:gz")) as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def split_list(name: str) -> dict[str, list[str]]:
    return loads((resources.files("fewshot.data.images") / "splits" / f"{name}.json").read_text("utf-8"))


def class_rows(split: PreparedSplit | Content, ids) -> np.ndarray:
    """The class numbers that rows of a split belong to."""
    return split.table.columns["class"].values[np.asarray(ids)]


# Omniglot


def drawing(number: int) -> np.ndarray:
    """A 105x105 picture as upstream has them: black ink (False) on white, here a bar whose place depends on `number`."""
    paper = np.ones((105, 105), dtype=bool)
    paper[10 : 40 + number % 7 * 5, 20 : 30 + number % 11 * 3] = False
    return paper


def omniglot_members(archive: str, characters: list[str], drawings: int = 20) -> dict[str, bytes]:
    pictures = [image_bytes(drawing(i)) for i in range(77)]
    return {
        f"{archive}/{character}/{1000 + row:04d}_{i + 1:02d}.png": pictures[(row + i) % 77]
        for row, character in enumerate(characters)
        for i in range(drawings)
    }


LAKE_BACKGROUND = {f"Back{letter}": 4 for letter in "ABCDEFGH"}
LAKE_EVALUATION = {"EvalA": 6, "EvalB": 5, "EvalC": 2}


def characters_of(alphabets: dict[str, int]) -> list[str]:
    return [f"{alphabet}/character{i + 1:02d}" for alphabet, count in alphabets.items() for i in range(count)]


def write_small_omniglot(folder: Path) -> Path:
    """Eight background alphabets of 4 characters; evaluation alphabets of 6, 5 and 2."""
    for archive, alphabets in (("images_background", LAKE_BACKGROUND), ("images_evaluation", LAKE_EVALUATION)):
        write_zip(folder / "omniglot" / f"{archive}.zip", omniglot_members(archive, characters_of(alphabets)))
    return folder


# mini-ImageNet


def photo(number: int) -> np.ndarray:
    """An 84x84 colour picture."""
    return np.random.Generator(np.random.PCG64(number)).integers(0, 256, (84, 84, 3), dtype=np.uint8)


PHOTOS = 7


def photo_names(split: str, images: int = 600) -> list[tuple[str, str]]:
    """File name and label of every image of a split."""
    labels = split_list("miniimagenet_ravi")[split]
    return [(f"{label}{i:08d}.jpg", label) for label in sorted(labels) for i in range(images)]


def write_csv(path: Path, rows: list[tuple[str, str]], header: tuple[str, ...] = ("filename", "label")) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def write_photo_zip(path: Path, rows: list[tuple[str, str]]) -> None:
    """The pictures take turns; PNG under a JPEG's name, so that every form has the same pixels."""
    encoded = [image_bytes(photo(i)) for i in range(PHOTOS)]
    write_zip(path, {f"images/{name}": encoded[i % PHOTOS] for i, (name, _) in enumerate(rows)})


def write_photo_folder(folder: Path, rows: list[tuple[str, str]]) -> None:
    folder.mkdir(parents=True)
    originals = [folder.parent / f"photo{i}.png" for i in range(PHOTOS)]
    for i, path in enumerate(originals):
        path.write_bytes(image_bytes(photo(i)))
    for i, (name, _) in enumerate(rows):
        os.link(originals[i % PHOTOS], folder / name)


def write_photo_pickle(path: Path, rows: list[tuple[str, str]]) -> None:
    pictures = np.stack([photo(i) for i in range(PHOTOS)])
    by_label: dict[str, list[int]] = {}
    for i, (_, label) in enumerate(rows):
        by_label.setdefault(label, []).append(i)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        pickle.dump({"image_data": pictures[np.arange(len(rows)) % PHOTOS], "class_dict": by_label}, file, protocol=4)


# Sources and modules


def data_module(source, cache_dir, **changes) -> EpisodicDataModule:
    """A data module over any source, of 5-way 1-shot tasks unless told otherwise."""
    channels = source.image_shape[0]
    arguments = {"mean": [0.0] * channels, "std": [1.0] * channels, "ways": 5, "shots": 1, "queries": 15}
    arguments |= {"eval": EvalTasks(5, 1, 15), "meta_batch_size": 4, "val_tasks": 1, "test_tasks": 1, "seed": 0}
    arguments |= {"source": source, "cache_dir": str(cache_dir), "image_shape": source.image_shape}
    return EpisodicDataModule(**parts(arguments | changes))


class CountedToy(Toy):
    """Counts how often its images are asked for."""

    def __init__(self, *arguments, **keywords) -> None:
        super().__init__(*arguments, **keywords)
        self.made = 0

    def images(self, split):
        self.made += 1
        return super().images(split)


class HeldToy(Toy):
    """Stops after its first class until a file `go` appears; notes in `folder` each time that its images are asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._notes = folder

    def images(self, split):
        images = super().images(split)
        yield next(images)
        (self._notes / f"begun-{os.getpid()}").touch()
        while not (self._notes / "go").exists():
            time.sleep(0.01)
        yield from images


class Uneven(Toy):
    """Classes of 8, 9, ... images, in groups of uneven size."""

    def classes(self, split):
        return [ImageClass(f"{split}{i:03d}", "large" if i < 6 else f"small{i // 2}", 8 + i) for i in range(self._classes)]

    def images(self, split):
        for number, entry in enumerate(self.classes(split), start=100 * SPLITS.index(split)):
            yield np.full((entry.size, *self.image_shape), number, dtype=np.uint8)
