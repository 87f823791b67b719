"""The LightningDataModule: from a prepared data set to meta-batches of tasks on the device."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from torch.utils.data import DataLoader, Subset
from torchvision.transforms import v2

from fewshot.data.device_cache import ResidentImages
from fewshot.data.images.augment import Augment, Transform
from fewshot.data.meta_batches import MetaBatches, Share
from fewshot.data.overlap import refuse_shared_images, refuse_shared_names
from fewshot.data.prepared import PreparedSplit, find, prepare
from fewshot.data.source import ImageClass, ImageSource, reading
from fewshot.errors import UserError, whole
from fewshot.tasks.batch import TaskBatch, TaskSpec

log = logging.getLogger(__name__)

SPLIT_OF = {"train": "train", "sanity_check": "val", "validate": "val", "test": "test"}
"""The split that each of Lightning's stages reads."""


@dataclass(frozen=True)
class EvalTasks:
    """Which tasks validation and test consist of.

    Attributes:
        ways, shots, queries: their size.
        within_group: take each task's classes from one group (Omniglot: one alphabet).
        seed: of the fixed lists of tasks, the same for every run.
    """

    ways: int
    shots: int
    queries: int
    within_group: bool = False
    seed: int = 0


@dataclass(frozen=True)
class TrainTasks:
    """Size of a training task that differs from a tested one: ProtoNet's 60 ways, MetaOptNet's 15 shots."""

    ways: int
    shots: int
    queries: int


class EpisodicDataModule(L.LightningDataModule):
    """Yields whole meta-batches as `TaskBatch`: uint8 to the device, where images are augmented, scaled and normalised.

    Training task `i` depends on (data set, train, seed, `i`); validation and test tasks are fixed lists that depend on (data
    set, split, eval.seed, `i`) alone. The test split's images are opened by ``setup("test")`` and by nothing else.

    Args:
        source: the data set.
        cache_dir: where prepared files are kept.
        image_shape: ``(C, H, W)``, which the configs of networks refer to.
        mean, std: of each channel, on the scale 0 to 1, to normalise by.
        augment: torchvision v2 transforms for training images.
        ways, shots, queries: size of a training task.
        eval: size of validation and test tasks.
        train: size of a training task where a model's recipe has another than `ways`, `shots` and `queries`, which the tested
            tasks refer to.
        meta_batch_size: tasks in one outer step, over all processes.
        val_tasks, test_tasks: number of tasks in each list.
        num_workers: processes that gather tasks; 0 gathers in the main process.
        device_resident: keep images on the device (`ResidentImages`).
        seed: of the training tasks.
        shuffled_labels: in all tasks of all splits: a control that must end at chance (`MetaBatches`).

    Attributes:
        first_step: outer step that training begins with; those before it have been done.
        train_classes: classes of the training split, once `check` has counted them.
    """

    def __init__(
        self,
        source: ImageSource,
        cache_dir: str,
        image_shape: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        ways: int,
        shots: int,
        queries: int,
        eval: EvalTasks,
        meta_batch_size: int,
        val_tasks: int,
        test_tasks: int,
        seed: int,
        num_workers: int = 0,
        device_resident: bool | str = "auto",
        augment: Sequence[Transform] = (),
        shuffled_labels: bool = False,
        train: TrainTasks | None = None,
    ) -> None:
        super().__init__()
        if tuple(image_shape) != tuple(source.image_shape):
            raise UserError(
                f"data.image_shape={list(image_shape)} is not that of {source.name}; set {list(source.image_shape)}"
            )
        for key, values in (("mean", mean), ("std", std)):
            if len(values) != image_shape[0] or (key == "std" and not all(value > 0 for value in values)):
                kind = "number greater than 0" if key == "std" else "number"
                raise UserError(f"data.{key}={list(values)} must hold a {kind} for each of {image_shape[0]} channels")
        whole("data.meta_batch_size", meta_batch_size, least=1)
        whole("data.val_tasks", val_tasks, least=1)
        whole("data.test_tasks", test_tasks, least=1)
        whole("data.num_workers", num_workers, least=0)
        self.source = source
        self.image_shape = tuple(image_shape)
        self._train_key, size = ("data.train", train) if train else ("data", TrainTasks(ways, shots, queries))
        self.train_spec = _spec(self._train_key, size.ways, size.shots, size.queries)
        self.eval_spec = _spec("data.eval", eval.ways, eval.shots, eval.queries)
        self.eval = eval
        self.meta_batch_size = meta_batch_size
        self.tasks = {"val": val_tasks, "test": test_tasks}
        self._cache_dir = Path(cache_dir)
        self._seed = seed
        self._num_workers = num_workers
        self._resident = ResidentImages(device_resident)
        self._shuffled_labels = shuffled_labels
        self.first_step = 0
        self.train_classes = 0
        self._augment = Augment(augment, seed) if augment else None
        self._scale = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))])
        self.prepared: dict[str, PreparedSplit] = {}
        self._opened: dict[str, PreparedSplit] = {}

    def check(self, splits: Sequence[str]) -> None:
        """Finds every mistake that can be found without decoding an image: downloads if need be, then reads listings.

        Raises:
            UserError: data are missing or corrupt, or too small for the tasks asked for.
        """
        found = {split: find(self.source, split, self._cache_dir) for split in splits}
        with reading(self.source):
            if not all(found.values()):
                self.source.obtain()
            listed = {split: p.classes if p else tuple(self.source.classes(split)) for split, p in found.items()}
        refuse_shared_names(self.source.name, listed)
        for split, classes in listed.items():
            if split == "train":
                _require_room(classes, self.train_spec, self._train_key, split, within_group=False)
                self.train_classes = len(classes)
            else:
                _require_room(classes, self.eval_spec, "data.eval", split, self.eval.within_group)

    def prepare(self, splits: Sequence[str]) -> None:
        """Decodes what has not been decoded yet; nothing of it is shown to a model here.

        Raises:
            UserError: an image cannot be decoded, or classes of two splits have the same images.
        """
        for split in splits:
            self.prepared[split] = prepare(self.source, split, self._cache_dir, log.info)
        refuse_shared_images(self.source.name, self.prepared)

    @property
    def images_sha256(self) -> dict[str, str]:
        """Of each prepared split, for provenance and to know the same data again."""
        return {split: prepared.images_sha256 for split, prepared in self.prepared.items()}

    def setup(self, stage: str) -> None:
        """Opens the splits that a stage reads: ``fit`` train and val, ``validate`` val, ``test`` test."""
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}[stage]:
            self._opened[split] = self.prepared[split]
            _ = self.prepared[split].images  # mapped now, so that a file deleted later is still there for this run

    def train_dataloader(self) -> DataLoader[TaskBatch]:
        if self.trainer is None:
            raise RuntimeError("train_dataloader belongs to a trainer, whose max_steps it needs")
        return self._loader("train", self.trainer.max_steps * self.meta_batch_size, first=self.first_step)

    def val_dataloader(self) -> DataLoader[TaskBatch]:
        return self._loader("val", self.tasks["val"])

    def test_dataloader(self) -> DataLoader[TaskBatch]:
        return self._loader("test", self.tasks["test"])

    def teardown(self, stage: str) -> None:
        self._resident.release()

    def meta_batches(self, split: str, total: int, share: Share | None = None, with_images: bool = True) -> MetaBatches:
        """The first `total` tasks of a split that a stage has opened, or this process's share of them.

        Raises:
            RuntimeError: it has not been opened, as the test split during fit.
        """
        training = split == "train"
        return MetaBatches(
            self._open(split),
            self.train_spec if training else self.eval_spec,
            (self.source.name, split, self._seed if training else self.eval.seed),
            self.meta_batch_size,
            total,
            within_group=not training and self.eval.within_group,
            share=share,
            shuffled_labels=self._shuffled_labels,
            with_images=with_images,
        )

    def transfer_batch_to_device(self, batch: TaskBatch, device: torch.device, dataloader_idx: int) -> TaskBatch:
        moved = batch.to(device, non_blocking=True)  # Lightning would wait for each tensor of what it does not know
        if self.trainer is None or self.trainer.state.stage is None:
            return moved
        return self._resident.fill_in(SPLIT_OF[self.trainer.state.stage.value], moved)

    def on_after_batch_transfer(self, batch: TaskBatch, dataloader_idx: int) -> TaskBatch:
        support, query = batch.support_x, batch.query_x
        if self._augment is not None and self.trainer is not None and self.trainer.training:
            tasks = batch.index.tolist()
            support = torch.stack([self._augment(x, task, 0) for x, task in zip(support, tasks, strict=True)])
            query = torch.stack([self._augment(x, task, 1) for x, task in zip(query, tasks, strict=True)])
        return self.scaled(batch.with_inputs(support, query))

    def scaled(self, batch: TaskBatch) -> TaskBatch:
        """The tasks with uint8 images as normalised floats."""
        return batch.with_inputs(self._scale(batch.support_x), self._scale(batch.query_x))

    def _open(self, split: str) -> PreparedSplit:
        if split not in self._opened:
            raise RuntimeError(f"the {split} split is closed in this stage")
        return self._opened[split]

    def _loader(self, split: str, total: int, first: int = 0) -> DataLoader[TaskBatch]:
        """This process's share of a split's first `total` tasks, from meta-batch `first` on."""
        device, share = torch.device("cpu"), Share()
        if self.trainer is not None:
            device, share = self.trainer.strategy.root_device, Share(self.trainer.global_rank, self.trainer.world_size)
        resident = self._resident.hold(split, self._open(split), device)
        batches = self.meta_batches(split, total, share, with_images=not resident)
        return DataLoader(
            Subset(batches, range(first, len(batches))),
            batch_size=None,
            num_workers=self._num_workers,
            persistent_workers=self._num_workers > 0,
            pin_memory=device.type == "cuda",
        )


def _spec(prefix: str, ways: int, shots: int, queries: int) -> TaskSpec:
    try:
        return TaskSpec(ways, shots, queries)
    except UserError as error:
        raise UserError(f"{prefix}.{error}") from error


def _require_room(classes: Sequence[ImageClass], spec: TaskSpec, prefix: str, split: str, within_group: bool) -> None:
    """Refuses tasks that are larger than the split."""
    if spec.ways > len(classes):
        raise UserError(
            f"{prefix}.ways={spec.ways} but the {split} split has {len(classes)} classes; choose {prefix}.ways<={len(classes)}"
        )
    if within_group:
        members = [c.group for c in classes]
        largest = max(set(members), key=members.count)
        if members.count(largest) < spec.ways:
            raise UserError(
                f"{prefix}.ways={spec.ways} with {prefix}.within_group=true, but the largest group of the {split} split, "
                f"{largest}, has {members.count(largest)} classes; choose {prefix}.ways<={members.count(largest)}"
            )
    smallest = min(classes, key=lambda c: c.size)
    if spec.images_per_class > smallest.size:
        raise UserError(
            f"{prefix}.shots={spec.shots} and {prefix}.queries={spec.queries} need {spec.images_per_class} images a class, but "
            f"{smallest.name} of the {split} split has {smallest.size}; choose {prefix}.shots+{prefix}.queries<={smallest.size}"
        )
