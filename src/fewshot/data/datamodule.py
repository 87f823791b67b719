"""The LightningDataModule: from prepared sources to meta-batches of tasks on the device."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import v2

from fewshot.data.content import Content
from fewshot.data.device_cache import DeviceCache
from fewshot.data.features import FrozenNetwork, compute_features
from fewshot.data.images.augment import Augment, Transform
from fewshot.data.meta_batches import DrawnTasks, MetaBatches, Share, Tasks, Travelling
from fewshot.data.overlap import log_imagenet_classes, refuse_shared_images, refuse_shared_names
from fewshot.data.part_checks import require_image_options, require_inputs, require_split
from fewshot.data.parts import ComputedTasks, Part
from fewshot.data.preparation import prepare
from fewshot.data.prepared import PreparedSplit, classes_sha256, find
from fewshot.data.source import Source, reading, table_of
from fewshot.data.splits import Published, Split, Whole
from fewshot.errors import UserError, check_int, suggest
from fewshot.tasks.batch import MetaBatch, RowBlock, TaskBatch
from fewshot.tasks.streams import IntArray
from fewshot.tasks.table import CLASS, Table

log = logging.getLogger(__name__)

SPLIT_OF = {"train": "train", "sanity_check": "val", "validate": "val", "test": "test"}
"""The part that each of Lightning's stages reads."""
VERIFY = ("quick", "full")
ROWS = 1024
"""Rows that are read at a time where a model looks at all of them."""
NAMED = 5
"""Small classes that a line names."""


class EpisodicDataModule(L.LightningDataModule):
    """Yields meta-batches of `TaskBatch`: content to the device, where images are augmented, scaled and normalised.

    Training task `i` depends on (source, train, seed, `i`); validation and test tasks are fixed lists that depend on (source,
    part, eval.seed, `i`) alone. The test part's tasks are opened by ``setup("test")`` and by nothing else; before, its images
    are only prepared, and brought to features where a network is frozen.

    Args:
        train, val, test: sources and tasks of the three parts.
        split: which rows of a source belong to which part.
        cache_dir: where prepared files are kept.
        image_shape: of a row's input, ``(C, H, W)`` of an image, which the configs of networks refer to.
        mean, std: of each channel of images, on the scale 0 to 1, to normalise by; None for inputs that are no images.
        augment: torchvision v2 transforms for training images.
        meta_batch_size: tasks in one outer step, over all processes.
        val_tasks, test_tasks: number of tasks in each list, at the most.
        num_workers: processes that gather tasks; 0 gathers in the main process.
        device_resident: keep content on the device (`DeviceCache`).
        seed: of the augmentation.
        verify: how prepared files are held against their digests (`prepared.find`).
        skip_small_classes: leave out classes (or groups) that have too few rows for a task, instead of refusing.
        allow_seen_classes: whether tested classes may be among those that were trained on.
        shuffled_labels: in all tasks of all parts: a control that must end at chance (`DrawnTasks`).

    Attributes:
        first_step: outer step that training begins with; those before it have been done.
        classes: of each part that `check` has looked at, how many.
        prepared: of each part, what its tasks are drawn from, once `prepare` has made it.
        unknown: of the parts that have a source of rows of no class: these.
        tasks: number of tasks in the lists of ``val`` and ``test``.
        trained_on: the data of a checkpoint (`state_dict`); None where the training part is checked here.
        started_from: the same of the checkpoint that the weights start from; None where they are drawn.
        pretrained_on: what a network has learned from that comes with its weights; None where there is none.
        seen_classes: how many classes of each checked part were trained on.
    """

    def __init__(
        self,
        train: Part | ComputedTasks,
        val: Part | ComputedTasks,
        test: Part | ComputedTasks,
        cache_dir: str,
        image_shape: Sequence[int],
        meta_batch_size: int,
        val_tasks: int,
        test_tasks: int,
        seed: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        split: Split | None = None,
        num_workers: int = 0,
        device_resident: bool | str = "auto",
        augment: Sequence[Transform] = (),
        verify: str = "quick",
        skip_small_classes: bool = False,
        shuffled_labels: bool = False,
        allow_seen_classes: bool = False,
    ) -> None:
        super().__init__()
        check_int("data.meta_batch_size", meta_batch_size, least=1)
        check_int("data.val_tasks", val_tasks, least=1)
        check_int("data.test_tasks", test_tasks, least=1)
        check_int("data.num_workers", num_workers, least=0)
        if verify not in VERIFY:
            raise UserError(f"data.verify={verify} is unknown{suggest(str(verify), VERIFY)}")
        self.parts = _with_shared_sources({"train": train, "val": val, "test": test})
        self.split = split or Published()
        self.image_shape = tuple(image_shape)
        require_split(self.parts, self.split)
        require_inputs(self.parts, self.image_shape, shuffled_labels)
        require_image_options(self.parts, self.image_shape[0], mean, std, augment)
        self.meta_batch_size = meta_batch_size
        self.tasks = {"val": val_tasks, "test": test_tasks}
        self._cache_dir = Path(cache_dir)
        self._num_workers = num_workers
        self._device_cache = DeviceCache(device_resident)
        self._verify, self._skip_small = verify, skip_small_classes
        self._shuffled_labels = shuffled_labels
        self._allow_seen = allow_seen_classes
        self.trained_on: dict[str, Any] | None = None
        self.started_from: dict[str, Any] | None = None
        self.pretrained_on: str | None = None
        self.seen_classes: dict[str, int] = {}
        self._train_originals: list[str] = []
        self.first_step = 0
        self.classes: dict[str, int] = {}
        self._augment = Augment(augment, seed) if augment else None
        self._scale = v2.ToDtype(torch.float32, scale=True)
        if mean is not None and std is not None:
            self._scale = v2.Compose([self._scale, v2.Normalize(list(mean), list(std))])
        self.prepared: dict[str, Content] = {}
        self.unknown: dict[str, Content] = {}
        self._opened: dict[str, Content] = {}

    def check(self, parts: Sequence[str]) -> None:
        """Finds every mistake that can be found without reading content: downloads if need be, then reads listings.

        Raises:
            UserError: data are missing or corrupt, or too small for the tasks asked for.
        """
        tables: dict[str, Table] = {}
        for name, part in self._drawn(parts):
            if part.unknown is not None:
                with reading(part.unknown):
                    part.unknown.obtain()
                    for published in part.unknown.parts:
                        part.unknown.files(published)
            listed = self._listed(name, part.source)
            tables[name], _ = self._chosen(name, part, list(listed.values()), log_small=True)
        self._refuse_seen_classes(tables)
        trained = {*self._train_originals, *(self.trained_on or self.started_from or {}).get("classes", ())}
        for name, table in tables.items():
            if name != "train":
                log_imagenet_classes(self.parts[name].name, name, table.classes, trained, self.pretrained_on)
        for name, part in self._drawn(parts):
            part.sampler.check(tables[name], f"data.{name}", name)
            if name in self.tasks and (last := part.sampler.tasks(tables[name])) is not None:
                self.tasks[name] = min(self.tasks[name], last)
        self.classes |= {name: len(table.classes) for name, table in tables.items()}

    def is_prepared(self, parts: Sequence[str]) -> bool:
        """Whether what some parts need has been prepared: then nothing is downloaded or decoded for them."""
        needed = [(part.source, one) for name, part in self._drawn(parts) for one in self._needed(name, part.source)]
        return all(find(source, published, self._cache_dir, self._verify) for source, published in needed)

    def prepare(self, parts: Sequence[str]) -> None:
        """Reads what has not been prepared yet; nothing of it is shown to a model here.

        Raises:
            UserError: content cannot be decoded, or classes of two parts have the same.
        """
        made: dict[tuple[Source, str], PreparedSplit] = {}
        for name, part in self._drawn(parts):
            source = part.source
            needed = self._needed(name, source)
            for published in needed:
                if (source, published) not in made:
                    made[source, published] = prepare(source, published, self._cache_dir, log.info, self._verify)
            pieces = [made[source, published] for published in needed]
            table, rows = self._chosen(name, part, [piece.table for piece in pieces])
            kept = [
                (piece, of_piece) for piece, of_piece in zip(pieces, rows, strict=True) if of_piece is None or len(of_piece)
            ]
            self.prepared[name] = Content(table, tuple(kept))
            if part.unknown is not None:
                pieces = [prepare(part.unknown, piece, self._cache_dir, log.info, self._verify) for piece in part.unknown.parts]
                self.unknown[name] = Content(Table.joined([piece.table for piece in pieces]), tuple((p, None) for p in pieces))
        if not self._allow_seen:
            classed = [name for name, _ in self._drawn(parts) if self.prepared[name].table.classes]
            refuse_shared_images(self.prepared, self._kept_apart(classed))

    def compute_features(self, network: FrozenNetwork, device: torch.device, training: bool = True) -> None:
        """Lets prepared parts have a frozen network's features in place of inputs; but training images that are augmented.

        Args:
            network: on the device.
            training: whether the training part is among them: not where nothing learns from it.
        """
        made = {}
        for contents in (self.prepared, self.unknown):
            for name, content in contents.items():
                if name == "train" and (self._augment is not None or not training):
                    continue
                for piece, _ in content.pieces:
                    if piece.folder not in made:
                        made[piece.folder] = compute_features(piece, network, self._scale, device, log.info, self._verify)
                contents[name] = replace(content, features=tuple(made[piece.folder] for piece, _ in content.pieces))
        self._opened = {name: self.prepared[name] for name in self._opened}

    def _drawn(self, parts: Sequence[str]) -> list[tuple[str, Part]]:
        """Those of some parts whose tasks are drawn from a source."""
        return [(name, part) for name in parts if isinstance(part := self.parts[name], Part)]

    def _needed(self, name: str, source: Source) -> list[str]:
        """The published parts of a source that a part takes rows from."""
        return self._split_of(source).needed(name, source.parts, source.name)

    def split_of(self, part: str) -> Split:
        """What deals a part's rows out."""
        of_part = self.parts[part]
        return self._split_of(of_part.source) if isinstance(of_part, Part) else self.split

    def split_values(self) -> list[str]:
        """The values of the column that the split goes by, of all rows of the training part's source; from listings."""
        (_, part), *_ = self._drawn(["train"])
        table = Table.joined(list(self._listed("train", part.source).values()))
        return list(table.column(self.split.by, "data.split.by").names)

    def _split_of(self, source: Source) -> Split:
        """Of a part's source. One that has no parts of its own, and that no other part takes rows from, is not divided."""
        users = [part for part in self.parts.values() if isinstance(part, Part) and part.source is source]
        return Whole() if len(users) == 1 and tuple(source.parts) == ("all",) else self.split.of(source.parts)

    def _listed(self, name: str, source: Source) -> dict[str, Table]:
        """The tables of the published parts that a part takes rows from, without reading content."""
        needed = self._needed(name, source)
        found = {published: find(source, published, self._cache_dir, self._verify) for published in needed}
        with reading(source):
            if not all(found.values()):
                source.obtain()
            return {
                published: prepared.table
                if prepared
                else table_of(source, source.classes(published), source.columns(published))
                for published, prepared in found.items()
            }

    def _chosen(
        self, name: str, part: Part, tables: Sequence[Table], log_small: bool = False
    ) -> tuple[Table, list[IntArray | None]]:
        """The table of a part's rows, and which rows of each published table these are; None where all."""
        whole_table = Table.joined(tables)
        rows = self._split_of(part.source).rows(name, whole_table)
        if self._skip_small and (small := part.sampler.unfit(whole_table.select(rows))):
            column = whole_table.column(part.sampler.unit, f"data.{name}")
            everything, rows = rows, rows[~np.isin(column.values[rows], [column.names.index(one) for one in small])]
            if log_small:
                rest = f" and {len(small) - NAMED} more" if len(small) > NAMED else ""
                named = ", ".join(f"{one} ({size})" for one, size in list(small.items())[:NAMED])
                of = f"{len(small):,} of {np.unique(column.values[everything]).size:,} ({part.sampler.unit})"
                log.info(f"Left out of the {name} split, {of}, with too few or too many rows for a task: {named}{rest}")
        if len(rows) == len(whole_table):
            return whole_table, [None] * len(tables)
        stops = np.cumsum([len(table) for table in tables])
        cuts = np.searchsorted(rows, stops)
        pieces = [rows[start:stop] - first for start, stop, first in zip([0, *cuts], cuts, [0, *stops], strict=False)]
        return whole_table.select(rows), list(pieces)

    def _refuse_seen_classes(self, tables: Mapping[str, Table]) -> None:
        """Counts and refuses tested classes (users) that were trained on, where the split is meant to keep them apart."""
        names = {name: self._originals(name, table) for name, table in tables.items()}
        self._train_originals = names.get("train", [])
        here: Sequence[str] = () if self.trained_on else self._train_originals
        earlier = self.trained_on or self.started_from or {}
        tested = [name for name in names if name != "train"]
        # numbers of users mean others in another source; names of classes mean the same
        known = {name: tables[name].classes or earlier.get("source") == self.parts[name].name for name in tested}
        seen_earlier = {name: set(earlier.get("classes", ()) if known[name] else ()) & set(names[name]) for name in tested}
        self.seen_classes = {name: len(seen_earlier[name] | (set(here) & set(names[name]))) for name in tested}
        if self._allow_seen:
            return
        if not self.trained_on:
            sources = {name: self.parts[name].name for name in names}
            refuse_shared_names(names, self._kept_apart([name for name in names if tables[name].classes]), sources)
        for name, shared in seen_earlier.items():
            rule = self.split_of(name)
            if shared and (rule.by == CLASS or earlier["split"] != rule.description):
                rest = f" and {len(shared) - NAMED} more" if len(shared) > NAMED else ""
                raise UserError(
                    f"the checkpoint was trained on {len(shared)} of the {len(names[name])} {name} "
                    f"{'classes' if tables[name].classes else f'values of {self.split.by}'} "
                    f"({', '.join(sorted(shared)[:NAMED])}{rest}); evaluate it on the split that it was trained with, or set "
                    "allow_seen_classes=true"
                )

    def _kept_apart(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs of parts whose classes must differ: all but those of one source that is split by another unit, as patients."""
        return [
            (one, other)
            for one, other in combinations(names, 2)
            if self.split_of(one).by == CLASS or self.parts[one].name != self.parts[other].name
        ]

    def _originals(self, name: str, table: Table) -> list[str]:
        """The classes of a part, augmented copies by the name of their original; where rows have none, the users."""
        part = self.parts[name]
        return sorted({part.source.original(one) for one in self._dealt(table)}) if isinstance(part, Part) else []

    def state_dict(self) -> dict[str, Any]:
        """The data that a checkpoint was trained on."""
        classes = sorted({*self._train_originals, *(self.started_from or {}).get("classes", [])})
        return {
            "source": self.parts["train"].name,
            "classes": classes,
            "split": self.split.description,
            "splits_sha256": self.splits_sha256,
            "images_sha256": self.images_sha256,
        }

    @property
    def images_sha256(self) -> dict[str, str]:
        """Of each prepared part's content, for provenance and to know the same data again."""
        return {name: content.sha256 for name, content in self.prepared.items()}

    @property
    def splits_sha256(self) -> dict[str, str]:
        """Of the names of each prepared part's classes; where rows have none, of what the split deals out (users)."""
        return {name: classes_sha256(self._dealt(content.table)) for name, content in self.prepared.items()}

    @property
    def splits_units(self) -> dict[str, int]:
        """How many of what its split deals out each prepared part has: values of a column, or classes without their copies."""
        units = {}
        for name, content in self.prepared.items():
            by = self.split_of(name).by
            dealt = by != CLASS and by in content.table.columns
            units[name] = len(content.table.columns[by].names if dealt else self._originals(name, content.table))
        return units

    def _dealt(self, table: Table) -> Sequence[str]:
        return table.columns[self.split.by].names if not table.classes and self.split.by in table.columns else table.classes

    def setup(self, stage: str) -> None:
        """Opens the parts that a stage reads: ``fit`` train and val, ``validate`` val, ``test`` test."""
        for name in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}[stage]:
            if isinstance(self.parts[name], Part):
                self._opened[name] = self.prepared[name]
                _ = self.prepared[name].arrays  # mapped now, so that a file deleted later is still there for this run

    def train_dataloader(self) -> DataLoader[Travelling]:
        if self.trainer is None:
            raise RuntimeError("train_dataloader belongs to a trainer, whose max_steps it needs")
        return self._loader("train", self.trainer.max_steps * self.meta_batch_size, first=self.first_step)

    def val_dataloader(self) -> DataLoader[Travelling]:
        return self._loader("val", self.tasks["val"])

    def test_dataloader(self) -> DataLoader[Travelling]:
        return self._loader("test", self.tasks["test"])

    def teardown(self, stage: str) -> None:
        self._device_cache.release()

    def tasks_of(self, part: str, travels: bool = True) -> Tasks:
        """Task number -> task, of a part that a stage has opened.

        Raises:
            RuntimeError: it has not been opened, as the test part during fit.
        """
        of_part = self.parts[part]
        if isinstance(of_part, ComputedTasks):
            return of_part
        stream = (of_part.source.name, part, of_part.seed)
        return DrawnTasks(self._open(part), of_part.sampler, stream, self._shuffled_labels, travels)

    def meta_batches(self, part: str, total: int, share: Share | None = None, travels: bool = True) -> MetaBatches:
        """The first `total` tasks of a part that a stage has opened, or this process's share of them."""
        return MetaBatches(self.tasks_of(part, travels), self.meta_batch_size, total, share)

    def rows_of(self, part: str) -> Iterator[RowBlock]:
        """All rows of a prepared part, `ROWS` at a time, as they are in files."""
        ((_, drawn),), content = self._drawn([part]), self.prepared[part]
        values = torch.from_numpy(content.table.columns[drawn.sampler.unit].values)
        units = torch.split(values, [len(piece) for piece in content.arrays])
        for piece, of_piece in zip(content.arrays, units, strict=True):
            for start in range(0, len(piece), ROWS):
                numbers = torch.arange(start, min(start + ROWS, len(piece)))
                y = None if piece.y is None else piece.take("y", numbers)
                yield RowBlock(piece.take("x", numbers), y, of_piece[numbers])

    def transfer_batch_to_device(self, batch: Travelling, device: torch.device, dataloader_idx: int) -> MetaBatch:
        # Lightning would wait for each tensor of what it does not know
        moved = [tasks.to(device, non_blocking=True) for tasks in batch]
        if self.trainer is None or self.trainer.state.stage is None:
            return [tasks for tasks in moved if isinstance(tasks, TaskBatch)]
        return self._device_cache.fill_in(SPLIT_OF[self.trainer.state.stage.value], moved)

    def on_after_batch_transfer(self, batch: MetaBatch, dataloader_idx: int) -> MetaBatch:
        if self._augment is not None and self.trainer is not None and self.trainer.training:
            batch = [self._augmented(tasks, self._augment) for tasks in batch]
        return self.scaled(batch)

    @staticmethod
    def _augmented(tasks: TaskBatch, augment: Augment) -> TaskBatch:
        numbers = tasks.index.tolist()
        support = torch.stack([augment(x, task, 0) for x, task in zip(tasks.support_x, numbers, strict=True)])
        query = torch.stack([augment(x, task, 1) for x, task in zip(tasks.query_x, numbers, strict=True)])
        return tasks.with_inputs(support, query)

    def scaled(self, batch: MetaBatch) -> MetaBatch:
        """The tasks with uint8 images as normalised floats; other inputs as they are."""
        return [
            tasks.with_inputs(self._scale(tasks.support_x), self._scale(tasks.query_x))
            if tasks.support_x.dtype == torch.uint8
            else tasks
            for tasks in batch
        ]

    def _open(self, part: str) -> Content:
        if part not in self._opened:
            raise RuntimeError(f"the {part} split is closed in this stage")
        return self._opened[part]

    def _loader(self, part: str, total: int, first: int = 0) -> DataLoader[Travelling]:
        """This process's share of a part's first `total` tasks, from meta-batch `first` on."""
        device, share = torch.device("cpu"), Share()
        if self.trainer is not None:
            device, share = self.trainer.strategy.root_device, Share(self.trainer.global_rank, self.trainer.world_size)
        resident = part in self._opened and self._device_cache.hold(part, self._open(part), device)
        batches = self.meta_batches(part, total, share, travels=not resident)
        return DataLoader(
            Subset(batches, range(first, len(batches))),
            batch_size=None,
            num_workers=self._num_workers,
            persistent_workers=self._num_workers > 0,
            pin_memory=device.type == "cuda",
        )


def _with_shared_sources(parts: dict[str, Part | ComputedTasks]) -> dict[str, Part | ComputedTasks]:
    """The parts with one object for each source, which may keep what it has read."""
    sources: list[Source] = []
    shared = dict(parts)
    for name, part in parts.items():
        if isinstance(part, Part):
            alike = next((source for source in sources if source.is_like(part.source)), part.source)
            sources.append(alike)
            shared[name] = replace(part, source=alike)
    return shared
