"""Meta-Dataset: ten datasets whose tasks are drawn by one procedure (Triantafillou et al. 2020)."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fewshot.data.images.decode import MODES
from fewshot.data.images.imagenet_nodes import nodes_of
from fewshot.data.images.listed import PublishedImages
from fewshot.data.source import ImageClass, ImageSource, Source, reading
from fewshot.errors import UserError

log = logging.getLogger(__name__)


class MetaDataset(ImageSource):
    """Datasets as one: classes are called ``DATASET/CLASS``, and rows have a column ``dataset``.

    The column ``group`` says what else tasks stay within: of Omniglot the alphabet, of ImageNet the nodes of WordNet above a
    class, of others the dataset. Those that are not there are left out, in one line that names them.

    Args:
        data_dir: holds a folder of each dataset.
        image_shape: ``(C, H, W)`` that images are brought to; 3 channels.
        sources: by name, each with its classes divided as Meta-Dataset divides them; None takes no part.
        allow_partial: accept datasets of which some parts are there.
    """

    version = 1

    def __init__(
        self,
        data_dir: str,
        image_shape: Sequence[int],
        sources: Mapping[str, ImageSource | None],
        allow_partial: bool = False,
    ) -> None:
        channels, height, width = image_shape
        if channels not in MODES:
            raise UserError(f"data.image_shape={list(image_shape)} must have 1 channel, grey, or 3, colour")
        self.image_shape, self._allow_partial = (channels, height, width), allow_partial
        self._root = Path(data_dir).absolute()
        self._asked = {name: source for name, source in sorted(sources.items()) if source is not None}

    @property
    def name(self) -> str:  # type: ignore[override]
        return "-".join(["meta_dataset", *self._found]) + "-partial" * self._allow_partial

    @property
    def arguments(self) -> dict[str, str]:
        own = {"image_shape": repr(self.image_shape), "allow_partial": repr(self._allow_partial)}
        return own | {f"{name}.{key}": value for name, of in self._asked.items() for key, value in of.options.items()}

    def is_like(self, other: Source) -> bool:
        return (
            isinstance(other, MetaDataset)
            and (self._root, self.options, list(self._asked)) == (other._root, other.options, list(other._asked))
            and all(source.is_like(other._asked[name]) for name, source in self._asked.items())
        )

    @property
    def _found(self) -> dict[str, list[str]]:
        """The parts of each dataset that is there."""
        return {name: parts for name, (parts, _) in self._looked_for.items() if parts}

    @cached_property
    def _looked_for(self) -> dict[str, tuple[list[str], str]]:
        """Of each dataset, the parts that are there, and why others are not: a whole dataset has all of them."""
        looked = {name: self._parts_of(source) for name, source in self._asked.items()}
        for name, (parts, reason) in looked.items():
            if not parts:
                log.info(f"Meta-Dataset without {name}: {reason}")
        return looked

    def _parts_of(self, source: ImageSource) -> tuple[list[str], str]:
        if isinstance(source, PublishedImages) and source.where == self._root:
            return [], f"no folder {source.folder}/"
        parts, reason = [], ""
        for part in source.parts:
            try:
                with reading(source):
                    source.classes(part)
                parts.append(part)
            except UserError as error:  # noqa: PERF203
                reason = reason or str(error)
        return (parts, reason) if self._allow_partial or not reason else ([], reason)

    def files(self, part: str) -> list[Path]:
        return sorted({path for source in self._of(part).values() for path in source.files(_part_in(source, part))})

    def classes(self, part: str) -> list[ImageClass]:
        return sorted(
            (
                ImageClass(f"{name}/{kind.name}", _group(name, kind), kind.size)
                for name, source in self._of(part).items()
                for kind in source.classes(_part_in(source, part))
            ),
            key=lambda kind: kind.name,
        )

    def columns(self, part: str) -> dict[str, Sequence[str]]:
        return {"dataset": [kind.name.partition("/")[0] for kind in self.classes(part) for _ in range(kind.size)]}

    def images(self, split: str) -> Iterator[npt.NDArray[np.uint8]]:
        for _, source in sorted(self._of(split).items(), key=lambda item: f"{item[0]}/"):
            for images in source.images(_part_in(source, split)):
                yield images if images.shape[1:] == self.image_shape else np.stack([self._fitted(image) for image in images])

    def _fitted(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        channels, height, width = self.image_shape
        picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0)).convert(MODES[channels])
        pixels = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))
        return np.ascontiguousarray(pixels.reshape(height, width, channels).transpose(2, 0, 1))

    def _of(self, part: str) -> dict[str, ImageSource]:
        """The datasets with classes in a part; one without a split of its own is tested as a whole."""
        found = {
            name: self._asked[name]
            for name, parts in self._found.items()
            if part in parts or (part == "test" and "all" in parts)
        }
        if not found:
            lacks = "; ".join(f"{name} ({reason})" for name, (_, reason) in self._looked_for.items() if reason)
            raise UserError(f"paths.data_dir={self._root} holds no {part} classes of Meta-Dataset; put some there: {lacks}")
        return found


def _part_in(source: ImageSource, part: str) -> str:
    """What a dataset calls a part."""
    return part if part in source.parts else "all"


def _group(name: str, kind: ImageClass) -> str:
    """What a class's tasks stay within."""
    return kind.group if name == "omniglot" else nodes_of(kind.name) if name == "imagenet" else name
