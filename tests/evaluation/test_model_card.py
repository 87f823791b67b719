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


def test_of_a_regression_nothing_is_promised_that_is_refused():
    """predict.py takes folders of classes."""
    text = card(
        objective={"name": "regression", "monitor": "rmse", "mode": "min"}, ways=1, shots=10, queries=10, transductive=True,
        splits_classes={}, train={"ways": 1, "shots": 10, "queries": 10, "steps": 600},
    )  # fmt: skip
    assert "predict.py" not in text
    assert "Tasks: 10-shot, 10 queries. Means" in text
    assert ".from_run('run').fit(inputs, values)" in text
    assert "Chosen on validation tasks: the checkpoint, by RMSE (mean over tasks)." in text


def test_a_model_that_takes_no_outer_step_has_no_checkpoint_to_choose():
    assert "Chosen on validation tasks: nothing." in card(train={"ways": 5, "shots": 1, "queries": 5, "steps": 0})
    assert "the checkpoint, by accuracy." in card()


def test_the_command_can_be_typed_where_a_folder_has_a_space():
    assert "python predict.py 'run=my run' support" in model_card(RESULTS, None, Path("my run"))
