"""The scores that results hold: what each is called, its unit, and whether higher is better."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """One figure of merit.

    Attributes:
        label: for tables and axes.
        mode: ``max`` where higher is better, else ``min``.
        percent: whether its fraction is shown as a percentage.
    """

    label: str
    mode: str
    percent: bool = False

    @property
    def factor(self) -> int:
        """From the fraction in ``results.json`` to what is shown."""
        return 100 if self.percent else 1

    @property
    def axis(self) -> str:
        """The label of an axis, with its unit."""
        return f"{self.label}, %" if self.percent else self.label


SCORES = {
    "acc": Score("accuracy", "max", percent=True),
    "balanced_acc": Score("balanced accuracy", "max", percent=True),
    "macro_f1": Score("macro-F1", "max", percent=True),
    "auroc": Score("AUROC (one-vs-rest)", "max", percent=True),
    "nll": Score("negative log-likelihood", "min"),
    "ece": Score("calibration error (15 bins)", "min", percent=True),
    "rmse": Score("RMSE (mean over tasks)", "min"),
    "mse": Score("MSE (mean over tasks)", "min"),
    "mae": Score("MAE (mean over tasks)", "min"),
    "rmse_pooled": Score("RMSE (over all queries)", "min"),
    **{f"ndcg{rows}": Score(f"nDCG@{rows}", "max") for rows in (1, 3, 5)},
    **{f"ndcg{rows}_constant": Score(f"nDCG@{rows} (constant)", "max") for rows in (1, 3, 5)},
    "r2": Score("R2 (around task means)", "max"),
    "loss": Score("loss", "min"),
}


def score(name: str) -> Score:
    """The score of that name; one that this project does not know is shown under its name, and higher is better."""
    return SCORES.get(name, Score(name, "max"))


def formatted(name: str, figure: float, sign: str = "", fewer: int = 0) -> str:
    """A figure as it is shown, without its unit: ``92.34`` for a fraction that is shown in percent, ``0.7461`` otherwise.

    Args:
        name: of the score.
        figure: as in ``results.json``.
        sign: ``+`` shows the sign of a positive figure too.
        fewer: digits that are left out.
    """
    shown = score(name)
    return f"{shown.factor * figure:{sign}.{(2 if shown.percent else 4) - fewer}f}"


def with_interval(name: str, mean: float, ci95: float) -> str:
    """A mean with its half width and unit, as in ``92.34 ± 0.51 %``; one task alone has no interval."""
    unit = " %" if score(name).percent else ""
    if math.isnan(ci95):
        return f"{formatted(name, mean)}{unit}, no interval"
    return f"{formatted(name, mean)} ± {formatted(name, ci95)}{unit}"
