"""Tries a config's model on a tiny meta-batch before anything expensive, and leaves nothing of it behind."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from omegaconf import DictConfig, OmegaConf, open_dict

from fewshot.backbones.backbone import blank_inputs
from fewshot.models.base import MetaLearner
from fewshot.models.maml import MAML
from fewshot.models.probe import WAYS, probe
from fewshot.runtime.build import build_model

SIDE = 16
"""Pixels of the tiny tasks' images, where a network can do with them."""
NARROW = {"filters": 4, "width": 4, "widen": 1, "widths": 4, "hidden": 8, "words": 4, "buckets": 16, "items": 16, "tokens": 16}
"""What is set for the trial of keys of a backbone that say how large it is; its layers are of the same kinds."""
IDS = ("buckets", "items", "tokens")
"""Those that are set in any case: among few ids, rows of random ones have words."""
LARGE = 2_000_000
"""Parameters from which on a network is tried in single precision, which leaves out the comparison with differences."""


def try_out(cfg: DictConfig, model: MetaLearner) -> None:
    """Tries a model like this one, and gives it the engine that can do its network.

    Raises:
        UserError: there is none.
    """
    with isolate_rng(), _default_dtype_put_back():
        trial, shape = _small(cfg)
        engine = probe(trial, shape)
    if engine is not None and isinstance(model, MAML):
        model.use_engine(engine)


def _small(cfg: DictConfig) -> tuple[MetaLearner, Sequence[int]]:
    """The model for two ways, narrow and for small images if it can be built so and take them, and the shape of an input."""
    real = [int(size) for size in cfg.data.image_shape]
    small = [*real[:1], *(min(size, SIDE) for size in real[1:])] if len(real) == 3 else real
    with suppress(Exception):  # what a network makes of other numbers than it was given is its affair
        return _built(cfg, small, narrow=True)
    return _built(cfg, real, narrow=False)


def _built(cfg: DictConfig, shape: list[int], narrow: bool) -> tuple[MetaLearner, Sequence[int]]:
    """In double precision, if the network is small and can be computed in it; and the shape of what it takes."""
    cfg = deepcopy(cfg)
    with open_dict(cfg):
        cfg.data.image_shape = shape
        node = cfg.model
        for key, value in {"ways": WAYS, "eval_ways": WAYS, "iterations": 2, "epochs": 2}.items():
            if key in node:
                node[key] = value
        if "inner" in node:
            node.inner.steps, node.inner.eval_steps = min(node.inner.steps, 2), 1
        for key, value in NARROW.items():
            if key in node.backbone and (narrow or key in IDS):
                wide: Any = node.backbone[key]
                node.backbone[key] = [value] * len(wide) if OmegaConf.is_list(wide) else value
        if narrow and "vectors" in node.backbone:
            node.backbone.vectors = None  # those of a file are as wide as they are
    torch.set_default_dtype(torch.float32)
    model = build_model(cfg, classes=WAYS)
    features = model.network.get_submodule("features")
    taken: Sequence[int] = getattr(features, "input_shape", shape)  # of sentences that are encoded: their features
    if sum(parameter.numel() for parameter in model.parameters()) < LARGE:
        # What a network makes itself in its forward is to have the precision of its weights.
        torch.set_default_dtype(torch.float64)
        with suppress(RuntimeError), torch.no_grad():
            features.double()(blank_inputs(features, taken))
            return model.double(), taken
        torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        features.float()(blank_inputs(features, taken))
    return model.float(), taken


@contextmanager
def _default_dtype_put_back() -> Iterator[None]:
    before = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(before)
