"""The main job: train a model on tasks, keep the best of its checkpoints, test it on unseen classes."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig

from fewshot.data.datamodule import EpisodicDataModule
from fewshot.errors import UserError
from fewshot.evaluation.results import metrics_of
from fewshot.evaluation.table import print_summary, task_text
from fewshot.models.base import MetaLearner
from fewshot.models.fits_rows import FitsRows
from fewshot.predict.calibration import calibrate
from fewshot.predict.unknown_tasks import require_unknown_classes, unknown_metrics
from fewshot.runtime.build import (
    build_data,
    build_model,
    build_trainer,
    check_optimizer,
    for_checkpoint,
    plain,
    pretrained_on,
    require_objective,
)
from fewshot.runtime.callbacks import SaveLast, StopWhenAsked, Throughput, get_callback, refuse_unfit
from fewshot.runtime.checkpoints import BEST, read_checkpoint
from fewshot.runtime.config_check import check_config
from fewshot.runtime.controls import train_with_controls
from fewshot.runtime.distributed import launch, processes_of, rank, require_shares, started_from_outside, wants_several
from fewshot.runtime.environment import set_up_process
from fewshot.runtime.features import use_features, warn_of_random_features
from fewshot.runtime.initial_weights import InitialWeights
from fewshot.runtime.limits import require_limits, steps_left
from fewshot.runtime.live_network import LiveNetwork
from fewshot.runtime.plots.hparams import show_config
from fewshot.runtime.progress_lines import ProgressLines
from fewshot.runtime.provenance import command_to_continue, sha256
from fewshot.runtime.report import Report, train_cost
from fewshot.runtime.resume import Resume, require_same_images, require_same_source, restore_finished
from fewshot.runtime.run_folder import find_checkpoint, lock, results_of, write_config
from fewshot.runtime.signals import Stopped, StopRequest
from fewshot.runtime.source_history import SourceHistory
from fewshot.runtime.trial import try_out

log = logging.getLogger(__name__)


def train(cfg: DictConfig) -> dict[str, float]:
    """Runs a composed config to its end, or on from where an earlier process of the same run stopped.

    Everything that can be found wrong without decoding an image or taking a step is found first.

    Returns:
        the metrics of ``results.json``.

    Raises:
        UserError: config, data or files are not as they must be.
    """
    check_config(cfg)  # the command line has done so; a caller in Python has not
    folder = Path(cfg.paths.output_dir)
    if started_from_outside() and rank() > 0 and cfg.control != "all":  # the first process holds the folder
        return {} if results_of(cfg, folder) else run_training(cfg, folder)
    with _with_command_to_continue(folder):
        return train_with_controls(cfg, _train) if cfg.control == "all" else _train(cfg)


def _train(cfg: DictConfig) -> dict[str, float]:
    """One run, where no other process holds its folder."""
    folder = Path(cfg.paths.output_dir)
    with lock(folder):
        results = results_of(cfg, folder)
        if results is not None:
            log.info(f"This run is complete: {folder / 'results.json'}; trainer.max_steps=N resume=true makes it longer")
            metrics, test, protocol, cost = (results[name] for name in ("metrics", "test", "protocol", "cost"))
            cut_short, controls = results.get("cut_short", []), results.get("controls")
            print_summary(metrics, test, protocol, cost, str(folder), cut_short, controls)
            return dict(results["metrics"])
        if not wants_several(cfg):
            return run_training(cfg, folder)
        require_shares(cfg)
        checkpoint = find_checkpoint(cfg, folder)  # takes over a seed that was drawn
        set_up_process(cfg)
        check(cfg, checkpoint)
        write_config(cfg, folder, fresh=checkpoint is None)
        launch(folder, processes_of(cfg))
    return {}


@contextmanager
def _with_command_to_continue(folder: Path) -> Iterator[None]:
    """Adds the command that continues the run to the message of its stop."""
    try:
        yield
    except Stopped as stopped:
        stopped.args = (f"{stopped}; go on with\n{command_to_continue(folder)}",)
        raise


def check(cfg: DictConfig, checkpoint: dict[str, Any] | None) -> tuple[EpisodicDataModule, MetaLearner, InitialWeights]:
    """Builds what a config describes, and finds the mistakes that can be found by that.

    Args:
        checkpoint: that the run continues from; None where it begins.

    Returns:
        the data module, checked but not prepared; the model; where its weights start from.

    Raises:
        UserError: config or data are not as they must be.
    """
    refuse_unfit(cfg.callbacks)
    initial, of_model = InitialWeights(), cfg if checkpoint is None else for_checkpoint(cfg)
    with isolate_rng():
        draft = build_model(of_model)  # a model that does not fit is refused before its tasks are looked at
    datamodule = build_data(cfg)
    if cfg.init_from is not None:
        start = checkpoint or initial.read(cfg.init_from)
        datamodule.started_from = start.get(type(datamodule).__qualname__)
    require_objective(datamodule, draft)
    require_limits(cfg, datamodule.tasks)
    datamodule.pretrained_on = pretrained_on(draft)
    datamodule.check(_splits(cfg))
    require_unknown_classes(datamodule, "test", _unknown_ways(cfg))
    model = build_model(of_model, datamodule.classes.get("train", 0))
    try_out(of_model, model)
    if cfg.control != "random_init":
        warn_of_random_features(model, cfg.init_from)
    if checkpoint is None:
        initial.load_into(model, cfg.init_part)
    if cfg.control != "random_init" and model.takes_outer_steps:
        check_optimizer(model, cfg.trainer.max_steps)
    return datamodule, model, initial


def run_training(cfg: DictConfig, folder: Path) -> dict[str, float]:
    """What each process of a run does."""
    started = time.perf_counter()
    request = StopRequest()
    with request.listening():
        require_shares(cfg)
        checkpoint = find_checkpoint(cfg, folder)
        set_up_process(cfg)
        datamodule, model, initial = check(cfg, checkpoint)
        trainer = _new_trainer(cfg, checkpoint, request, initial)
        if checkpoint is not None:
            require_same_source(checkpoint, datamodule)
            model.on_load_checkpoint(checkpoint)
        datamodule.prepare(_splits(cfg))
        if checkpoint is not None:
            require_same_images(checkpoint, datamodule)
        use_features(model, datamodule, trainer.strategy.root_device, checkpoint and checkpoint["state_dict"])
        if rank() == 0:
            write_config(cfg, folder, fresh=checkpoint is None)
        done = datamodule.first_step = checkpoint["global_step"] if checkpoint else 0
        _announce(cfg, datamodule, model, folder, done)
        show_config(trainer, cfg, done)

        if isinstance(model, FitsRows) and checkpoint is None and cfg.init_from is None and cfg.control != "random_init":
            model.fit_rows(datamodule.rows_of("train"))
        if cfg.val_at_start and not done:
            trainer.validate(model, datamodule, verbose=False)
            scores = model.scores["val"]
            log.info(f"Before training: val/{scores.monitor} {scores.final.mean:.4f}")
        if checkpoint is not None and (done == trainer.max_steps or get_callback(trainer, SaveLast).has_ended(checkpoint)):
            restore_finished(checkpoint, trainer, model)
        elif cfg.control != "random_init":
            _fit(trainer, model, datamodule)
        return _conclude(cfg, folder, datamodule, model, trainer, started)


def _new_trainer(cfg: DictConfig, checkpoint: dict[str, Any] | None, request: StopRequest, initial: InitialWeights) -> Any:
    """The config's trainer, with the callbacks that every run has beside the config's."""
    done = checkpoint["global_step"] if checkpoint else 0
    trainer: Any = build_trainer(cfg, first_step=done)
    if checkpoint is not None and not cfg.trainer.get("overfit_batches"):
        trainer.limit_train_batches = steps_left(trainer, done)
    last = get_callback(trainer, SaveLast)
    last.conditions = sha256({"trainer": plain(cfg.trainer, resolve=False), "callbacks": plain(cfg.callbacks, resolve=False)})
    for needed in (Throughput, ModelCheckpoint):
        get_callback(trainer, needed)
    resume = [] if checkpoint is None else [Resume(checkpoint, trainer.max_steps)]
    trainer.callbacks = [
        *resume,
        LiveNetwork(),
        StopWhenAsked(request, last),
        SourceHistory(),
        initial,
        *trainer.callbacks,
        ProgressLines(),  # after what keeps the best checkpoint
    ]
    return trainer


def _fit(trainer: Any, model: MetaLearner, datamodule: EpisodicDataModule) -> None:
    """Trains the model; one that takes no outer step is validated and kept as the best."""
    if model.takes_outer_steps:
        trainer.fit(model, datamodule)
        return
    trainer.validate(model, datamodule, verbose=False)
    best = get_callback(trainer, ModelCheckpoint)
    best.best_model_path = str(Path(best.dirpath or "") / BEST)
    trainer.save_checkpoint(best.best_model_path)
    get_callback(trainer, SaveLast).on_train_end(trainer, model)


def _conclude(
    cfg: DictConfig, folder: Path, datamodule: EpisodicDataModule, model: MetaLearner, trainer: Any, started: float
) -> dict[str, float]:
    """Tests the best checkpoint and reports."""
    cost = train_cost(trainer, started)
    path = get_callback(trainer, ModelCheckpoint).best_model_path or None
    kept: dict[str, Any] = read_checkpoint(Path(path))["fewshot"] if path else {"val_metrics": {}, "val_tasks": 0}
    if cfg.test:
        trainer.test(model, datamodule, ckpt_path=path, verbose=False)
    else:
        trainer.validate(model, datamodule, ckpt_path=path, verbose=False)
        if path is None:
            kept = {"val_metrics": metrics_of("val", model.scores["val"]), "val_tasks": len(model.scores["val"].index)}
    if rank() > 0:
        return {}
    report = Report(
        cfg,
        folder,
        datamodule,
        model,
        trainer,
        split="test" if cfg.test else "val",
        training={
            **datamodule.parts["train"].description,
            "meta_batch_size": datamodule.meta_batch_size,
            "steps": trainer.global_step,
            "checkpoint": "best" if path else None,
        },
        max_steps=0 if cfg.control == "random_init" or not model.takes_outer_steps else cfg.trainer.max_steps,
        val_metrics=kept["val_metrics"],
        val_tasks=kept.get("val_tasks", datamodule.tasks["val"]),
        earlier_sources=get_callback(trainer, SourceHistory).earlier,
        initial_weights=get_callback(trainer, InitialWeights).origin,
        cost={**cost, "skipped_steps": model.skipped_steps},
        unknown=unknown_metrics(datamodule, model, trainer.strategy.root_device, _unknown_ways(cfg)),
    )
    try:
        if path and cfg.calibration_tasks:
            _calibrate(cfg, folder, datamodule, str(trainer.strategy.root_device))
    finally:  # the results come last, since they say that the run is complete, and whatever goes wrong here does not cost them
        metrics = report.write()
    return metrics


def _calibrate(cfg: DictConfig, folder: Path, datamodule: EpisodicDataModule, device: str) -> None:
    """Fits what predict.py needs; a run whose model it cannot read is complete all the same."""
    try:
        calibrate(folder, datamodule, cfg.calibration_tasks, device)
    except UserError as error:
        log.warning(f"No calibration.json: {error}")


def _unknown_ways(cfg: DictConfig) -> int:
    """Classes that a test adds to each task; functions have none."""
    ways: int = cfg.data.eval.get("unknown_ways", 0) if cfg.test else 0
    return ways


def _splits(cfg: DictConfig) -> list[str]:
    return ["train", "val", "test"] if cfg.test else ["train", "val"]


def _announce(cfg: DictConfig, datamodule: EpisodicDataModule, model: MetaLearner, folder: Path, done: int) -> None:
    size, description = datamodule.parts["train"].description, model.description
    steps = f"{_counted(cfg.trainer.max_steps, 'outer step')} of {_counted(datamodule.meta_batch_size, 'task')}"
    log.info(
        f"{description['model']} · {description['backbone']} ({description['parameters']:,} parameters) · "
        f"{datamodule.parts['train'].name} · {task_text(size)} · "
        f"{steps if model.takes_outer_steps else 'no outer step'} · seed {cfg.seed}"
    )
    if cfg.control is not None:
        log.info(f"Control: {cfg.control}")
    if done:
        log.info(f"Continuing after outer step {done:,}")
    log.info(f"Results: {folder}")


def _counted(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
