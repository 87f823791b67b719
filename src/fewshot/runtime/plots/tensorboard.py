"""TensorBoard's logger for runs of one epoch."""

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger


class TensorBoard(TensorBoardLogger):
    """Names tags so that TensorBoard, which sorts them and unfolds two groups, opens on the curves: ``train`` and ``val``.

    Left out are ``epoch``, which Lightning adds to every entry (one epoch is the whole run), and the figures of the test, which
    are shown with the other final ones.
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        shown = {_tag(name): value for name, value in metrics.items() if name != "epoch" and not name.startswith("test/")}
        super().log_metrics(shown, step)


def _tag(name: str) -> str:
    """The outer learning rate, ``lr-Adam``, is a curve of the training."""
    return f"train/{name}" if name.startswith("lr-") else name
