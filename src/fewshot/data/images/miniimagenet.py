"""mini-ImageNet: 100 classes of 600 images, 84x84, split 64/16/20 (Vinyals et al. 2016; Ravi & Larochelle 2017)."""

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.data.files.archives import decode, open_zip, read_member
from fewshot.data.files.download import download, fetch_json
from fewshot.data.files.pickles import load_pickle
from fewshot.data.source import SPLITS, ImageClass, ImageSource
from fewshot.errors import UserError

RECORD = "https://zenodo.org/api/records/7978538"
SIZE = 84
IMAGES_PER_CLASS = 600


class MiniImageNet(ImageSource):
    """mini-ImageNet in the split of Ravi & Larochelle, from the forms that people have.

    - ``train.csv``, ``val.csv``, ``test.csv`` (``filename,label``) with the JPEGs in ``images/`` or inside zip archives;
    - the pickles ``mini-imagenet-cache-{train,val,test}.pkl`` (``image_data``, ``class_dict``), which are downloaded where
      neither form is found.

    Args:
        data_dir: holds these files, directly or in ``miniimagenet/``.
    """

    name = "miniimagenet-ravi"
    version = 1
    image_shape = (3, SIZE, SIZE)

    def __init__(self, data_dir: str) -> None:
        self._root = Path(data_dir)
        self._folder = next((f for f in (self._root / "miniimagenet", self._root) if _holds_data(f)), None)

    def obtain(self) -> None:
        if self._folder is None:
            self._folder = self._root / "miniimagenet"
            _download_pickles(self._folder)

    def files(self, split: str) -> list[Path]:
        return self._form.files(split)

    def classes(self, split: str) -> list[ImageClass]:
        sizes = self._form.sizes(split)
        text = (resources.files("fewshot.data.images") / "splits" / "miniimagenet_ravi.json").read_text("utf-8")
        expected = sorted(json.loads(text)[split])
        if sorted(sizes) != expected:
            first = min(set(sizes).symmetric_difference(expected))
            raise UserError(
                f"the {split} classes in {self._folder} are not those of Ravi & Larochelle (first difference: {first}); "
                f"replace the files of the {split} split"
            )
        for label, size in sizes.items():
            if size != IMAGES_PER_CLASS:
                raise UserError(
                    f"{self._folder} lists {size} images of {split} class {label} instead of {IMAGES_PER_CLASS}; "
                    f"replace the files of the {split} split"
                )
        return [ImageClass(label, "imagenet", sizes[label]) for label in expected]

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        for label in sorted(self._form.sizes(split)):
            yield np.ascontiguousarray(self._form.images(split, label).transpose(0, 3, 1, 2))

    @cached_property
    def _form(self) -> "_Form":
        if self._folder is None:
            raise UserError(
                f"paths.data_dir={self._root} holds no mini-ImageNet; put train.csv, val.csv, test.csv and the images "
                "(a folder images/, or zip archives) there or in its miniimagenet/"
            )
        return _Jpegs(self._folder) if (self._folder / "train.csv").is_file() else _Pickles(self._folder)


class _Form(ABC):
    """One of the forms in which people have the data set."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @abstractmethod
    def files(self, split: str) -> list[Path]:
        """The files that a split is made from."""

    @abstractmethod
    def sizes(self, split: str) -> dict[str, int]:
        """Label -> number of images."""

    @abstractmethod
    def images(self, split: str, label: str) -> npt.NDArray[np.uint8]:
        """A class's images ``(size, H, W, 3)``."""


class _Jpegs(_Form):
    """csv files, and JPEGs in a folder or in zip archives."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._listed: dict[str, dict[str, list[str]]] = {}

    def files(self, split: str) -> list[Path]:
        self._complete(split)
        names = [name for listed in self._list(split).values() for name in listed]
        return [self._folder / f"{split}.csv", *sorted({self._index[name][0] for name in names})]

    def sizes(self, split: str) -> dict[str, int]:
        self._complete(split)
        return {label: len(names) for label, names in self._list(split).items()}

    def images(self, split: str, label: str) -> npt.NDArray[np.uint8]:
        names = self._list(split)[label]
        data = [self._read(name) for name in names]
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
            decoded = pool.map(lambda item: decode(item[1], "RGB", (SIZE, SIZE), item[0]), zip(names, data, strict=True))
            return np.stack(list(decoded))

    def _list(self, split: str) -> dict[str, list[str]]:
        if split not in self._listed:
            self._listed[split] = _read_csv(self._folder / f"{split}.csv")
        return self._listed[split]

    @cached_property
    def _index(self) -> dict[str, tuple[Path, str | None]]:
        """File name -> the file itself, or the archive that holds it and its name there."""
        index: dict[str, tuple[Path, str | None]] = {}
        for archive in sorted(self._folder.glob("*.zip")):
            members = (member for member in open_zip(archive).namelist() if not member.endswith("/"))
            index.update({Path(member).name: (archive, member) for member in members})
        images = self._folder / "images"
        if images.is_dir():
            index.update({path.name: (path, None) for path in images.iterdir()})
        return index

    def _complete(self, split: str) -> None:
        names = [name for listed in self._list(split).values() for name in listed]
        missing = [name for name in names if name not in self._index]
        if missing:
            skip = " or run with test=false, which needs no test images" if split == "test" else ""
            raise UserError(
                f"{self._folder} lacks {len(missing)} of the {len(names)} images of the {split} split (first: {missing[0]}); "
                f"put them into {self._folder / 'images'} or a zip archive beside {split}.csv,"
                f"{skip or ' or set paths.data_dir'}"
            )

    def _read(self, name: str) -> bytes:
        path, member = self._index[name]
        try:
            return read_member(path, member) if member else path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}); replace the file") from error


class _Pickles(_Form):
    """``mini-imagenet-cache-<split>.pkl``; the last one read is kept, as its size (up to 0.8 GB) forbids keeping all."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._read: tuple[str, npt.NDArray[np.uint8], dict[str, list[int]]] | None = None

    def files(self, split: str) -> list[Path]:
        path = _pickle(self._folder, split)
        if not path.is_file():
            skip = " or run with test=false" if split == "test" else ""
            raise UserError(f"{path} is missing; put it there, delete the others to download all{skip}")
        return [path]

    def sizes(self, split: str) -> dict[str, int]:
        return {label: len(rows) for label, rows in self._load(split)[1].items()}

    def images(self, split: str, label: str) -> npt.NDArray[np.uint8]:
        data, rows = self._load(split)
        images: npt.NDArray[np.uint8] = data[rows[label]]
        return images

    def _load(self, split: str) -> tuple[npt.NDArray[np.uint8], dict[str, list[int]]]:
        if self._read is None or self._read[0] != split:
            (path,) = self.files(split)
            self._read = (split, *_check_pickle(path, load_pickle(path)))
        return self._read[1], self._read[2]


def _holds_data(folder: Path) -> bool:
    return (folder / "train.csv").is_file() or any(_pickle(folder, split).is_file() for split in SPLITS)


def _pickle(folder: Path, split: str) -> Path:
    """A split's pickle; the published record calls the validation file by its full name."""
    full = folder / f"mini-imagenet-cache-{'validation' if split == 'val' else split}.pkl"
    return full if full.is_file() else folder / f"mini-imagenet-cache-{split}.pkl"


def _check_pickle(path: Path, content: Any) -> tuple[npt.NDArray[np.uint8], dict[str, list[int]]]:
    """The images ``(n, H, W, 3)`` and each label's rows."""
    data = content.get("image_data") if isinstance(content, dict) else None
    rows = content.get("class_dict") if isinstance(content, dict) else None
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (SIZE, SIZE, 3):
        raise UserError(f"{path} has no image_data of uint8 (n, {SIZE}, {SIZE}, 3); download it again")
    if (
        not isinstance(rows, dict)
        or not rows
        or not all(isinstance(label, str) and _are_rows(part) for label, part in rows.items())
    ):
        raise UserError(f"{path} has no class_dict of labels and rows; download it again")
    every = np.concatenate([np.asarray(part) for part in rows.values()])
    if len(np.unique(every)) != len(every) or every.min() < 0 or every.max() >= len(data):
        raise UserError(f"{path}: class_dict does not give each image one class; download it again")
    return data, rows


def _are_rows(part: Any) -> bool:
    """Whether a label's entry is a list of whole numbers."""
    if not isinstance(part, list | range | np.ndarray) or not len(part):
        return False
    try:
        numbers = np.asarray(part)
    except ValueError:  # ragged
        return False
    return numbers.ndim == 1 and np.issubdtype(numbers.dtype, np.integer)


def _read_csv(path: Path) -> dict[str, list[str]]:
    """Label -> file names."""
    listed: dict[str, list[str]] = {}
    known: set[str] = set()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if not {"filename", "label"} <= set(rows.fieldnames or ()):
                raise UserError(f"{path} has no header 'filename,label'; replace the file")
            for row in rows:
                name, label = row["filename"], row["label"]
                if not name or not label or Path(name).name != name:
                    raise UserError(f"{path}, line {rows.line_num}: '{name},{label}' is no image and label; replace the file")
                if name in known:
                    raise UserError(f"{path}, line {rows.line_num}: {name} is listed twice; replace the file")
                known.add(name)
                listed.setdefault(label, []).append(name)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; put it there") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); replace the file") from error
    return listed


def _download_pickles(folder: Path) -> None:
    """All three pickles, each checked against the checksum that the record publishes."""
    remedy = (
        "put train.csv, val.csv, test.csv and the images, or mini-imagenet-cache-{train,val,test}.pkl, into "
        f"{folder}, or set paths.data_dir=FOLDER where they are"
    )
    record = fetch_json(RECORD, f"{folder} holds no mini-ImageNet: {remedy}")
    for split in ("train", "validation", "test"):
        name = f"mini-imagenet-cache-{split}.pkl"
        try:
            (entry,) = (file for file in record["files"] if file["key"] == name)
            url, checksum = str(entry["links"]["self"]), str(entry["checksum"])
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"{RECORD} no longer lists {name} as it did; {remedy}") from error
        if not checksum.startswith("md5:"):
            raise UserError(f"{RECORD} publishes no md5 for {name}; {remedy}")
        download(url, folder / name, checksum.removeprefix("md5:"), remedy)
