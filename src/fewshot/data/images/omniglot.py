"""Omniglot: 1,623 characters of 50 alphabets, each drawn by 20 people (Lake et al. 2015)."""

import json
from collections.abc import Iterator
from functools import cached_property
from importlib import resources
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fewshot.data.catalogue import facts
from fewshot.data.files.archives import members, read_member
from fewshot.data.files.download import download
from fewshot.data.images.decode import decode, white_on_black
from fewshot.data.source import ImageClass, ImageSource
from fewshot.errors import UserError, check_int, suggest

ARCHIVES = ("images_background", "images_evaluation")
SIZE = 28
DRAWINGS = 20
PARTITIONS = ("vinyals", "lake", "meta_dataset")
LAKE_VALIDATION_STRIDE = 6
"""Lake et al. name no validation set: every sixth background alphabet, in alphabetical order, serves as one."""
META_DATASET_VALIDATION = {
    "Alphabet_of_the_Magi",
    "Blackfoot_(Canadian_Aboriginal_Syllabics)",
    "Inuktitut_(Canadian_Aboriginal_Syllabics)",
    "Ojibwe_(Canadian_Aboriginal_Syllabics)",
    "Tagalog",
}
"""The five background alphabets with the fewest characters (Triantafillou et al. 2020)."""


class Omniglot(ImageSource):
    """Omniglot's drawings as grey images, white ink on black.

    Args:
        data_dir: holds ``images_background.zip`` and ``images_evaluation.zip``, directly or in ``omniglot/``.
        partition: ``vinyals`` (Vinyals et al. 2016: 1,028 / 172 / 423 characters, mixed over alphabets) or ``lake`` (background
            alphabets for train and val, evaluation alphabets for test) or ``meta_dataset`` (the same with other ones for val).
        rotations: training characters turned by 90, 180 and 270 degrees are classes of their own (Santoro et al. 2016).
            Validation and test characters stay upright.
        allow_partial: accept fewer characters and drawings.
        size: of an image, pixels.
    """

    group = "alphabet"
    version = 1

    def __init__(
        self,
        data_dir: str,
        partition: str = "vinyals",
        rotations: bool = True,
        allow_partial: bool = False,
        size: int = SIZE,
    ) -> None:
        if partition not in PARTITIONS:
            raise UserError(f"data.source.partition={partition} is unknown{suggest(partition, PARTITIONS)}")
        self._root = Path(data_dir)
        self._partition = partition
        self._rotations = rotations
        self._allow_partial = allow_partial
        check_int("data.source.size", size, least=1)
        self.image_shape = (1, size, size)
        self.name = f"omniglot-{partition}" + "-rotations" * rotations + "-partial" * allow_partial
        self.name += f"-{size}" * (size != SIZE)

    @property
    def arguments(self) -> dict[str, str]:
        """Without the size, which the shape says: files that were prepared before there was a choice remain."""
        return {key: value for key, value in super().arguments.items() if key != "size"}

    def obtain(self) -> None:
        for archive, file in zip(ARCHIVES, facts("omniglot").files, strict=True):
            if self._find(archive) is None:
                target = self._root / "omniglot" / f"{archive}.zip"
                remedy = f"put {archive}.zip into {target.parent}, or set paths.data_dir=FOLDER where it is"
                download(file.urls, target, file.md5, remedy)

    def original(self, name: str) -> str:
        return f"{name.rpartition('/')[0]}/rot000"

    def files(self, split: str) -> list[Path]:
        return [path for path, _ in self._located]

    def classes(self, split: str) -> list[ImageClass]:
        if not self._allow_partial:
            self._complete(split)
        return [
            ImageClass(f"{character}/rot{90 * turn:03d}", character.split("/")[0], len(self._index[character][1]))
            for character in self._characters(split)
            for turn in self._turns(split)
        ]

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        for character in self._characters(split):
            path, names = self._index[character]
            drawings = [255 - decode(read_member(path, name), "L", self.image_shape[1:], f"{path}: {name}") for name in names]
            upright = np.stack(drawings)[:, None]
            for turn in self._turns(split):
                yield np.ascontiguousarray(np.rot90(upright, turn, axes=(2, 3)))

    def pixels(self, data: bytes, origin: str) -> npt.NDArray[np.uint8]:
        return white_on_black(decode(data, "L", self.image_shape[1:], origin))[None]

    def _turns(self, split: str) -> range:
        return range(4 if self._rotations and split == "train" else 1)

    def _find(self, archive: str) -> Path | None:
        places = (self._root / "omniglot" / f"{archive}.zip", self._root / f"{archive}.zip")
        return next((path for path in places if path.is_file()), None)

    @cached_property
    def _located(self) -> list[tuple[Path, str]]:
        located = [(self._find(archive), archive) for archive in ARCHIVES]
        missing = [f"{archive}.zip" for path, archive in located if path is None]
        if missing:
            raise UserError(f"paths.data_dir={self._root} lacks {', '.join(missing)}; put the files there or in its omniglot/")
        return [(path, archive) for path, archive in located if path is not None]

    @cached_property
    def _index(self) -> dict[str, tuple[Path, list[str]]]:
        """``Alphabet/characterNN`` -> its archive and its drawings' members, in the order of the artists."""
        index: dict[str, tuple[Path, list[str]]] = {}
        for path, archive in self._located:
            for member in sorted(members(path)):
                parts = member.split("/")
                if len(parts) == 4 and parts[0] == archive and member.endswith(".png"):
                    index.setdefault(f"{parts[1]}/{parts[2]}", (path, []))[1].append(member)
        return index

    def _characters(self, split: str) -> list[str]:
        if self._partition == "vinyals":
            text = (resources.files("fewshot.data.images") / "splits" / "omniglot_vinyals.json").read_text("utf-8")
            listed = json.loads(text)[split]
            return sorted(name for name in listed if name in self._index or not self._allow_partial)
        background = self._located[0][0]
        alphabets = sorted({name.split("/")[0] for name, (path, _) in self._index.items() if path == background})
        validation = set(alphabets[::LAKE_VALIDATION_STRIDE]) if self._partition == "lake" else META_DATASET_VALIDATION

        def split_of(character: str) -> str:
            if self._index[character][0] != background:
                return "test"
            return "val" if character.split("/")[0] in validation else "train"

        return sorted(character for character in self._index if split_of(character) == split)

    def _complete(self, split: str) -> None:
        for character in self._characters(split):
            path, names = self._index.get(character, (self._root, []))
            if len(names) != DRAWINGS:
                raise UserError(
                    f"{path} has {len(names)} drawings of {character} instead of {DRAWINGS}; "
                    f"delete {', '.join(path.name for path, _ in self._located)} and run again to download them, or accept "
                    "fewer with data.allow_partial=true"
                )
