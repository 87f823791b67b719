"""Evaluates the checkpoint of a finished run, on its own tasks or on others."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from fewshot.errors import UserError, check_int, suggest
from fewshot.evaluation.results import metrics_of
from fewshot.models.classifier import classes_of
from fewshot.models.ensemble import Ensemble
from fewshot.predict.unknown_tasks import require_unknown_classes, unknown_metrics
from fewshot.runtime.build import build_data, build_model, build_trainer, for_checkpoint, pretrained_on, require_objective
from fewshot.runtime.checkpoints import read_checkpoint, top_checkpoints
from fewshot.runtime.config_files import COMPOSED, load_config
from fewshot.runtime.distributed import processes_of
from fewshot.runtime.environment import set_up_process
from fewshot.runtime.eval_config import training_tasks
from fewshot.runtime.features import use_features
from fewshot.runtime.initial_weights import InitialWeights
from fewshot.runtime.limits import require_batches
from fewshot.runtime.plots.hparams import show_config
from fewshot.runtime.progress_lines import ProgressLines
from fewshot.runtime.report import Report
from fewshot.runtime.run_folder import lock, write_config
from fewshot.runtime.trial import try_out

log = logging.getLogger(__name__)

SPLITS = ("test", "val")


def evaluate(cfg: DictConfig) -> dict[str, float]:
    """Runs the evaluation that a saved config and its overrides describe.

    Returns:
        the metrics of ``results.json``.

    Raises:
        UserError: the run, the config or the data are not as they must be.
    """
    if cfg.split not in SPLITS:
        raise UserError(f"split={cfg.split} is unknown{suggest(str(cfg.split), SPLITS)}")
    if cfg.control == "all":
        raise UserError("control=all is for train.py; eval.py takes control=shuffled_labels")
    folder, run = Path(cfg.paths.output_dir), Path(cfg.run)
    if (folder / COMPOSED).is_file() and "run" not in load_config(folder / COMPOSED):
        raise UserError(f"hydra.run.dir={folder} holds a training run; choose another folder for the evaluation")
    if processes_of(cfg) > 1:
        raise UserError(f"trainer.devices={cfg.trainer.devices} but one process evaluates; set trainer.devices=1")
    with lock(folder):
        return _evaluate(cfg, run)


def _check_ensemble(cfg: DictConfig) -> None:
    check_int("ensemble", cfg.ensemble, least=1)
    if cfg.checkpoint != "best":
        raise UserError(f"ensemble={cfg.ensemble} is of the best checkpoints, and checkpoint={cfg.checkpoint}; set one of them")
    if cfg.data.eval.get("unknown_ways"):
        raise UserError(f"ensemble={cfg.ensemble} has no scores of unknown classes; set data.eval.unknown_ways=0")


def _evaluate(cfg: DictConfig, run: Path) -> dict[str, float]:
    trained = training_tasks(run)
    if "ways" in cfg.model:
        cfg.model.ways = trained["ways"]  # the head keeps its size whatever tasks it is given now
    set_up_process(cfg)
    if cfg.ensemble is not None:
        _check_ensemble(cfg)
    checkpoint = run / "checkpoints" / f"{cfg.checkpoint}.ckpt"
    content = read_checkpoint(checkpoint)
    members = [] if cfg.ensemble is None else top_checkpoints(run, cfg.ensemble, cfg.objective.monitor, cfg.objective.mode)

    datamodule = build_data(cfg)
    require_batches(cfg, cfg.split, datamodule.tasks[cfg.split])
    of_model = for_checkpoint(cfg)
    model = build_model(of_model, classes_of(content))
    require_objective(datamodule, model)
    try_out(of_model, model)
    for saved in (content, *members):
        model.on_load_checkpoint(saved)
    trainer = build_trainer(cfg)
    trainer.callbacks.append(ProgressLines())  # type: ignore[attr-defined]
    write_config(cfg, Path(cfg.paths.output_dir), fresh=False)
    datamodule.trained_on = content.get(type(datamodule).__qualname__)
    datamodule.pretrained_on = pretrained_on(model)
    datamodule.check([cfg.split])
    unknown_ways: int = cfg.data.eval.get("unknown_ways", 0) if cfg.split == "test" else 0  # older runs lack it
    require_unknown_classes(datamodule, cfg.split, unknown_ways)
    datamodule.prepare([cfg.split])
    use_features(model, datamodule, trainer.strategy.root_device, content["state_dict"])

    if members:
        model = Ensemble(model, [member["state_dict"] for member in members])
    what = f"{len(members)} checkpoints of {run}" if members else str(checkpoint)
    log.info(f"Evaluating {what} on {datamodule.parts[cfg.split].name}, {cfg.split} split")
    log.info(f"Results: {cfg.paths.output_dir}")
    show_config(trainer, cfg, 0)
    work = trainer.test if cfg.split == "test" else trainer.validate
    work(model, datamodule, ckpt_path=None if members else str(checkpoint), verbose=False)
    return Report(
        cfg,
        Path(cfg.paths.output_dir),
        datamodule,
        model,
        trainer,
        split=cfg.split,
        training={**trained, "steps": content["global_step"], "run": str(run), "checkpoint": cfg.checkpoint},
        val_metrics=metrics_of("val", model.scores["val"]) if cfg.split == "val" else {},
        initial_weights=content["callbacks"].get(InitialWeights.__qualname__),
        unknown=unknown_metrics(datamodule, model, trainer.strategy.root_device, unknown_ways),
    ).write()
