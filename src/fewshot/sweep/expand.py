"""From the overrides of a job to its folder, with its config composed, named and frozen."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict

from fewshot.sweep.identity import job_id
from fewshot.sweep.job import RECORD, Job


class JobExpander:
    """The jobs of one sweep.

    Args:
        config: of the sweep, with Hydra's own node.
        context: composes.
        function: ``module:function`` that a job calls with its config.
    """

    def __init__(self, config: DictConfig, context: HydraContext, function: str) -> None:
        self.folder = Path(config.hydra.sweep.dir)
        self._config = config
        self._context = context
        self._function = function

    def job(self, overrides: Sequence[str], number: int, pruner: Any = None) -> Job:
        """The job that some overrides make; its folder is the same whenever they make the same config.

        Args:
            overrides: of the command line, each with one value.
            number: of the job in its sweep, or of the trial in its study.
            pruner: config of what may give the trial up after a validation.
        """
        return self._composed(overrides, number, pruner)()

    def jobs(self, overrides: Sequence[Sequence[str]]) -> list[Job]:
        """The jobs that lists of overrides make, each once; where one cannot be composed, nothing is written of any."""
        composed = [self._composed(each, number) for number, each in enumerate(overrides)]
        return list(dict.fromkeys(frozen() for frozen in composed))

    def _composed(self, overrides: Sequence[str], number: int, pruner: Any = None) -> Callable[[], Job]:
        """A job whose config has been composed, once it is called frozen in its folder."""
        cfg = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(cfg):
            cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
            hydra = cfg.pop("hydra")
            name, group = job_id(cfg), job_id(cfg, without=("seed",))
            if "resume" in cfg:
                cfg.resume = True  # keys that do not count may differ from those of an earlier attempt
            if pruner is not None:
                about = {"folder": str(self.folder), "trial": number, "pruner": pruner}
                cfg.callbacks.prune = {"_target_": "fewshot.sweep.pruning.PruneTrial", **about}
            cfg.hydra = hydra
        text = OmegaConf.to_yaml(cfg)

        def frozen() -> Job:
            job = Job(self.folder / name)
            if job.results() is None or not (job.folder / RECORD).is_file():
                job.freeze(text, list(overrides), _command(overrides), self._function, group)
            return job

        return frozen


def _command(overrides: Sequence[str]) -> list[str]:
    """The command line of a job by itself."""
    folders = [
        argument for argument in sys.argv[1:] if argument.startswith(("--config-dir=", "--config-path=", "--config-name="))
    ]
    return [Path(sys.argv[0]).name, *folders, *overrides]
