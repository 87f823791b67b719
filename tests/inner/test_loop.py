"""What the description of an inner loop refuses, and which parameters it picks."""

import pytest

from fewshot.errors import UserError
from fewshot.inner.engine import build_engine
from fewshot.inner.loop import InnerLoop
from fewshot.inner.rates import InnerRates
from tests.inner.engine_tester import network_of


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0}, "model.inner.lr=0 must be a number greater than 0"),
        ({"lr": -0.1}, "model.inner.lr=-0.1 must"),
        ({"lr": "fast"}, "model.inner.lr=fast must"),
        ({"lr": float("nan")}, "model.inner.lr=nan must"),
        ({"steps": 0}, "model.inner.steps=0 must be a whole number of at least 1"),
        ({"steps": 1.5}, "model.inner.steps=1.5 must"),
        ({"eval_steps": -1}, "model.inner.eval_steps=-1 must be a whole number of at least 0"),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(UserError) as error:
        InnerLoop(**({"lr": 0.1, "steps": 1, "eval_steps": 1} | change))
    assert str(error.value).startswith(message)


def test_scale_and_shift_of_batch_norm_are_left_out_unless_asked_for():
    network = network_of("conv4")
    names = [name for name, _ in network.named_parameters()]
    left_out = InnerLoop(lr=0.1, steps=1, eval_steps=1).adapted(network)
    norms = {name for name, adapted in zip(names, left_out, strict=True) if not adapted}
    assert norms == {f"0.blocks.{i}.1.{what}" for i in range(4) for what in ("weight", "bias")}
    assert all(InnerLoop(lr=0.1, steps=1, eval_steps=1, adapt_norm=True).adapted(network))


@pytest.mark.parametrize(
    ("engine", "batch_norm", "message"),
    [
        ("learn2lern", "transductive", "model.engine=learn2lern is unknown; did you mean 'learn2learn'?"),
        ("learn2learn", "inductiv", "model.batch_norm=inductiv is unknown; did you mean 'inductive'?"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(engine, batch_norm, message):
    network, inner = network_of("mlp"), InnerLoop(lr=0.1, steps=1, eval_steps=1)
    rates = InnerRates(inner, network)
    with pytest.raises(UserError) as error:
        build_engine(engine, network, inner, rates, None, batch_norm)
    assert str(error.value) == message
