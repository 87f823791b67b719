"""How large gradients are in the inner and the outer loop, and what the second order adds."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer

from fewshot.errors import check_int
from fewshot.inner.diagnostics import inner_gradient_norms, order_cosine
from fewshot.models.maml import MAML
from fewshot.runtime.plots.loggers import boards, show_scalars


class Gradients(Callback):
    """Curves of gradient norms.

    ``train/gradients/outer`` is the meta-gradient's, over all tasks of the step and after clipping: what the optimizer gets.
    ``train/gradients/inner_step_1`` and so on are the support loss's in each adaptation step, the mean over this process's
    tasks; ``train/gradients/order_cosine`` is the cosine between the first- and the second-order meta-gradient of these tasks,
    of those of the commonest size where sizes vary.

    Args:
        every_n_steps: outer steps between looks.
        compare_orders: also compute the cosine, for about one and a half outer steps each time.
    """

    def __init__(self, every_n_steps: int, compare_orders: bool = False) -> None:
        check_int("callbacks.gradients.every_n_steps", every_n_steps, least=1)
        self._every_n_steps = every_n_steps
        self._compare_orders = compare_orders

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if not isinstance(pl_module, MAML) or not self._due(trainer):
            return
        devices = [pl_module.device] if pl_module.device.type == "cuda" else []
        with torch.random.fork_rng(devices), trainer.precision_plugin.train_step_context():
            norms = torch.cat([inner_gradient_norms(pl_module.engine_for(part), part) for part in batch]).mean(dim=0).tolist()
            curves = {f"train/gradients/inner_step_{step}": norm for step, norm in enumerate(norms, start=1)}
            largest = max(batch, key=len)
            cosine = order_cosine(pl_module.engine_for(largest), largest) if self._compare_orders else None
        if cosine is not None:
            curves["train/gradients/order_cosine"] = cosine
        show_scalars(trainer, curves, trainer.global_step)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        if not self._due(trainer):
            return
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:  # a skipped step has none
            norm = torch.nn.utils.get_total_norm(gradients)
            show_scalars(trainer, {"train/gradients/outer": float(norm)}, trainer.global_step)

    def _due(self, trainer: L.Trainer) -> bool:
        return trainer.global_step % self._every_n_steps == 0 and bool(boards(trainer))
