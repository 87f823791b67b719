"""Sets up the process that a run lives in: its seed, its memory allocator, and a console free of other libraries' remarks."""

import ctypes
import logging
import os
import secrets
import sys
import warnings

import lightning as L
import torch
from omegaconf import DictConfig

from fewshot.runtime.config_check import LARGEST_SEED

# mallopt's parameters, malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def set_up_process(cfg: DictConfig) -> None:
    """Seeds everything, drawing `cfg.seed` first where it is null, and quietens the console."""
    if cfg.seed is None:
        cfg.seed = secrets.randbelow(LARGEST_SEED + 1)
    if cfg.threads is not None:
        torch.set_num_threads(cfg.threads)
    L.seed_everything(cfg.seed, workers=True, verbose=False)
    keep_freed_memory()
    quieten()


def keep_freed_memory() -> None:
    """Makes glibc keep large freed blocks for the next step instead of handing them to the kernel after every free.

    An inner loop on a CPU spends much of its time on the page faults of getting them back. All threads share one heap, so that
    what one has freed serves another. Results do not change.
    """
    if sys.platform != "linux" or "MALLOC_MMAP_MAX_" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(M_TOP_PAD, 2**28)


def quieten() -> None:
    """Silences messages of other libraries that no user of this project needs to act on; each by its text."""
    # learn2learn imports Lightning a second time under its older name, whose messages come twice then.
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning"):
        for logger in (name, f"{name}.utilities.rank_zero"):
            logging.getLogger(logger).setLevel(logging.WARNING)
    logging.getLogger("matplotlib.font_manager").setLevel(logging.WARNING)  # remarks on its cache at first use
    for message in (
        r".*does not have many workers.*",  # gathering a meta-batch takes a millisecond
        r".*Experiment logs directory .* exists and is not empty.*",  # it is the run's own folder
        r".*Checkpoint directory .* exists and is not empty.*",
        r"The dirpath has changed from .*",  # a run that was moved goes on where it lies
        r".*callbacks used to create the checkpoint need to be provided.*",  # eval.py needs only the weights
        r".*It is recommended to use `self.log\(.*sync_dist=True\)`.*",  # every process has computed the same figure
        r".*GPU available but not used.*",
        r".*`srun` command is available on your system but is not used.*",  # on a cluster's login node
        r".*Found .* module.* in eval mode.*",
        r"The \.grad attribute of a Tensor that is not a leaf.*",  # learn2learn with recurrent layers
        r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",  # lightning with torch 2.9 and later
    ):
        warnings.filterwarnings("ignore", message=message)
