"""A dataset small enough for tests, in which a network can learn something within seconds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fewshot.data.parts import class_tasks
from fewshot.data.source import SPLITS, ArraySpec, ImageClass, ImageSource, Source
from fewshot.data.text.sentences import Sentence, TextSource
from fewshot.tasks.streams import stream_key, uniforms

SIZE = 16
IMAGES = 12


class Toy(ImageSource):
    """Each class is a random 4x4 pattern, enlarged to 16x16; its images differ by noise.

    Args:
        classes: of each split.
        images: of each class.
        folder: of the source file that the images are said to come from; none by default.
        groups: that classes belong to, in turn.
        patients: that a class's images are of, in turn; 0 leaves the column out.
    """

    version = 1
    image_shape = (1, SIZE, SIZE)

    def __init__(
        self, classes: int = 10, folder: str | None = None, images: int = IMAGES, groups: int = 2, patients: int = 0
    ) -> None:
        self.name = "toy" + (f"-{classes}x{images}" if (classes, images) != (10, IMAGES) else "")
        self._classes = classes
        self._folder = folder
        self._images = images
        self._groups = groups
        self._patients = patients

    def files(self, split: str) -> list[Path]:
        return [Path(self._folder) / f"{split}.txt"] if self._folder else []

    def classes(self, split: str) -> list[ImageClass]:
        return [ImageClass(f"{split}{i:03d}", f"group{i % self._groups}", self._images) for i in range(self._classes)]

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        names = [f"patient{image % self._patients}" for image in range(self._images)] if self._patients else []
        return {"patient": names * self._classes} if names else {}

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        for i in range(self._classes):
            numbers = uniforms(stream_key("toy", SPLITS.index(split), i), range(self._images + 1), SIZE * SIZE)
            pattern = np.kron(numbers[0, :16].reshape(4, 4), np.ones((4, 4)))
            noisy = 0.7 * pattern + 0.3 * numbers[1:].reshape(self._images, 1, SIZE, SIZE)
            yield (noisy * 255).astype(np.uint8)


class ToySentences(TextSource):
    """Each class has two words of its own; a sentence has one of them, a number and words that all classes have.

    Args:
        classes: of each split.
        rows: length, buckets and ngrams (`TextSource`).
    """

    name, group = "toy-sentences", "domain"

    def __init__(self, classes: int, length: int, buckets: int, ngrams: Sequence[int]) -> None:
        super().__init__(length, buckets, ngrams)
        self._classes = classes

    def files(self, part: str) -> list[Path]:
        return []

    def listed(self) -> list[Sentence]:
        return [
            Sentence(f"say {part}{'ab'[i % 2]}{c} {i} please", f"{part}{c:02d}", f"domain{c % 2}", part)
            for part in SPLITS
            for c in range(self._classes)
            for i in range(IMAGES)
        ]


class TrainTasks(NamedTuple):
    """Size of training tasks."""

    ways: object
    shots: object
    queries: object


class EvalTasks(NamedTuple):
    """Size of validation and test tasks, and their seed."""

    ways: object
    shots: object
    queries: object
    within: str | None = None
    seed: int = 0


def parts(arguments):
    """Arguments of a data module, those of its three parts made from one source and sizes of tasks, as the configs do it."""
    arguments = dict(arguments)
    source, seed = arguments.pop("source"), arguments["seed"]
    sizes = [arguments.pop(name) for name in ("ways", "shots", "queries")]
    train, tested = arguments.pop("train", None), arguments.pop("eval")
    evaluated = {name: class_tasks(source, *tested[:3], within=tested.within, seed=tested.seed) for name in ("val", "test")}
    return {"train": class_tasks(source, *(train or sizes), seed=seed)} | evaluated | arguments  # a part may be given whole


class ToyRatings(Source):
    """Users who rate some of 40 items by how good an item is, how kind the user, and noise.

    Args:
        length: numbers of an input.
        users: who there are; each rates 24 items.
    """

    name, version, parts = "toy-ratings", 1, ("all",)
    y = ArraySpec((), "float32")

    def __init__(self, length: int = 6, users: int = 20) -> None:
        self._length, self._users = length, users

    @property
    def x(self) -> ArraySpec:  # type: ignore[override]
        return ArraySpec((self._length,), "int64")

    def files(self, part: str) -> list[Path]:
        return []

    def classes(self, part: str) -> list[ImageClass]:
        return []

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        items = self._items().reshape(-1)
        users = [f"u{user:02d}" for user in range(self._users) for _ in range(24)]
        return {"user": users, "item": [f"i{item:02d}" for item in items], "year": [str(1980 + item) for item in items]}

    def read(self, part: str) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
        items, key = self._items(), stream_key("toy ratings")
        noise = uniforms(key, range(self._users), 25)
        stars = 1.5 + items / 20 + noise[:, :1] + 0.5 * noise[:, 1:]
        x = np.zeros((items.size, self._length), dtype=np.int64)
        x[:, 0], x[:, 1], x[:, 2] = items.reshape(-1), 2 + items.reshape(-1) % 3, 5 + items.reshape(-1) // 10
        yield x, (np.round(2 * stars) / 2).astype(np.float32).reshape(-1)

    def _items(self) -> npt.NDArray[np.int64]:
        return uniforms(stream_key("toy items"), range(self._users), 40).argsort(axis=1)[:, :24]
