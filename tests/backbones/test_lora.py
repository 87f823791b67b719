"""Low-rank updates: what they begin as, what adapts, and its gradients."""

import pytest
import torch
from torch.nn.utils import parametrize

from fewshot.backbones.conv4 import Conv4
from fewshot.backbones.lora import LoRA
from fewshot.backbones.mlp import MLP
from fewshot.errors import UserError
from fewshot.inner.reptile import Reptile
from fewshot.inner.unrolled import Unrolled
from fewshot.models.maml import MAML
from fewshot.models.probe import probe
from tests.models.model_tester import WAYS, optimizer_of, outer_step, random_tasks, sgd, snapshot

SHAPE = (1, 16, 16)


def conv4():
    torch.manual_seed(0)
    return Conv4(SHAPE, filters=4, downsample="stride")


def lora(**changes):
    return LoRA(**({"backbone": conv4(), "rank": 2, "scale": 4.0} | changes))


def maml(backbone, kind=Unrolled, engine="auto", **options):
    inner = kind(lr=0.1, steps=2, eval_steps=2, **options)
    return MAML(backbone, WAYS, WAYS, inner, engine, "transductive", sgd)


def moved(backbone):
    """With updates that are no longer 0."""
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_(std=0.1)
    return backbone


@pytest.mark.parametrize("make", [conv4, lambda: MLP(SHAPE, [8, 8], normalise=False)])
def test_it_begins_as_the_network_that_it_updates(make):
    network, x = make(), torch.rand(5, *SHAPE)
    expected = network(x)
    assert torch.equal(LoRA(network, rank=2, scale=4.0)(x), expected)


def test_results_call_it_by_what_it_updates():
    assert lora().title == "LoRA (rank 2) of Conv4"


def test_an_update_is_the_product_of_its_matrices():
    backbone = moved(lora(layers=["blocks.1.*"]))
    conv, (update,) = backbone.backbone.blocks[1][0], backbone.backbone.blocks[1][0].parametrizations.weight
    expected = conv.parametrizations.weight.original + 4.0 / 2 * (update.lora_b @ update.lora_a).view(4, 4, 3, 3)
    assert torch.equal(conv.weight, expected)
    assert not parametrize.is_parametrized(backbone.backbone.blocks[0][0])
    x = torch.rand(5, *SHAPE)
    before = backbone(x)
    parametrize.remove_parametrizations(conv, "weight")
    assert torch.equal(backbone(x), before), "merged"


UPDATES = {f"features.backbone.blocks.{i}.0.parametrizations.weight.0.lora_{m}" for i in range(4) for m in "ab"}
HEAD = {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    ("freeze", "adapt", "expected"),
    [
        (True, ["*"], UPDATES | HEAD),
        (True, ["head.*"], HEAD),
        (True, ["features.*"], UPDATES),
        (False, ["*.lora_*", "head.*"], UPDATES | HEAD),
        (True, ["*", "!head.*", "!*.words.*"], UPDATES),
        (True, ["*", "!*.lora_*", "*.lora_a"], HEAD | {name for name in UPDATES if name.endswith("a")}),
        (False, ["*.1.0.*.lora_b"], {"features.backbone.blocks.1.0.parametrizations.weight.0.lora_b"}),
    ],
)
@pytest.mark.parametrize("kind", [Unrolled, Reptile])
def test_adapted_parameters_are_those_named(kind, freeze, adapt, expected):
    model = maml(lora(freeze=freeze), kind, adapt=adapt)
    assert set(model.inner.adapted_names(model.network)) == expected


@pytest.mark.parametrize(
    ("adapt", "said"),
    [
        (
            ["head.*", "*.lora_c"],
            r"\*\.lora_c names no parameter that may be adapted; those of this network begin with features, head",
        ),
        (["*", "!*"], "leaves no parameter; name one"),
    ],
)
def test_a_pattern_that_names_nothing_is_refused(adapt, said):
    with pytest.raises(UserError, match=said):
        maml(lora(), Unrolled, adapt=adapt)


def test_learned_rates_are_those_of_the_updates():
    model = maml(lora(), rates="per_element")
    sizes = [parameter.shape for name, parameter in model.network.named_parameters() if name in UPDATES | HEAD]
    assert [rate.shape for rate in model.rates.parameters()] == sizes


def test_what_is_frozen_does_not_learn():
    model = maml(lora())
    state = snapshot(model)
    optimizer = optimizer_of(model)
    for seed in range(2):
        outer_step(model, optimizer, random_tasks(seed=seed))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, state[name])}
    assert changed == {f"network.{name}" for name in UPDATES | HEAD}


@pytest.mark.parametrize("engine", ["functional", "vectorized", "learn2learn"])
def test_the_meta_gradient_is_that_of_finite_differences(engine):
    """And more (`probe`), in double precision, away from the start."""
    inner = Unrolled(lr=0.1, steps=2, eval_steps=1)
    probe(MAML(moved(lora()), 2, 2, inner, engine, "transductive", sgd).double(), SHAPE)


def test_engines_agree_on_what_adapts():
    model, batch = maml(moved(lora())).double(), random_tasks(dtype=torch.float64)
    paths = []
    for name in ("functional", "vectorized", "learn2learn"):
        model.use_engine(name)
        paths.append(model.evaluate(batch))
    for path in paths[1:]:
        torch.testing.assert_close(path, paths[0], rtol=1e-9, atol=1e-11)


@pytest.mark.slow
def test_what_is_adapted_can_be_exported():
    model, batch = maml(moved(lora())).eval(), random_tasks(tasks=1)
    module, x = model.adapted(batch), batch.query_x[0]
    torch.testing.assert_close(module(x), model.evaluate(batch)[0, -1], rtol=1e-4, atol=1e-5)
    program = torch.export.export(module, (x,)).module()
    torch.testing.assert_close(program(x), module(x))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"layers": ["head.*"]},
            r"layers=\['head\.\*'\]: head\.\* names no linear or .* layer of Conv4; those are blocks\.0\.0,",
        ),
        ({"layers": ["blocks.1.*", "block.2.*"]}, r"layers=\[.*\]: block\.2\.\* names no linear"),
        ({"layers": []}, r"layers=\[\]: it names no linear"),
        ({"rank": 0}, r"model\.backbone\.rank=0 must be"),
        ({"scale": 0.0}, r"model\.backbone\.scale=0\.0 must be"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        lora(**changes)
