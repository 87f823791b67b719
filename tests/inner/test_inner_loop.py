"""What the description of an inner loop refuses, and which parameters it picks."""

import pytest
import torch

from fewshot.errors import UserError
from fewshot.inner.annealing import Annealing
from fewshot.inner.engine import engine_kind
from fewshot.inner.inner_loop import InnerLoop
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
        ({"transform": "kroneker"}, "model.inner.transform=kroneker is unknown; did you mean 'kronecker'?"),
        ({"outer": "implicitly"}, "model.inner.outer=implicitly is unknown; did you mean 'implicit'?"),
        ({"proximal": -1}, "model.inner.proximal=-1 must be a number greater than 0"),
        ({"batch_size": 0, "outer": "displacement"}, "model.inner.batch_size=0 must be a whole number of at least 1"),
        ({"outer": "implicit"}, "model.inner.proximal=0 but model.inner.outer=implicit needs a pull to the start"),
        ({"batch_size": 5}, "model.inner.batch_size is for model.inner.outer=displacement but that is unrolled; set"),
        ({"optimizer": torch.optim.Adam}, "model.inner.optimizer is for model.inner.outer=displacement but"),
        (
            {"outer": "displacement", "first_order": True},
            "model.inner.first_order=True but model.inner.outer=displacement goes through no step; set",
        ),
        ({"outer": "displacement", "rates": "per_step"}, "model.inner.rates=per_step but model.inner.outer=displacement goes"),
        (
            {"outer": "implicit", "proximal": 1, "checkpoint_steps": True},
            "model.inner.checkpoint_steps=True but model.inner.outer=implicit goes through no step",
        ),
        (
            {"first_order": True, "annealing": Annealing(10, first_order=0.5)},
            "model.inner.first_order=true but model.inner.annealing.first_order=0.5 would end it",
        ),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(UserError) as error:
        InnerLoop(**({"lr": 0.1, "steps": 1, "eval_steps": 1} | change))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("outer", ["implicit", "displacement"])
def test_learn2learn_unrolls_and_refuses_other_outer_gradients(outer):
    network, inner = network_of("mlp"), InnerLoop(lr=0.1, steps=1, eval_steps=1, outer=outer, proximal=1.0)
    with pytest.raises(UserError) as error:
        engine_kind("learn2learn")(network, inner, InnerRates(inner, network), None, "transductive")
    assert str(error.value) == f"model.inner.outer={outer} but learn2learn unrolls its steps; set model.engine=auto"


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
        engine_kind(engine)(network, inner, rates, None, batch_norm)
    assert str(error.value) == message
