"""Lightning's limits on batches: refused before training where they leave nothing to measure, kept over an interruption."""

from collections.abc import Mapping

import lightning as L
from omegaconf import DictConfig

from fewshot.errors import UserError


def require_limits(cfg: DictConfig, tasks: Mapping[str, int]) -> None:
    """Refuses limits of a training run that cannot be kept.

    Args:
        tasks: in the list of each split, ``val`` and ``test``.

    Raises:
        UserError: nothing would be measured, or tasks would repeat.
    """
    epochs = cfg.trainer.get("max_epochs")
    if isinstance(epochs, int) and epochs > 1 and not cfg.trainer.get("overfit_batches"):
        raise UserError(
            f"trainer.max_epochs={epochs} but one epoch is the whole run: tasks never repeat; set trainer.max_steps"
        )
    if cfg.test:
        require_batches(cfg, "test", tasks["test"])
    if not cfg.test or cfg.trainer.get("limit_val_batches") != 0:  # 0 is not to validate, and to test the last weights
        require_batches(cfg, "val", tasks["val"])


def require_batches(cfg: DictConfig, split: str, tasks: int) -> None:
    """Refuses a limit that leaves no meta-batch of a split.

    Raises:
        UserError: it does.
    """
    key, batches = f"limit_{split}_batches", -(-tasks // cfg.data.meta_batch_size)
    limit = cfg.trainer.get(key)
    if isinstance(limit, int | float) and (limit * batches if isinstance(limit, float) else limit) < 1:
        remedy = ", or set test=false" if split == "test" else ""
        raise UserError(f"trainer.{key}={limit} leaves none of {batches} meta-batches to measure; raise it{remedy}")


def steps_left(trainer: L.Trainer, done: int) -> int:
    """Meta-batches that a run which goes on may still draw, of those that ``trainer.limit_train_batches`` allows in all."""
    limit = trainer.limit_train_batches
    total = int(limit * trainer.max_steps) if isinstance(limit, float) else limit
    return max(0, total - done)
