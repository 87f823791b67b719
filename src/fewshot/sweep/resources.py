"""What a machine has for jobs that run at once: GPUs, given out one by one, and cores, in equal shares."""

import os
import subprocess
from dataclasses import dataclass

from omegaconf import DictConfig

from fewshot.errors import UserError, check_int
from fewshot.runtime.distributed import processes_of


@dataclass(frozen=True)
class Share:
    """What one job may use.

    Attributes:
        gpus: their names, as CUDA_VISIBLE_DEVICES has them; none for a job on the CPU.
        environment: variables that keep the job to it.
    """

    gpus: tuple[str, ...]
    environment: dict[str, str]


class Resources:
    """Gives out shares of a machine and takes them back.

    Args:
        jobs: at once; None for one per GPU, or one per core where there is none.
        gpus: their names.
        cores: that this process may use.
    """

    def __init__(self, jobs: int | None, gpus: list[str], cores: int) -> None:
        if jobs is not None:
            check_int("hydra.launcher.jobs", jobs, least=1)
        self.jobs = jobs or len(gpus) or cores
        self._all = len(gpus)
        self._free = list(gpus)
        self._cores = max(1, cores // self.jobs)
        self._taken = 0

    def need(self, cfg: DictConfig) -> int:
        """How many GPUs a job takes.

        Raises:
            UserError: more than there are.
        """
        if not self._all or cfg.trainer.accelerator not in ("auto", "gpu", "cuda"):
            return 0
        need = processes_of(cfg)
        if need > self._all:
            raise UserError(
                f"trainer.devices={cfg.trainer.devices} but there are {self._all} GPUs; choose {self._all} or fewer"
            )
        return need

    def full(self) -> bool:
        """Whether as many jobs run as may."""
        return self._taken == self.jobs

    def acquire(self, cfg: DictConfig) -> Share | None:
        """A share for a job; None while there is none."""
        need = self.need(cfg)
        if self.full() or need > len(self._free):
            return None
        gpus, self._free = tuple(self._free[:need]), self._free[need:]
        self._taken += 1
        threads = str(max(1, self._cores // processes_of(cfg)))
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        return Share(gpus, environment)

    def release(self, share: Share) -> None:
        """Makes it free for the next job."""
        self._free += share.gpus
        self._taken -= 1


def gpus() -> list[str]:
    """The GPUs that this process may use, found without starting CUDA."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return listed.stdout.split()


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
