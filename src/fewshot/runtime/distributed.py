"""Starting the processes of one run, and knowing which one this is."""

import json
import logging
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fewshot.errors import UserError, check_int
from fewshot.runtime.config_files import COMPOSED


def rank() -> int:
    """This process's number among those of the run, as torchrun or Slurm has given it; 0 for a single one."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))


def started_from_outside() -> bool:
    """Whether torchrun or Slurm started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1


def wants_several(cfg: DictConfig) -> bool:
    """Whether the config asks for processes that nobody has started yet."""
    return processes_of(cfg) > 1 and not started_from_outside()


def require_shares(cfg: DictConfig) -> None:
    """Refuses task lists that leave a process without a task, and a seed that each process would draw for itself.

    Raises:
        UserError: one of these.
    """
    processes = processes_of(cfg) * int(cfg.trainer.get("num_nodes", 1))
    if processes == 1:
        return
    if "TaskParallel" not in str(OmegaConf.select(cfg, "trainer.strategy._target_")):
        raise UserError(
            f"trainer.devices={cfg.trainer.devices} needs a trainer of several processes; choose trainer=ddp or ddp_cpu"
        )
    for key in ("meta_batch_size", "val_tasks", "test_tasks"):
        if cfg.data[key] < processes:
            raise UserError(
                f"data.{key}={cfg.data[key]} leaves some of {processes} processes without a task; choose {processes} or more"
            )
    if cfg.seed is None and started_from_outside():
        raise UserError("seed=null would be drawn anew by each of the processes; set a number, as in seed=0")


def launch(folder: Path, processes: int) -> None:
    """Runs the config in `folder` with several processes on this machine, and waits for them.

    Each starts from the frozen config, whatever command line this process had. Where one fails, the others are ended within
    seconds.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from fewshot.runtime.provenance import COMMAND, command
    from fewshot.runtime.signals import Stopped

    # The process that failed has printed why.
    logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)
    os.environ[COMMAND] = json.dumps(command())
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        monitor_interval=0.1,
        signals_to_handle="SIGTERM,SIGINT,SIGUSR1",
    )
    try:
        elastic_launch(config, sys.executable)("-m", "fewshot.runtime.worker", str(folder / COMPOSED))
    except SignalException as error:
        raise Stopped(error.sigval) from error
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        raise ProcessFailedError(number, failure.exitcode) from error


class ProcessFailedError(Exception):
    """One of the run's processes ended with an error, which it has printed itself.

    Attributes:
        exit_code: of that process; negative where a signal killed it.
    """

    def __init__(self, number: int, exit_code: int) -> None:
        how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        super().__init__(f"process {number} of the run {how}; the others were ended too")
        self.exit_code = exit_code


def processes_of(cfg: DictConfig) -> int:
    """How many processes a config asks for on each machine."""
    devices: Any = cfg.trainer.devices
    if OmegaConf.is_list(devices):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        import torch

        return max(1, torch.cuda.device_count()) if cfg.trainer.accelerator in ("auto", "gpu", "cuda") else 1
    check_int("trainer.devices", devices, least=1)
    return int(devices)
