"""What the description of an inner loop refuses, and which parameters it picks."""

import pytest
import torch

from fewshot.errors import UserError
from fewshot.inner.annealing import Annealing
from fewshot.inner.engine import engine_kind, fastest_engine
from fewshot.inner.implicit import Implicit
from fewshot.inner.reptile import Reptile
from fewshot.inner.unrolled import Unrolled
from fewshot.predict.targets import build
from fewshot.renamed_classes import with_current_names
from fewshot.tasks.batch import TaskBatch, TaskRows
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
        ({"proximal": -1}, "model.inner.proximal=-1 must be a number greater than 0"),
        (
            {"first_order": True, "annealing": Annealing(10, first_order=0.5)},
            "model.inner.first_order=true but model.inner.annealing.first_order=0.5 would end it",
        ),
    ],
)
def test_impossible_settings_are_refused(change, message):
    with pytest.raises(UserError) as error:
        Unrolled(**({"lr": 0.1, "steps": 1, "eval_steps": 1} | change))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (Reptile, {"batch_size": 0}, "model.inner.batch_size=0 must be a whole number of at least 1"),
        (Implicit, {"proximal": 0}, "model.inner.proximal=0 must be a number greater than 0"),
        (Implicit, {"cg_steps": 0}, "model.inner.cg_steps=0 must be a whole number of at least 1"),
    ],
)
def test_so_are_those_of_an_outer_gradient(kind, change, message):
    with pytest.raises(UserError) as error:
        kind(lr=0.1, steps=1, eval_steps=1, **change)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("kind", [Implicit, Reptile])
def test_learn2learn_unrolls_and_refuses_other_outer_gradients(kind):
    network, inner = network_of("mlp"), kind(lr=0.1, steps=1, eval_steps=1)
    with pytest.raises(UserError) as error:
        engine_kind("learn2learn")(network, inner, inner.new_rates(network), None, "transductive")
    expected = f"model.engine=learn2learn but {kind.__name__} does not unroll its steps; set model.engine=auto"
    assert str(error.value) == expected


@pytest.mark.parametrize(
    ("change", "chosen"), [({}, "vectorized"), ({"size": 200}, "functional"), ({"size": 200, "device": "meta"}, "vectorized")]
)
def test_the_fastest_engine_goes_by_the_size_and_the_device_of_a_task(change, chosen):
    """Large images are too many for the cache of a CPU if they are stacked."""
    options = {"size": 28, "device": "cpu"} | change
    x, y = (torch.zeros(3, 5, *shape, device=options["device"]) for shape in ((1, options["size"], options["size"]), ()))
    assert fastest_engine(TaskBatch(x, y, x, y, TaskRows(torch.arange(3)))) == chosen


def test_scale_and_shift_of_batch_norm_are_left_out_unless_asked_for():
    network = network_of("conv4")
    names = [name for name, _ in network.named_parameters()]
    left_out = Unrolled(lr=0.1, steps=1, eval_steps=1).adapted(network)
    norms = {name for name, adapted in zip(names, left_out, strict=True) if not adapted}
    assert norms == {f"0.blocks.{i}.1.{what}" for i in range(4) for what in ("weight", "bias")}
    assert all(Unrolled(lr=0.1, steps=1, eval_steps=1, adapt_norm=True).adapted(network))


@pytest.mark.parametrize(
    ("engine", "batch_norm", "message"),
    [
        ("learn2lern", "transductive", "model.engine=learn2lern is unknown; did you mean 'learn2learn'?"),
        ("learn2learn", "inductiv", "model.batch_norm=inductiv is unknown; did you mean 'inductive'?"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(engine, batch_norm, message):
    network, inner = network_of("mlp"), Unrolled(lr=0.1, steps=1, eval_steps=1)
    rates = inner.new_rates(network)
    with pytest.raises(UserError) as error:
        engine_kind(engine)(network, inner, rates, None, batch_norm)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("old", "now"),
    [
        ({"first_order": True, "annealing": None, "cg_steps": 5}, Unrolled(lr=0.1, steps=1, eval_steps=1, first_order=True)),
        (
            {"outer": "implicit", "cg_steps": 3, "proximal": 2.0, "first_order": False, "rates": "fixed"},
            Implicit(lr=0.1, steps=1, eval_steps=1, cg_steps=3, proximal=2.0),
        ),
        (
            {"outer": "displacement", "optimizer": None, "batch_size": 5, "checkpoint_steps": False},
            Reptile(lr=0.1, steps=1, eval_steps=1, batch_size=5),
        ),
    ],
)
@pytest.mark.parametrize("module", ["loop", "inner_loop"])
def test_inner_loops_of_older_runs_are_what_they_were(module, old, now):
    """When one class had the settings of every outer gradient."""
    node = {"_target_": f"fewshot.inner.{module}.InnerLoop", "lr": 0.1, "steps": 1, "eval_steps": 1, **old}
    assert build(with_current_names(node)) == now
