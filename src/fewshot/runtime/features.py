"""Has a frozen network see each image or sentence of a dataset once, before tasks are drawn."""

import logging
from typing import Any

import torch

from fewshot.backbones.pretrained_backbone import PretrainedBackbone
from fewshot.backbones.sentence_encoder import SentenceEncoder
from fewshot.data.datamodule import EpisodicDataModule
from fewshot.models.base import MetaLearner
from fewshot.models.feature_head import FeatureHead
from fewshot.models.fits_rows import FitsRows
from fewshot.runtime.build import pretrained_on

log = logging.getLogger(__name__)


def warn_of_random_features(model: MetaLearner, init_from: str | None) -> None:
    """Warns where nothing has trained, nor will, the network that a head's features come from."""
    if isinstance(model, FeatureHead) and init_from is None and pretrained_on(model) is None:
        log.warning(
            f"{model.description['model']} is fitted to features of random weights, which nothing trains: set init_from=RUN "
            "init_part=backbone, or model/backbone=timm, of sentences sentence_encoder"
        )


def use_features(
    model: MetaLearner, datamodule: EpisodicDataModule, device: torch.device, state: dict[str, Any] | None
) -> None:
    """Puts features in the place of a prepared data module's inputs, where the model's backbone is frozen.

    Args:
        device: that computes them.
        state: of the model in a checkpoint, whose weights are the backbone's; None where the run begins.
    """
    backbone = model.network.get_submodule("features")
    if isinstance(backbone, SentenceEncoder) or (isinstance(backbone, PretrainedBackbone) and backbone.is_frozen):
        if state is not None:
            model.load_state_dict(state)
        learns = model.takes_outer_steps or isinstance(model, FitsRows)
        datamodule.compute_features(backbone.to(device), device, training=learns)
