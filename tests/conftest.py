"""What tests share: one thread, one tiny config, one tiny data module."""

import gc
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from fewshot.data.datamodule import EpisodicDataModule
from tests.toy import EvalTasks, Toy, parts

pytest_plugins = ["tests.budget"]
ROOT = Path(__file__).parents[1]
os.environ.setdefault("FEWSHOT_ROOT", str(ROOT))
torch.set_num_threads(1)
torch.ones((), requires_grad=True).backward()  # the first: were it one of torch.export, no process could be forked any more


def pytest_collection_finish() -> None:
    """Takes what has been imported and collected, millions of objects, out of the garbage collector's rounds."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Gives it back, for the interpreter's end."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data, where the environment says there are any."""
    folder = os.environ.get("FEWSHOT_DATA_DIR")
    if folder is None:
        pytest.skip("FEWSHOT_DATA_DIR names no folder with real data")
    return Path(folder)


@pytest.fixture(scope="session")
def compose_config() -> Callable[..., DictConfig]:
    """Composes the config of an experiment, `tiny` unless told otherwise, with overrides; its run lies in ``FOLDER/run``."""

    def make(folder: Path, *overrides: str, experiment: str = "tiny") -> DictConfig:
        with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
            cfg = compose(
                "train",
                [
                    f"hydra.searchpath=[file://{ROOT}/tests/configs]",
                    f"experiment={experiment}",
                    f"paths.output_dir={folder / 'run'}",
                    f"paths.cache_dir={folder / 'cache'}",
                    *overrides,
                ],
            )
        (folder / "run").mkdir(parents=True, exist_ok=True)
        return cfg

    return make


@pytest.fixture(scope="session")
def quick_config(compose_config: Callable[..., DictConfig]) -> Callable[..., DictConfig]:
    """Composes the shortest run, where the network does not matter."""
    return partial(compose_config, experiment="quick")


@pytest.fixture(scope="module")
def no_pictures() -> Iterator[None]:
    """Runs leave no pictures: drawing them takes longer than the rest of a short run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewshot.runtime.report.Report._draw", lambda *_: None)
        yield


@pytest.fixture
def toy_data(tmp_path: Path) -> Callable[..., EpisodicDataModule]:
    """A data module over `Toy`, prepared; keyword arguments replace its defaults."""

    def make(splits: tuple[str, ...] = ("train", "val", "test"), **changes: object) -> EpisodicDataModule:
        arguments: dict[str, object] = {
            "cache_dir": str(tmp_path / "cache"),
            "image_shape": [1, 16, 16],
            "mean": [0.0],
            "std": [1.0],
            "meta_batch_size": 4,
            "val_tasks": 10,
            "test_tasks": 14,
            "seed": 0,
        }
        sizes = {"source": Toy(), "ways": 3, "shots": 1, "queries": 2, "eval": EvalTasks(ways=3, shots=1, queries=4)}
        datamodule = EpisodicDataModule(**parts(sizes | arguments | changes))  # type: ignore[arg-type]
        datamodule.check(splits)
        datamodule.prepare(splits)
        return datamodule

    return make
