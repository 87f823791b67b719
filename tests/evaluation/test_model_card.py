"""What a model card says of a run."""

from pathlib import Path

import pytest

from fewshot.evaluation.model_card import model_card

RESULTS = {
    "metrics": {"val/acc": 0.6, "test/acc": 0.5, "test/acc_ci95": 0.01},
    "protocol": {
        "model": "MAML", "backbone": "Conv4", "data": "toy", "ways": 5, "shots": 1, "queries": 15, "adapt": ["*"],
        "parameters": 1234, "train": {"ways": 5, "shots": 1, "queries": 5, "steps": 600},
        "splits_classes": {"train": 10, "test": 7}, "batch_norm": "transductive",
    },
}  # fmt: skip


def card(**protocol):
    return model_card(RESULTS | {"protocol": RESULTS["protocol"] | protocol}, None, Path("run"))


def test_figures_have_their_intervals():
    assert "| test/acc | 0.5000 ± 0.0100 |" in card()
    assert "| val/acc | 0.6000 |" in card()
    assert "600 outer steps" in card()


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        ({}, "15 queries a class, on classes that were not trained on. Means"),
        ({"seen_classes": {"test": 3}}, "15 queries a class, on classes of which 3 were trained on. Means"),
        ({"splits_classes": {}}, "15 queries a class. Means"),
        ({}, "it adapts: all parameters; 1,234 parameters"),
        ({"adapt": ["head.*"]}, "it adapts: head.*;"),
        ({"adapt": ["*", "!*.words.*"]}, "it adapts: all parameters but *.words.*;"),
        ({"adapt": []}, "it adapts: no parameters, it compares;"),
    ],
)
def test_what_was_tested_and_what_adapts_is_said(protocol, words):
    assert words in card(**protocol)
