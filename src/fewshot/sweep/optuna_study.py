"""An Optuna study as a queue for a launcher: trials are asked for when there is a place, and told when their job has ended."""

import logging
import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from filelock import FileLock

from fewshot.errors import UserError, suggest
from fewshot.evaluation.scores import score
from fewshot.sweep.expand import JobExpander
from fewshot.sweep.export_best import write_experiment
from fewshot.sweep.job import Job, State
from fewshot.sweep.journal import STUDY, journal
from fewshot.sweep.report import console, counted
from fewshot.sweep.search_space import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

DIRECTIONS = ("maximize", "minimize")
FIGURES = (
    "val/acc", "val/acc_before", "val/acc_ci95", "val/rmse", "val/rmse_before", "val/rmse_ci95", "val/mse",
    "val/mae", "val/loss",
    "cost/train_seconds", "cost/train_tasks", "cost/train_tasks_per_second", "cost/total_seconds", "cost/skipped_steps",
    "cost/peak_rss_bytes", "cost/peak_device_bytes",
)  # fmt: skip
"""What a study may be about. Models without adaptation have no ``val/acc_before``, machines without a GPU no device memory."""


def require_optuna() -> None:
    """Refuses to go on where Optuna is missing.

    Raises:
        UserError: it is.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise UserError("sweep=optuna needs the extra 'optuna'; install it with: uv sync --extra optuna") from error
    optuna.logging.set_verbosity(logging.WARNING)


def better_direction(name: str) -> str:
    """Where a figure is better: scores know it, and costs are better low, but for tasks a second."""
    kind = name.partition("/")[2].removesuffix("_before").removesuffix("_ci95")
    if name.endswith("_ci95") or (name.startswith("cost/") and kind != "train_tasks_per_second"):
        return "minimize"
    return "maximize" if score(kind).mode == "max" else "minimize"


def check_objectives(objectives: Sequence[str], directions: Sequence[str]) -> None:
    """Refuses what nothing may be chosen by.

    Raises:
        UserError: that is so.
    """
    if not objectives or len(objectives) != len(directions):
        raise UserError(
            f"hydra.sweeper.directions has {len(directions)} for {len(objectives)} of hydra.sweeper.objectives; give each one"
        )
    for direction in directions:
        if direction not in DIRECTIONS:
            raise UserError(f"hydra.sweeper.directions={direction} is unknown{suggest(str(direction), DIRECTIONS)}")
    for name in objectives:
        if name.startswith("test/"):
            raise UserError(
                f"hydra.sweeper.objectives={name}: nothing is chosen on test classes; choose a figure of val/ or cost/"
            )
        if name not in FIGURES:
            raise UserError(f"hydra.sweeper.objectives={name} is no figure of results.json{suggest(name, FIGURES)}")


def open_study(folder: Path, objectives: Mapping[str, str], space: "Mapping[str, BaseDistribution]") -> "Study":
    """The study in a sweep's folder, begun or gone on with.

    Raises:
        UserError: one with other objectives lies there, or one that draws a key from other values.
    """
    import optuna

    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=journal(folder),
        study_name=STUDY,
        directions=["maximize" if direction == "maximize" else "minimize" for direction in objectives.values()],
        load_if_exists=True,
    )
    known = study.user_attrs.get("objectives", dict(objectives))
    if list(known.values()) != list(objectives.values()) or (known != dict(objectives) and study.best_trials):
        raise UserError(f"{folder} holds a study of {known}, not of {dict(objectives)}; choose another hydra.sweep.dir")
    study.set_user_attr("objectives", dict(objectives))
    _require_same_values(study, folder, space)
    return study


def _require_same_values(study: "Study", folder: Path, space: "Mapping[str, BaseDistribution]") -> None:
    """Refuses other choices, or another kind of numbers, than earlier trials have drawn from: Optuna cannot go on with them."""
    for trial in study.get_trials(deepcopy=False):
        for key in trial.distributions.keys() & space.keys():
            before, now = trial.distributions[key], space[key]
            if not _compatible(before, now):
                raise UserError(
                    f"{key} is drawn from {in_words(now)}, but the study in {folder} draws it from {in_words(before)}; "
                    "give the same, or choose another hydra.sweep.dir"
                )


def _compatible(before: "BaseDistribution", now: "BaseDistribution") -> bool:
    from optuna.distributions import check_distribution_compatibility

    try:
        check_distribution_compatibility(before, now)
    except ValueError:
        return False
    return True


def sampler_of(config: Any, trial: int) -> "BaseSampler | None":
    """The sampler that draws a trial; None for Optuna's default.

    A seed is moved on with the trial's number. With one sampler for each command, a study that is gone on with, or that two
    machines share, would draw its first trials again.

    Args:
        config: of a sampler, with its ``_target_``.
        trial: number of the trial.
    """
    from hydra.utils import instantiate

    if config is None:
        return None
    seed = config.get("seed")
    # what these two draw is a place in an order that the seed makes, and the study knows which places are taken
    in_order = str(config["_target_"]).endswith(("GridSampler", "QMCSampler"))
    moved = {} if seed is None or in_order else {"seed": (int(seed) + trial) % 2**32}
    sampler: BaseSampler = instantiate(config, **moved)
    return sampler


@dataclass
class StudyQueue:
    """The trials of a study, up to a number that includes those of earlier commands and of others.

    Attributes:
        space: what each varied key is drawn from.
        fixed: overrides of every trial.
        trials: how many there are to be.
        sampler: the config of a sampler; None for Optuna's default.
        pruned_by: the config of a pruner that a job asks after each validation; None for none.
    """

    study: "Study"
    expander: JobExpander
    space: "dict[str, BaseDistribution]"
    fixed: Sequence[str]
    trials: int
    sampler: Any = None
    pruned_by: Any = None

    def __post_init__(self) -> None:
        self._jobs: dict[int, Job] = {}
        self._stopped: set[int] = set()
        self._running_here: set[Job] = set()

    def open(self) -> bool:
        trials = self.study.get_trials(deepcopy=False)
        return len(trials) < self.trials or any(self._unfinished(trial) for trial in trials)

    def next(self) -> Job | None:
        with self._alone():
            for trial in self.study.get_trials(deepcopy=False):
                if self._unfinished(trial) and self._is_to_start(trial.number):
                    return self._hand_out(trial.number)
            while (begun := len(self.study.get_trials(deepcopy=False))) < self.trials:
                if self.sampler is not None:
                    self.study.sampler = sampler_of(self.sampler, begun)
                number = self.study.ask(self.space).number
                if self._is_to_start(number):
                    return self._hand_out(number)
        return None

    def ended(self, job: Job) -> None:
        self._running_here.discard(job)
        with self._alone():
            for number, its in self._jobs.items():
                if its == job and job.state() in (State.INTERRUPTED, State.WAITING):
                    self._stopped.add(number)  # somebody wanted it to stop
                elif its == job and self._unfinished(self.study.get_trials(deepcopy=False)[number]):
                    self._is_to_start(number)

    def jobs(self) -> list[Job]:
        """Those of all trials, each once."""
        trials = self.study.get_trials(deepcopy=False)
        return list(dict.fromkeys(Job(self.expander.folder / t.user_attrs["job"]) for t in trials if "job" in t.user_attrs))

    def _unfinished(self, trial: "FrozenTrial") -> bool:
        return not trial.state.is_finished() and trial.number not in self._stopped

    def _hand_out(self, number: int) -> Job:
        job = self._jobs[number]
        self._running_here.add(job)
        return job

    def _is_to_start(self, number: int) -> bool:
        """Whether a trial's job has to be started; if it has ended, the study is told how."""
        from optuna.trial import TrialState

        if number not in self._jobs:
            self._jobs[number] = self._job_of(number)
        job = self._jobs[number]
        state = job.state()
        if state in (State.RUNNING, State.WAITING, State.INTERRUPTED):
            return state != State.RUNNING and job not in self._running_here
        values = objectives_of(job, self.study.user_attrs["objectives"]) if state == State.COMPLETED else None
        if values is not None:
            self.study.tell(number, values)
        else:
            self.study.tell(number, state=TrialState.PRUNED if state == State.PRUNED else TrialState.FAIL)
        return False

    def _job_of(self, number: int) -> Job:
        """The job that a trial's parameters make."""
        from optuna import Trial

        trial = Trial(self.study, self.study.get_trials(deepcopy=False)[number]._trial_id)
        drawn = [f"{key}={_suggest(trial, key, distribution)}" for key, distribution in self.space.items()]
        job = self.expander.job([*self.fixed, *drawn], number, pruner=self.pruned_by)
        trial.set_user_attr("job", job.name)
        return job

    @contextmanager
    def _alone(self) -> "Iterator[None]":
        """While no other process asks this study for a trial."""
        with FileLock(self.expander.folder / ".study.lock"):
            yield


def objectives_of(job: Job, objectives: Mapping[str, str]) -> list[float] | None:
    """The figures of a complete job that a study is about; None where one is no number.

    Raises:
        UserError: the job has no such figure, so no other trial will.
    """
    results = job.results()
    if results is None:
        return None
    figures = {**results["metrics"], **{f"cost/{name}": value for name, value in results["cost"].items()}}
    for name in objectives:
        if name not in figures:
            known = ", ".join(figure for figure in FIGURES if figure in figures)
            raise UserError(f"hydra.sweeper.objectives={name} is not in {job.folder}/results.json; choose one of: {known}")
    values = [figures[name] for name in objectives]
    return None if any(not isinstance(value, int | float) or math.isnan(value) for value in values) else values


def _suggest(trial: "Trial", key: str, distribution: "BaseDistribution") -> Any:
    """The value that a trial has for a key; one that was killed before it had all is given the rest."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, FloatDistribution):
        return trial.suggest_float(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    if isinstance(distribution, IntDistribution):
        return trial.suggest_int(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
    return trial.suggest_categorical(key, cast(CategoricalDistribution, distribution).choices)


def print_study(study: "Study", folder: Path) -> None:
    """Prints what came of a study, and writes its best config, or each of its front, as an experiment file."""
    from optuna.trial import TrialState

    out = console()
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    count = ", ".join(f"{states.count(state)} {state.name.lower()}" for state in TrialState if state in states)
    out.print(f"{counted(len(states), 'trial')}: {count}")
    if TrialState.COMPLETE not in states:
        return
    best = study.best_trials
    for trial in best:
        name = "best" if len(best) == 1 else f"best-{trial.number}"
        figures = zip(study.user_attrs["objectives"], trial.values, strict=True)
        says = f"Trial {trial.number} of a study: " + ", ".join(f"{figure} {value:.6g}" for figure, value in figures)
        more = write_experiment(Job(folder / trial.user_attrs["job"]), folder / f"experiment/{name}.yaml", f"{says}.")
        command = shlex.join(["python", "train.py", f"--config-dir={folder}", f"experiment={name}", *more])
        out.print(f"{says}; {command}", markup=False, soft_wrap=True)
