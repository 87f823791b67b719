"""A check that validation and callbacks leave the network as it is."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn


class LiveNetwork(Callback):
    """Compares the parameters before and after a run's first validation, with all that callbacks do meanwhile.

    It is the first of the callbacks, so that it begins before and ends after all others.
    """

    def __init__(self) -> None:
        self._before: dict[str, tuple[nn.Parameter, Tensor]] | None = None
        self._checked = False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and not self._checked:
            self._before = {name: (parameter, parameter.detach().clone()) for name, parameter in pl_module.named_parameters()}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if self._before is not None:
            self._require_unchanged(pl_module)

    def _require_unchanged(self, model: L.LightningModule) -> None:
        before, self._before, self._checked = self._before or {}, None, True
        after = dict(model.named_parameters())
        for name in sorted(before.keys() | after.keys()):
            was, values = before.get(name, (None, None))
            now = after.get(name)
            if (
                now is not was
                or values is None
                or now is None
                or not torch.allclose(now, values, rtol=0, atol=0, equal_nan=True)
            ):
                raise RuntimeError(
                    f"validation or a callback has changed {name}: training would not go on from its own weights"
                )
