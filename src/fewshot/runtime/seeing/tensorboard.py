"""TensorBoard's logger for runs of one epoch."""

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger


class TensorBoard(TensorBoardLogger):
    """Leaves out ``epoch``, which Lightning adds to every entry: one epoch is the whole run. HPARAMS would show it first."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)
