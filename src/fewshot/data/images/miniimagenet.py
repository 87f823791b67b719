"""mini-ImageNet: 100 classes of 600 images, 84x84, split 64/16/20 (Vinyals et al. 2016; Ravi & Larochelle 2017)."""

import csv
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from fewshot.data.files.archives import members
from fewshot.data.files.download import download, fetch_json
from fewshot.data.files.pickles import load_dict
from fewshot.data.files.places import Place, all_places
from fewshot.data.files.stored import whole_numbers
from fewshot.data.images.class_trees import in_class_folders, split_folder
from fewshot.data.images.decode import decode
from fewshot.data.images.imagenet_names import wnid_of
from fewshot.data.images.listed import PlacedImage
from fewshot.data.published import published_classes
from fewshot.data.source import SPLITS, ImageClass, ImageSource, require
from fewshot.errors import UserError

RECORD = "https://zenodo.org/api/records/7978538"
SIZE = 84
IMAGES_PER_CLASS = 600
OWN_FOLDERS = ("miniimagenet", "mini-imagenet", "mini_imagenet", "miniImageNet", "mini-ImageNet", "miniImageNet--ravi")
"""What the dataset's folder is called in `data_dir`."""


FILES = (
    "train.csv, val.csv, test.csv and the images (a folder images/, or zip archives), a folder of JPEGs for each class, or "
    "mini-imagenet-cache-{train,val,test}.pkl"
)
"""The forms of the dataset, in a refusal."""


class MiniImageNet(ImageSource):
    """mini-ImageNet in the split of Ravi & Larochelle, from the forms that people have.

    - ``train.csv``, ``val.csv``, ``test.csv`` (``filename,label``) with the JPEGs inside zip archives or in ``images/``, which
      comes first, in folders or not;
    - a folder of JPEGs for each class, called by WordNet id or name, or JPEGs whose names begin with the id, as ILSVRC's do;
      perhaps in ``train/``, ``val/``, ``test/``, in zip archives or not;
    - the pickles ``mini-imagenet-cache-{train,val,test}.pkl`` (``image_data``, ``class_dict``), which are downloaded where
      no form is found.

    Args:
        data_dir: holds these files, directly or in ``miniimagenet/`` or ``mini-imagenet/``.
        allow_partial: accept fewer classes and images.
    """

    version = 1
    image_shape = (3, SIZE, SIZE)

    def __init__(self, data_dir: str, allow_partial: bool = False) -> None:
        self.name = "miniimagenet-ravi" + ("-partial" if allow_partial else "")
        self._allow_partial = allow_partial
        self._root = Path(data_dir)
        folders = [folder for folder in (*(self._root / name for name in OWN_FOLDERS), self._root) if folder.is_dir()]
        self._folder = next((folder for folder in folders if any(form.is_in(folder) for form in FORMS)), None)

    def obtain(self) -> None:
        if self._folder is None:
            self._folder = self._root / "miniimagenet"
            _download_pickles(self._folder)

    def files(self, split: str) -> list[Path]:
        return self._form.files(split)

    def classes(self, split: str) -> list[ImageClass]:
        sizes = self._form.sizes(split)
        expected = list(_labels()[split])
        if self._allow_partial:
            expected = [label for label in expected if label in sizes]
        if sorted(sizes) != expected:
            first = min(set(sizes).symmetric_difference(expected))
            raise UserError(
                f"the {split} classes in {self._folder} are not those of Ravi & Larochelle (first difference: {first}); "
                f"replace the files of the {split} split"
            )
        for label, size in sizes.items():
            if size != IMAGES_PER_CLASS and not self._allow_partial:
                raise UserError(
                    f"{self._folder} lists {size} images of {split} class {label} instead of {IMAGES_PER_CLASS}; "
                    f"replace the files of the {split} split, or accept fewer with data.allow_partial=true"
                )
        return [ImageClass(label, "imagenet", sizes[label]) for label in expected]

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        for label in sorted(self._form.sizes(split)):
            yield np.ascontiguousarray(self._form.images(split, label).transpose(0, 3, 1, 2))

    @cached_property
    def _form(self) -> "_Form":
        if self._folder is None:
            raise UserError(f"paths.data_dir={self._root} holds no mini-ImageNet; put {FILES}, there or in its miniimagenet/")
        return next(form for form in FORMS if form.is_in(self._folder))(self._folder, self._allow_partial)


class _Form(ABC):
    """One of the forms in which people have the dataset."""

    def __init__(self, folder: Path, allow_partial: bool) -> None:
        self._folder, self._allow_partial = folder, allow_partial

    @staticmethod
    @abstractmethod
    def is_in(folder: Path) -> bool:
        """Whether a folder holds a split of this form."""

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
    """JPEGs, however they are listed and kept."""

    @abstractmethod
    def places(self, split: str) -> dict[str, list[Place]]:
        """Label -> its images."""

    def sizes(self, split: str) -> dict[str, int]:
        return {label: len(places) for label, places in self.places(split).items()}

    def images(self, split: str, label: str) -> npt.NDArray[np.uint8]:
        places = self.places(split)[label]
        data = [place.read() for place in places]
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
            decoded = pool.map(lambda item: decode(item[1], "RGB", (SIZE, SIZE), str(item[0])), zip(places, data, strict=True))
            return np.stack(list(decoded))


class _Listed(_Jpegs):
    """csv files, and JPEGs in ``images/``, which come first, or in zip archives."""

    def __init__(self, folder: Path, allow_partial: bool) -> None:
        super().__init__(folder, allow_partial)
        self._found: dict[str, dict[str, list[Place]]] = {}
        self._broken: list[UserError] = []

    @staticmethod
    def is_in(folder: Path) -> bool:
        return any((folder / f"{split}.csv").is_file() for split in SPLITS)

    def files(self, split: str) -> list[Path]:
        used = {place.path for places in self.places(split).values() for place in places}
        return [self._folder / f"{split}.csv", *sorted(used)]

    def places(self, split: str) -> dict[str, list[Place]]:
        if split not in self._found:
            self._found[split] = self._locate(split)
        return self._found[split]

    def _locate(self, split: str) -> dict[str, list[Place]]:
        listed = _read_csv(self._folder / f"{split}.csv")
        places: dict[str, list[Place]] = {label: [] for label in listed}
        known: dict[Place, str] = {}
        missing = []
        for name, label in ((name, label) for label, names in listed.items() for name in names):
            place = self._find(name, label)
            if place is None:
                missing.append(name)
            elif known.setdefault(place, name) != name:
                raise UserError(f"{self._folder / f'{split}.csv'}: {name} and {known[place]} are one image; replace the file")
            else:
                places[label].append(place)
        if self._allow_partial and known:
            return {label: found for label, found in places.items() if found}
        if missing and self._broken:
            raise self._broken[0]
        if missing:
            skip = " or run with test=false, which needs no test images" if split == "test" else ""
            raise UserError(
                f"{self._folder} lacks {len(missing)} of the {len(missing) + len(known)} images of the {split} split "
                f"(first: {missing[0]}); put them into {self._folder / 'images'} or a zip archive beside {split}.csv,"
                f"{skip or ' or set paths.data_dir'}"
            )
        return places

    def _find(self, name: str, label: str) -> Place | None:
        """The image that a list means, by its path, or by its name in any folder but one of another class."""
        if "/" in name and (self._folder / name).is_file():
            return Place(self._folder / name)
        found = [p for p in self._index.get(_key(name), ()) if p.folder == label or p.folder not in _every_label()]
        found = [place for place in found if not place.member] or found
        if len(found) > 1 and any(place.content is None or place.content != found[0].content for place in found):
            raise UserError(f"{name} of class {label} may be {found[0]} or {found[1]}; leave one of them")
        return found[0] if found else None

    @cached_property
    def _index(self) -> dict[str, list[Place]]:
        """File name -> where such files are; an archive that cannot be opened is only missed where an image is."""
        index: dict[str, list[Place]] = {}
        for archive in sorted(self._folder.glob("*.zip")):
            for member, content in self._members(archive).items():
                index.setdefault(_key(member), []).append(Place(archive, member, content))
        for parent, _, names in os.walk(self._folder / "images"):
            for name in names:
                index.setdefault(_key(name), []).append(Place(Path(parent, name)))
        return index

    def _members(self, archive: Path) -> dict[str, tuple[int, int]]:
        try:
            return members(archive)
        except UserError as error:
            self._broken.append(error)
            return {}


class _Folders(_Jpegs):
    """A folder for each class, or images that are called by their class, perhaps in folders of the splits."""

    @staticmethod
    def is_in(folder: Path) -> bool:
        return any(True for _ in _in_folders(folder))

    def files(self, split: str) -> list[Path]:
        return list(dict.fromkeys(place.path for places in self.places(split).values() for place in places))

    def places(self, split: str) -> dict[str, list[Place]]:
        found = {label: self._every[label] for label in _labels()[split] if label in self._every}
        if not found:
            skip = " or run with test=false" if split == "test" else ""
            raise UserError(f"{self._folder / split} has no folder of any {split} class; put them there{skip}")
        return found

    @cached_property
    def _every(self) -> dict[str, list[Place]]:
        every: dict[str, list[Place]] = {}
        for image in _in_folders(self._folder):
            every.setdefault(image.label, []).append(image.place)
        return every


def _in_folders(folder: Path) -> Iterator[PlacedImage]:
    """The images below a folder of the dataset's own; of another, those in its folders of the splits."""
    own = folder.name in OWN_FOLDERS
    tops = [folder] if own else sorted(path for path in folder.iterdir() if path.is_dir() and split_folder(path.name))
    return in_class_folders(folder, (place for top in tops for place in all_places(top)), _label, joined=False)


def _label(place: Place) -> str | None:
    wnid = wnid_of(place.folder) or wnid_of(place.name.name)
    return wnid if wnid in _every_label() else None


class _Pickles(_Form):
    """``mini-imagenet-cache-<split>.pkl``; the last one read is kept, as its size (up to 0.8 GB) forbids keeping all."""

    def __init__(self, folder: Path, allow_partial: bool) -> None:
        super().__init__(folder, allow_partial)
        self._read: tuple[str, npt.NDArray[np.uint8], dict[str, list[int]]] | None = None

    @staticmethod
    def is_in(folder: Path) -> bool:
        return any(_pickle(folder, split).is_file() for split in SPLITS)

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
            self._read = (split, *_check_pickle(path, load_dict(path)))
        return self._read[1], self._read[2]


FORMS: tuple[type[_Form], ...] = (_Listed, _Folders, _Pickles)
"""In the order in which they are looked for."""


def _labels() -> dict[str, tuple[str, ...]]:
    """The classes of each split."""
    return published_classes("miniimagenet", "ravi")


@cache
def _every_label() -> frozenset[str]:
    return frozenset().union(*_labels().values())


def _key(name: str) -> str:
    """What a file is looked for by, whatever its folder and however its suffix is written."""
    path = PurePosixPath(name)
    return f"{path.stem}{path.suffix.lower().replace('.jpeg', '.jpg')}"


def _pickle(folder: Path, split: str) -> Path:
    """A split's pickle; the published record calls the validation file by its full name."""
    full = folder / f"mini-imagenet-cache-{'validation' if split == 'val' else split}.pkl"
    return full if full.is_file() else folder / f"mini-imagenet-cache-{split}.pkl"


def _check_pickle(path: Path, content: Mapping[str, Any]) -> tuple[npt.NDArray[np.uint8], dict[str, list[int]]]:
    """The images ``(n, H, W, 3)`` and each label's rows."""
    data, listed = content.get("image_data"), content.get("class_dict")
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (SIZE, SIZE, 3):
        raise UserError(f"{path} has no image_data of uint8 (n, {SIZE}, {SIZE}, 3); download it again")
    rows: dict[str, list[int]] = {}
    known: set[int] = set()
    for label, part in listed.items() if isinstance(listed, dict) else ():
        name = label.decode("latin1") if isinstance(label, bytes) else label
        numbers = whole_numbers(part, most=len(data))
        if not isinstance(name, str) or not numbers:
            raise UserError(f"{path} has no class_dict of labels and rows; download it again")
        if known & set(numbers) or len(set(numbers)) < len(numbers) or min(numbers) < 0 or max(numbers) >= len(data):
            raise UserError(f"{path}: class_dict does not give each image one class; download it again")
        known.update(numbers)
        rows[name] = numbers
    if not rows:
        raise UserError(f"{path} has no class_dict of labels and rows; download it again")
    return data, rows


def _read_csv(path: Path) -> dict[str, list[str]]:
    """Label -> file names."""
    listed: dict[str, list[str]] = {}
    known: set[str] = set()
    try:
        with require(path).open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file, skipinitialspace=True)
            if not {"filename", "label"} <= set(rows.fieldnames or ()):
                raise UserError(f"{path} has no header 'filename,label'; replace the file")
            for row in rows:
                name, label = (row["filename"] or "").replace("\\", "/"), row["label"]
                parts = PurePosixPath(name).parts
                if not parts or not label or parts[0] == "/" or ".." in parts or "\0" in name:
                    raise UserError(f"{path}, line {rows.line_num}: '{name},{label}' is no image and label; replace the file")
                if name in known:
                    raise UserError(f"{path}, line {rows.line_num}: {name} is listed twice; replace the file")
                known.add(name)
                listed.setdefault(label, []).append(name)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); replace the file") from error
    return listed


def _download_pickles(folder: Path) -> None:
    """All three pickles, each checked against the checksum that the record publishes."""
    remedy = f"put {FILES}, into {folder}, or set paths.data_dir=FOLDER where they are"
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
