"""What Hydra finds here when it starts: launchers, a sweeper, and the name of a sweep's folder.

Hydra imports this file for every command, so what sweeps alone need is imported where it is used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.core_plugins import basic_sweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import DictConfig, OmegaConf

from fewshot.errors import UserError, check_int
from fewshot.sweep.identity import name_suffix, sweep_name

if TYPE_CHECKING:
    from fewshot.sweep.pool import Machine

OmegaConf.register_new_resolver("name_suffix", name_suffix, replace=True)
OmegaConf.register_new_resolver("sweep_name", sweep_name, replace=True)


class JobsLauncher(Launcher):
    """Runs the jobs of a sweep, each in a process of its own, on the machine of a subclass."""

    @abstractmethod
    def machine(self, folder: Path) -> Machine:
        """Where the jobs of the sweep in a folder run."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from fewshot.sweep.expand import JobExpander

        if config.hydra.sweeper.get("max_batch_size") is not None:
            raise UserError("hydra.sweeper.max_batch_size would end the sweep with its first batch; set hydra.launcher.jobs")
        self.expander = JobExpander(config, hydra_context, task_function.job)  # type: ignore[attr-defined]  # see runtime.cli

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from fewshot.sweep.conclusion import conclude
        from fewshot.sweep.launch import run_jobs

        machine = self.machine(self.expander.folder)
        jobs = self.expander.jobs(job_overrides)
        run_jobs(jobs, self.expander.folder, machine)
        conclude(self.expander.folder, jobs)
        return [JobReturn(working_dir=str(job.folder), status=JobStatus.COMPLETED) for job in jobs]


class LocalLauncher(JobsLauncher):
    """Runs jobs on this machine.

    Args:
        jobs: at once; null for one per GPU, or one per core where there is no GPU.
    """

    def __init__(self, jobs: int | None) -> None:
        self._at_once = jobs

    def machine(self, folder: Path) -> Machine:
        from fewshot.sweep.launch import this_machine

        return this_machine(self._at_once)


class SlurmLauncher(JobsLauncher):
    """Runs jobs on a Slurm cluster.

    Args:
        jobs: in the queue at once.
        parameters: of ``submitit.AutoExecutor``.
    """

    def __init__(self, jobs: int, parameters: DictConfig) -> None:
        self._at_once = jobs
        self._parameters = parameters

    def machine(self, folder: Path) -> Machine:
        from fewshot.sweep.launch import slurm

        return slurm(folder, self._at_once, OmegaConf.to_container(self._parameters))  # type: ignore[arg-type]


class GridSweeper(basic_sweeper.BasicSweeper):  # Hydra has no public name for its own sweeper
    """Every combination of the values on the command line."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Composes each job, unless the launcher does so before it starts the first."""
        if not isinstance(self.launcher, JobsLauncher):
            super().validate_batch_is_legal(batch)


class CrossValidationSweeper(Sweeper):
    """Every combination of the values on the command line, on every fold of its data.

    Args:
        params: key -> values, as on the command line, for keys that it does not name.
    """

    def __init__(self, params: DictConfig) -> None:
        self._params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._loader, self._config = hydra_context.config_loader, config
        self._launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> Sequence[JobReturn]:
        from fewshot.sweep.folds import on_every_fold

        preset = [f"{key!s}={values}" for key, values in self._params.items()]
        overrides = OverridesParser.create(self._loader).parse_overrides([*preset, *arguments])
        (jobs,) = basic_sweeper.BasicSweeper.split_arguments(overrides, None)
        return self._launcher.launch(on_every_fold(jobs, self._compose), initial_job_idx=0)

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        """Unlike that of ``load_sweep_config``, the config has the choices of this job, not those of its sweep."""
        hydra = self._config.hydra
        return self._loader.load_configuration(
            hydra.job.config_name, [*hydra.overrides.hydra, *overrides], run_mode=RunMode.RUN
        )


class OptunaSweeper(Sweeper):
    """Lets Optuna choose the values of a sweep, by what earlier jobs came to.

    Args:
        trials: in all, over every time that the command is typed.
        objectives: figures of ``results.json``.
        directions: of each, maximize or minimize; None takes the better one of each score.
        sampler: config of an Optuna sampler; null for Optuna's default.
        pruner: config of an Optuna pruner; null for none.
        params: key -> values, as on the command line.
        optional: those of `params` that are left out where a config has no such key.
    """

    def __init__(
        self,
        trials: int,
        objectives: list[str],
        directions: list[str] | None,
        sampler: Any,
        pruner: Any,
        params: DictConfig,
        optional: list[str],
    ) -> None:
        self._trials, self._objectives, self._directions = trials, objectives, directions
        self._sampler, self._pruner = sampler, pruner
        self._params, self._optional = params, optional

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        from fewshot.sweep.optuna_study import better_direction, check_objectives, require_optuna

        require_optuna()
        check_int("hydra.sweeper.trials", self._trials, least=1)
        if self._directions is None:
            self._directions = [better_direction(name) for name in self._objectives]
        check_objectives(self._objectives, self._directions)
        self._context, self._config = hydra_context, config
        launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)
        if not isinstance(launcher, JobsLauncher):
            raise UserError(f"hydra/launcher={type(launcher).__name__} runs no study; choose launcher=serial, local or slurm")
        self._launcher = launcher

    def sweep(self, arguments: list[str]) -> None:
        from fewshot.sweep.conclusion import conclude
        from fewshot.sweep.launch import run_queue
        from fewshot.sweep.optuna_study import StudyQueue, open_study, print_study
        from fewshot.sweep.report import Labels
        from fewshot.sweep.search_space import search_space

        parser = OverridesParser.create(self._context.config_loader)
        typed = parser.parse_overrides(arguments)
        varied_groups = {each.get_key_element() for each in typed if each.is_sweep_override()}
        preset = [
            f"{key!s}={values}"
            for key, values in self._params.items()
            if key not in self._optional or (str(key).split(".")[0] not in varied_groups and self._has(str(key)))
        ]
        fixed, varied = search_space([*parser.parse_overrides(preset), *typed])
        objectives = dict(zip(self._objectives, self._directions or [], strict=True))
        one = len(objectives) == 1  # Optuna prunes by one objective only
        pruner = OmegaConf.to_container(self._pruner) if one and self._pruner is not None else None
        expander = self._launcher.expander
        machine = self._launcher.machine(expander.folder)
        study = open_study(expander.folder, objectives, varied)
        queue = StudyQueue(study, expander, varied, fixed, self._trials, self._sampler, pruner)
        run_queue(queue, machine, Labels([list(varied)], common=set(fixed)))
        print_study(study, expander.folder)
        conclude(expander.folder, queue.jobs())

    def _has(self, key: str) -> bool:
        """Whether the configs of this study have a key; its choices decide."""
        return OmegaConf.select(self._config, key, throw_on_missing=False) is not None


for _group, _name, _node in (
    ("launcher", "fewshot_local", {"_target_": f"{__name__}.LocalLauncher"}),
    ("launcher", "fewshot_slurm", {"_target_": f"{__name__}.SlurmLauncher"}),
    ("sweeper", "fewshot_grid", {"_target_": f"{__name__}.GridSweeper", "max_batch_size": None, "params": None}),
    # Sampler and pruner are built when they are needed.
    ("sweeper", "fewshot_cross_validation", {"_target_": f"{__name__}.CrossValidationSweeper"}),
    ("sweeper", "fewshot_optuna", {"_target_": f"{__name__}.OptunaSweeper", "_recursive_": False}),
):  # configs/launcher and configs/sweep have their keys
    ConfigStore.instance().store(_name, _node, group=f"hydra/{_group}")
