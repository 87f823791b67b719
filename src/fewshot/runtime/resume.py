"""Continuing a run where its last checkpoint stands, to the bit.

Lightning's own resuming counts batches of an epoch, reads the data from its beginning and restores no log. Here training begins
anew at outer step `s` with tasks `s` and later, which are a pure function of their number; weights, optimizer, schedule and
callbacks are put back, and the counters set to `s`.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.errors import UserError
from fewshot.models.base import MetaLearner
from fewshot.runtime.checkpoints import LAST


class Resume(Callback):
    """Puts a checkpoint's state back before the first outer step.

    Args:
        checkpoint: content of ``last.ckpt``.
        max_steps: outer steps that the run is to have in all.
    """

    def __init__(self, checkpoint: dict[str, Any], max_steps: int) -> None:
        self._checkpoint = checkpoint
        self._longer = checkpoint["fewshot"]["max_steps"] != max_steps

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        checkpoint = deepcopy(self._checkpoint)
        restore_model(checkpoint, cast(MetaLearner, pl_module))
        self._restore_optimizer(checkpoint, trainer)
        restore_callbacks(checkpoint, trainer)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            callback.on_load_checkpoint(trainer, pl_module, checkpoint)  # some keep more in it than their state
        set_counters(checkpoint, trainer)

    def _restore_optimizer(self, checkpoint: dict[str, Any], trainer: L.Trainer) -> None:
        (optimizer,), schedules = trainer.optimizers, [config.scheduler for config in trainer.lr_scheduler_configs]
        if self._longer:
            # A schedule planned for fewer steps has come to its end. The new one goes on from where it would be by now.
            for schedule in schedules:
                optimizer.step()  # nothing has a gradient yet; PyTorch warns of a schedule that is first
                for _ in range(checkpoint["global_step"]):
                    schedule.step()
            rates = [group["lr"] for group in optimizer.param_groups]
        optimizer.load_state_dict(checkpoint["optimizer_states"][0])
        if self._longer:
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        else:
            for schedule, state in zip(schedules, checkpoint["lr_schedulers"], strict=True):
                schedule.load_state_dict(state)


def require_same_source(checkpoint: dict[str, Any], datamodule: EpisodicDataModule) -> None:
    """Refuses to continue on another dataset.

    Raises:
        UserError: the checkpoint was trained on another.
    """
    trained_on, asked = _trained_on(checkpoint, datamodule)["source"], datamodule.parts["train"].name
    if trained_on != asked:
        raise UserError(f"{LAST} was trained on {trained_on}, the config asks for {asked}; choose another hydra.run.dir")


def require_same_images(checkpoint: dict[str, Any], datamodule: EpisodicDataModule) -> None:
    """Refuses to continue where prepared content has been replaced since.

    Raises:
        UserError: that of the training or validation split has.
    """
    trained_on = _trained_on(checkpoint, datamodule)["images_sha256"]  # none in the oldest
    for split, digest in datamodule.images_sha256.items():  # computed tasks have none
        if split != "test" and trained_on.get(split, digest) != digest:
            raise UserError(
                f"{LAST} was trained with other images: those of the {split} split of {datamodule.parts[split].name} have "
                "been replaced since; put them back or choose another hydra.run.dir"
            )


def restore_finished(checkpoint: dict[str, Any], trainer: L.Trainer, model: MetaLearner) -> None:
    """Puts back the state of a run whose outer steps are all done."""
    restore_model(checkpoint, model)
    restore_callbacks(checkpoint, trainer)
    set_counters(checkpoint, trainer)
    trainer.fit_loop.epoch_progress.current.completed = 1


def set_counters(checkpoint: dict[str, Any], trainer: L.Trainer) -> None:
    """Makes the trainer count on from the checkpoint's outer step."""
    loop, steps = trainer.fit_loop.epoch_loop, checkpoint["global_step"]
    for progress in (loop.batch_progress.total, loop.manual_optimization.optim_step_progress.total):
        for counter in vars(progress):
            setattr(progress, counter, steps)
    loop._batches_that_stepped = steps


def restore_model(checkpoint: dict[str, Any], model: MetaLearner) -> None:
    """Weights and counters, after a check that they are this model's."""
    model.on_load_checkpoint(checkpoint)
    model.load_state_dict(checkpoint["state_dict"])
    model.skipped_steps = checkpoint["fewshot"]["skipped_steps"]


def restore_callbacks(checkpoint: dict[str, Any], trainer: L.Trainer) -> None:
    """Puts back the state of the callbacks: the best checkpoint, the time spent."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        state = checkpoint["callbacks"].get(callback.state_key)
        if state:
            if isinstance(callback, ModelCheckpoint):
                callback.load_state_dict(_in_folder(state, callback))
                callback.current_score = state["current_score"]  # which Lightning leaves out
            else:
                callback.load_state_dict(state)


def _trained_on(checkpoint: dict[str, Any], datamodule: EpisodicDataModule) -> dict[str, Any]:
    """The data that a checkpoint was trained on; older ones have it in the model's entry."""
    model, data = checkpoint["fewshot"], checkpoint.get(type(datamodule).__qualname__, {})
    return {"source": model.get("data"), "images_sha256": model.get("data_sha256", {}), **data}


def _in_folder(state: dict[str, Any], callback: ModelCheckpoint) -> dict[str, Any]:
    """A ModelCheckpoint's state with its files in the folder that the run has now."""

    def here(path: str) -> str:
        return str(Path(callback.dirpath or "") / Path(path).name) if path else path

    return {
        **state,
        "dirpath": callback.dirpath,
        "best_model_path": here(state["best_model_path"]),
        "kth_best_model_path": here(state["kth_best_model_path"]),
        "best_k_models": {here(path): score for path, score in state["best_k_models"].items()},
    }
