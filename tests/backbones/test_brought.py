"""Networks that people bring: each engine computes what a plain loop over the network itself does, and leaves it as it was."""

import logging
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from fewshot.backbones.norm import BatchNorm
from fewshot.errors import UserError
from fewshot.inner.annealing import Annealing
from fewshot.inner.diagnostics import inner_gradient_norms
from fewshot.inner.engine import engine_kind
from fewshot.inner.unrolled import Unrolled
from fewshot.models.maml import MAML
from fewshot.models.probe import probe
from fewshot.models.protonet import ProtoNet
from fewshot.tasks.batch import TaskBatch, TaskRows

WAYS, STEPS, LR, WIDTH = 2, 2, 0.5, 4
ENGINES = ("functional", "vectorized", "learn2learn")


class Aliased(nn.Module):
    """Its layers have two names each."""

    def __init__(self):
        super().__init__()
        self.stem, self.rest = nn.Linear(8, 5), nn.Linear(5, WIDTH)
        self.net = nn.Sequential(self.stem, nn.Tanh(), self.rest)

    def forward(self, x):
        return self.net(x)


class Tied(nn.Module):
    """Two layers share a weight."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, WIDTH)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.c(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Frozen(nn.Module):
    """One layer among others is not to be learned."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 5).requires_grad_(False), nn.Linear(5, WIDTH)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))


class Unused(nn.Module):
    """One layer is there and never called."""

    def __init__(self):
        super().__init__()
        self.used, self.spare = nn.Linear(8, WIDTH), nn.Linear(3, 3)

    def forward(self, x):
        return torch.tanh(self.used(x))


class Recurrent(nn.Module):
    """The input is a sequence."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind(2, WIDTH, batch_first=True)

    def forward(self, x):
        return self.kind(x.view(-1, 4, 2))[0][:, -1]


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=6, dropout=0.0, activation="gelu", batch_first=True)

    def forward(self, x):
        return self.layer(x.view(-1, 2, 4)).mean(dim=1)


class SelfAttention(nn.Module):
    """As timm's blocks have it: one projection to queries, keys and values, and PyTorch's function."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class VisionTransformer(nn.Module):
    """Patches of an image, a token for the class and positions (Dosovitskiy et al. 2021)."""

    def __init__(self, attention):
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, 2, stride=2)
        self.token, self.places = (nn.Parameter(0.1 * torch.randn(1, count, WIDTH)) for count in (1, 3))
        self.before, self.attention, self.after = nn.LayerNorm(WIDTH), attention, nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 6), nn.GELU(), nn.Linear(6, WIDTH))

    def forward(self, x):
        patches = self.patches(x.view(-1, 1, 2, 4)).flatten(2).mT
        x = torch.cat([self.token.expand(len(patches), -1, -1), patches], dim=1) + self.places
        y = self.before(x)
        x = x + (self.attention(y, y, y)[0] if isinstance(self.attention, nn.MultiheadAttention) else self.attention(y))
        return (x + self.mlp(self.after(x)))[:, 0]


class Counting(nn.Module):
    """It writes into a buffer and a list, and goes by the buffer."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = nn.Linear(8, WIDTH), []
        self.register_buffer("calls", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        self.calls += 1
        self.seen.append(len(x))
        return torch.tanh(self.layer(x)) * self.calls


class Branching(nn.Module):
    """What it does depends on the data."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, WIDTH)

    def forward(self, x):
        return torch.tanh(self.layer(x)) if x.sum() > 0 else self.layer(x)


def convolutional(norm):
    return nn.Sequential(
        nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 4, 3, padding=1), norm, nn.Tanh(), nn.Flatten(), nn.Linear(16, WIDTH)
    )


BROUGHT = {
    "plain": lambda: nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, WIDTH)),
    "aliased": Aliased,
    "tied": Tied,
    "frozen": Frozen,
    "unused": Unused,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "rnn": lambda: Recurrent(nn.RNN),
    "attention": Attention,
    "vision transformer": lambda: VisionTransformer(nn.MultiheadAttention(WIDTH, 2, batch_first=True)),
    "vision transformer as timm's": lambda: VisionTransformer(SelfAttention(WIDTH, 2)),
    "group norm": lambda: convolutional(nn.GroupNorm(2, 4)),
    "instance norm": lambda: convolutional(nn.InstanceNorm1d(4, affine=True)),
    "layer norm": lambda: nn.Sequential(nn.Linear(8, 5), nn.LayerNorm(5), nn.Tanh(), nn.Linear(5, WIDTH)),
    "parametrized": lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(8, 8)), nn.Tanh(), nn.Linear(8, WIDTH)),
    "in place": lambda: nn.Sequential(nn.Linear(8, 5), nn.ELU(inplace=True), nn.Linear(5, WIDTH)),
    "counting": Counting,
    "branching": Branching,
    "dropout of 0": lambda: nn.Sequential(nn.Linear(8, 5), nn.Dropout(0.0), nn.Tanh(), nn.Linear(5, WIDTH)),
}  # fmt: skip
NOT_VECTORIZED = {"lstm", "gru", "rnn", "branching"}
"""What PyTorch's vmap cannot do."""


def tasks(count=2):
    generator = torch.Generator().manual_seed(1)
    support, query = (torch.randn(count, rows, 8, generator=generator, dtype=torch.float64) for rows in (2 * WAYS, 3 * WAYS))
    labels = [torch.arange(WAYS).repeat_interleave(of_each).repeat(count, 1) for of_each in (2, 3)]
    return TaskBatch(support, labels[0], query, labels[1], TaskRows(torch.arange(count)))


def network_of(name):
    torch.manual_seed(0)
    return nn.Sequential(BROUGHT[name](), nn.Linear(WIDTH, WAYS)).double()


def engine_of(kind, network, **options):
    inner = Unrolled(lr=LR, steps=STEPS, eval_steps=STEPS, **options)
    return engine_kind(kind)(network, inner, inner.new_rates(network), nn.functional.cross_entropy, "transductive")


def state(network):
    """The tensors themselves, and what is in them."""
    held = [*network.parameters(), *network.buffers()]
    return held, [tensor.detach().clone() for tensor in held]


def by_hand(name, batch):
    """The network's answers after plain descent in place, and gradients of their loss by central differences."""

    def answers():
        outputs = []
        for task in batch:
            network = network_of(name)
            network.load_state_dict(weights, strict=False)
            buffers = [buffer.clone() for buffer in network.buffers()]

            def fresh(x, network=network, buffers=buffers):
                for buffer, value in zip(network.buffers(), buffers, strict=True):
                    buffer.copy_(value)
                return network(x)

            optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=LR)
            for _ in range(STEPS):
                optimizer.zero_grad()
                with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                    nn.functional.cross_entropy(fresh(task.support_x), task.support_y).backward()
                optimizer.step()
            outputs.append(fresh(task.query_x).detach())
        return torch.stack(outputs)

    weights = {key: value.clone() for key, value in network_of(name).named_parameters(remove_duplicate=False)}
    weights = {key: value.detach() for key, value in weights.items()}
    network, gradients = network_of(name), []
    for parameter in network.parameters():
        same = [key for key, other in network.named_parameters(remove_duplicate=False) if other is parameter]
        values = []
        for sign in (1, -1):
            for key in same:
                weights[key].view(-1)[0] += sign * 1e-6
            outputs = answers().flatten(0, 1)
            values.append(nn.functional.cross_entropy(outputs, batch.query_y.flatten()).item())
            for key in same:
                weights[key].view(-1)[0] -= sign * 1e-6
        gradients.append((values[0] - values[1]) / 2e-6)
    return answers(), gradients


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # learn2learn's, of recurrent layers
@pytest.mark.parametrize("name", BROUGHT)
def test_every_engine_computes_what_the_network_does_and_leaves_it_alone(name, monkeypatch):
    batch = tasks()
    outputs, gradients = by_hand(name, batch)
    for kind in ENGINES:
        if kind == "vectorized" and name in NOT_VECTORIZED:
            continue
        for threads in ("1", "2"):
            monkeypatch.setenv("OMP_NUM_THREADS", threads)
            network = network_of(name)
            held, before = state(network)
            engine = engine_of(kind, network)
            for _ in range(2):  # the second time as the first
                network.zero_grad()
                found = engine.meta_gradient(batch, 2)[1]
                path = engine.adaptation_path(batch, STEPS)
                inner_gradient_norms(engine, batch)
                torch.testing.assert_close(found, outputs, rtol=1e-9, atol=1e-11)
                torch.testing.assert_close(path[:, -1], outputs, rtol=1e-9, atol=1e-11)
                for parameter, slope in zip(network.parameters(), gradients, strict=True):
                    computed = 0.0 if parameter.grad is None else parameter.grad.view(-1)[0].item()
                    assert not parameter.requires_grad or computed == pytest.approx(slope, rel=1e-5, abs=1e-7)
            after = [*network.parameters(), *network.buffers()]
            assert all(a is b and torch.equal(a, value) for a, b, value in zip(after, held, before, strict=True))


@pytest.mark.parametrize("kind", ENGINES)
def test_a_pattern_may_name_a_tied_weight_by_either_name(kind):
    network, batch = network_of("tied"), tasks()
    paths = [engine_of(kind, network, adapt=(name,)).adaptation_path(batch, 2) for name in ("0.a.weight", "0.b.weight")]
    assert torch.equal(*paths)
    assert not torch.equal(paths[0][:, 0], paths[0][:, 2])


@pytest.mark.parametrize("kind", ENGINES)
def test_what_is_frozen_is_adapted_where_a_pattern_names_nothing_else(kind):
    network, batch = network_of("frozen"), tasks()
    everything, rest, frozen = (
        engine_of(kind, network, adapt=adapt).adaptation_path(batch, 2) for adapt in (("*",), ("0.b.*", "1.*"), ("0.a.*",))
    )
    assert torch.equal(everything, rest)
    assert not torch.equal(frozen[:, 0], frozen[:, 2])


@pytest.mark.parametrize("by_steps", [False, True])
def test_a_layer_that_is_not_used_can_be_passed_step_by_step(by_steps):
    network, batch = network_of("unused"), tasks()
    for kind in ("functional", "vectorized"):
        engine = engine_of(kind, network)
        engine = replace(engine, inner=replace(engine.inner, checkpoint_steps=by_steps))
        engine.meta_gradient(batch, 2)
    assert not any(parameter.grad is not None and parameter.grad.any() for parameter in network[0].spare.parameters())


class Checkpointed(nn.Module):
    """It computes its forward again in backward."""

    def __init__(self):
        super().__init__()
        self.net = BROUGHT["plain"]()

    def forward(self, x):
        return checkpoint(self.net, x, use_reentrant=False)


class OfBatch(nn.Module):
    """Normalised by whatever batch there is."""

    def __init__(self):
        super().__init__()
        self.layer, self.out = nn.Linear(8, 5), nn.Linear(5, WIDTH)

    def forward(self, x):
        return self.out(torch.tanh(F.batch_norm(self.layer(x), None, None, training=True)))


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, WIDTH)

    def forward(self, x):
        return self.layer(x), x


class Forgetting(nn.Module):
    """Dropout that is no layer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, WIDTH)

    def forward(self, x):
        return torch.tanh(F.dropout(self.layer(x), 0.5))


class AttentionAlone(nn.Module):
    """Dropout within a layer that is none."""

    def __init__(self):
        super().__init__()
        self.layer = nn.MultiheadAttention(4, 2, dropout=0.5, batch_first=True)

    def forward(self, x):
        x = x.view(-1, 2, 4)
        return self.layer(x, x, x)[0].mean(dim=1)


class Words(nn.Module):
    """Its inputs are numbers of rows, of which 0 is none."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Embedding(2, WIDTH, padding_idx=0)

    def forward(self, x):
        return torch.tanh(self.rows((x > 0.5).long())).mean(dim=1)


def normed(norm):
    return nn.Sequential(norm(nn.Linear(8, 5)), nn.Tanh(), nn.Linear(5, WIDTH))


MADE = BROUGHT | {
    "weight norm": lambda: normed(parametrizations.weight_norm),
    "spectral norm": lambda: normed(parametrizations.spectral_norm),
    "checkpoint": Checkpointed,
    "batch norm of its own": OfBatch,
    "two outputs": TwoOutputs,
    "dropout": Forgetting,
    "attention with dropout": AttentionAlone,
    "padding": Words,
}
SAID = {
    **dict.fromkeys(sorted(NOT_VECTORIZED), "functional"),
    "padding": "functional",
    "weight norm": r"features\.0\.parametrizations\.weight\.0 \(_WeightNorm\) are not .*; set model\.inner\.first_order=true",
    "spectral norm": "differs from central differences",
    "checkpoint": r"computes again in backward as torch\.utils\.checkpoint does",
    "batch norm of its own": r"depends on the other queries: normalise by fewshot\.backbones\.norm\.BatchNorm",
    "two outputs": r"TwoOutputs\.forward returns a tuple for 2 inputs; it must return one tensor, their features",
    "dropout": "changes from call to call",
    "attention with dropout": "changes from call to call",
}
"""The engine that is chosen instead of vectorized, or the line in which a network is refused; else nothing."""


def backbone_of(name):
    torch.manual_seed(0)
    backbone = MADE[name]()
    backbone.input_shape, backbone.out_features = (8,), WIDTH
    return backbone


def maml(name, engine="auto", **options):
    inner = Unrolled(lr=LR, steps=STEPS, eval_steps=1, **options)
    backbone = backbone_of(name)
    return MAML(backbone, WAYS, WAYS, inner, engine, "transductive", torch.optim.SGD).double()


@pytest.mark.parametrize("name", MADE)
def test_a_network_is_tried_before_it_is_trained(name, caplog):
    said = SAID.get(name)
    if said not in (None, "functional"):
        with pytest.raises(UserError, match=said) as error:
            probe(maml(name), (8,))
        assert "\n" not in str(error.value)
        return
    with caplog.at_level(logging.INFO):
        assert probe(maml(name), (8,)) == said
    lines = [record.message for record in caplog.records]
    assert len(lines) == (said is not None) + (name == "unused")
    if name == "unused":
        assert lines[0] == "model.backbone: forward does not use spare: neither adapted nor learned"
    elif said:
        assert lines[0].startswith("Inner loop: model.engine=functional, as vectorized cannot do this network: ")


def test_to_first_order_a_wrong_second_derivative_does_no_harm():
    probe(maml("weight norm", engine="functional", first_order=True), (8,))


@pytest.mark.parametrize(
    "kind",
    [
        {"rates": "per_step"},
        {"transform": "kronecker"},
        {"proximal": 0.5},
        {"first_order": True},
        {"annealing": Annealing(9, multi_step=1.0, first_order=0.5)},
        {"adapt": ("head.*",)},
    ],
)
def test_whatever_is_adapted_is_compared(kind):
    assert probe(maml("aliased", **kind), (8,)) is None


def test_a_gradient_that_is_a_little_wrong_is_found(monkeypatch):
    right = Unrolled.outer_gradients

    def wrong(inner, *arguments):
        losses, outputs, gradients = right(inner, *arguments)
        return losses, outputs, [gradients[0] * 1.1, *gradients[1:]]

    monkeypatch.setattr(Unrolled, "outer_gradients", wrong)
    with pytest.raises(UserError, match="differs from central differences"):
        probe(maml("plain"), (8,))


def test_a_comparison_through_which_tasks_reach_each_other_is_refused():
    for name, said in (("batch norm of its own", "one reaches another"), ("two outputs", "returns a tuple")):
        model = ProtoNet(backbone=backbone_of(name), batch_norm="running", optimizer=torch.optim.SGD).double()
        with pytest.raises(UserError, match=said):
            probe(model, (8,))
    probe(ProtoNet(backbone=backbone_of("lstm"), batch_norm="running", optimizer=torch.optim.SGD).double(), (8,))


@pytest.mark.parametrize(("name", "transductive"), [("plain", False), ("of ours", True)])
def test_of_batch_norm_is_said_what_there_is(name, transductive, monkeypatch):
    monkeypatch.setitem(MADE, "of ours", lambda: nn.Sequential(nn.Linear(8, WIDTH), BatchNorm(WIDTH), nn.Tanh()))
    model = maml(name)
    comparison = ProtoNet(backbone=backbone_of(name), batch_norm="transductive", optimizer=torch.optim.SGD)
    for description in (model.description, comparison.description):
        assert description["transductive"] is transductive
        assert description["batch_norm"] == ("transductive" if transductive else "none")
    assert probe(model, (8,)) is None


@pytest.mark.parametrize(("name", "lines"), [("plain", 0), ("of ours", 1)])
def test_of_a_single_query_that_is_normalised_by_itself_is_said_so_once(name, lines, monkeypatch, caplog):
    monkeypatch.setitem(MADE, "of ours", lambda: nn.Sequential(nn.Linear(8, WIDTH), BatchNorm(WIDTH), nn.Tanh()))
    model, batch = maml(name), tasks()
    one = replace(batch, query_x=batch.query_x[:, :1], query_y=batch.query_y[:, :1])
    for query in (batch, one, one):
        model.evaluate(query)
    assert [record.message.startswith("a single query is normalised by itself alone") for record in caplog.records] == [
        True
    ] * lines
