"""A worker process of a run, which `distributed.launch` starts: ``python -m fewshot.runtime.worker FOLDER/composed.yaml``."""

import logging
import sys
import time
from pathlib import Path

from omegaconf import OmegaConf

from fewshot.errors import UserError
from fewshot.runtime.cli import mistakes_explained, tolerate_any_console
from fewshot.runtime.config_files import load_config
from fewshot.runtime.console import Console
from fewshot.runtime.distributed import rank

SECONDS_BEFORE_ERROR = 2
"""What the other processes wait: a mistake that all of them find is printed by the first, which ends the others."""


def main(path: Path) -> None:
    """Runs this process's part; everything is in the config."""
    cfg = OmegaConf.create(load_config(path))
    cfg.paths.output_dir = str(path.parent)  # Hydra, which knows it, is not here
    console = logging.StreamHandler(sys.stdout)
    console.setFormatter(logging.Formatter("%(message)s"))
    console.addFilter(Console())
    file = logging.FileHandler(path.parent / "train.log", delay=True, encoding="utf-8")
    file.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    logging.basicConfig(level=logging.INFO if rank() == 0 else logging.WARNING, handlers=[console, file])
    with mistakes_explained("train"):
        from fewshot.runtime.train import run_training

        try:
            run_training(cfg, path.parent)
        except UserError:
            if rank() > 0:
                time.sleep(SECONDS_BEFORE_ERROR)
            raise


if __name__ == "__main__":
    tolerate_any_console()
    main(Path(sys.argv[1]))
