"""A search space in the words of Hydra's command line, as Optuna's distributions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from fewshot.errors import UserError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def search_space(overrides: Sequence[Override]) -> tuple[list[str], dict[str, "BaseDistribution"]]:
    """What stays the same in every trial, and what each varied key is drawn from.

    Raises:
        UserError: nothing is varied, or an interval cannot be.
    """
    last = {override.get_key_element(): override for override in overrides}
    fixed = [f"{key}={given.get_value_element_as_str()}" for key, given in last.items() if not given.is_sweep_override()]
    varied = {key: _distribution(given) for key, given in last.items() if given.is_sweep_override()}
    if not varied:
        raise UserError("an Optuna study varies nothing; give a key values, as in model.inner.lr=interval(0.01,1)")
    return fixed, varied


def in_words(distribution: "BaseDistribution") -> str:
    """A distribution as it is written on the command line."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return f"choice({','.join(map(str, distribution.choices))})"
    if not isinstance(distribution, FloatDistribution | IntDistribution):
        return str(distribution)
    interval = f"interval({distribution.low},{distribution.high})"
    return f"tag(log,{interval})" if distribution.log else interval


def _distribution(override: Override) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        low, high, log = sweep.start, sweep.end, "log" in sweep.tags
        if low is None or high is None or low > high or (log and low <= 0):
            raise UserError(
                f"{override.input_line} is no interval; give (LOW,HIGH) with LOW < HIGH, and 0 < LOW for a log scale"
            )
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(low, high, log=log)
    if isinstance(sweep, RangeSweep):
        values = [float(value) for value in sweep.range()]
        if all(value.is_integer() for value in (*values, float(sweep.step))):
            return IntDistribution(int(min(values)), int(max(values)), step=abs(int(sweep.step)))
        return FloatDistribution(min(values), max(values), step=abs(float(sweep.step)))
    return CategoricalDistribution(list(override.sweep_string_iterator()))  # as text, so that lists and choices are values too
