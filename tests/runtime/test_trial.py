"""What a config's model is tried as."""

import pytest
import torch
from hydra import compose, initialize_config_dir

from fewshot.runtime import trial
from fewshot.runtime.config_groups import CONFIGS


@pytest.mark.parametrize(
    ("backbone", "options", "shape"),
    [
        ("word_transformer", [], (16, 4)),
        ("word_gru", ["model.backbone.vectors=/nowhere"], (16, 4)),
        ("word_transformer", ["model.backbone.heads=8"], (16, 128)),  # 8 heads of 4 numbers there are not
    ],
)
def test_networks_for_sentences_are_tried_narrow_and_among_few_ids(backbone, options, shape):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", ["experiment=clinc150_5w1s", "model=protonet", f"model/backbone={backbone}", *options])
    with trial._default_dtype_put_back(), torch.random.fork_rng():
        model, _ = trial._small(cfg)
    assert model.network["features"].words.weight.shape == shape
