"""Matching networks: attention by cosines, with and without the support set as context."""

import pytest
import torch
from torch import nn

from fewshot.models.matchingnet import FullContext, MatchingNet
from tests.models.model_tester import ModelTester, sgd, small_backbone


def make(**changes):
    return MatchingNet(**({"backbone": small_backbone(), "batch_norm": "running", "optimizer": sgd} | changes))


class TestMatchingNet(ModelTester):
    def make(self, **changes):
        return make(**changes)


class TestFullContext(ModelTester):
    relabels = True
    """The order of the support set counts, the names of its classes do not."""
    blind_to_copies = False
    """A longer sequence is another context."""

    def make(self, **changes):
        return make(full_context=True, **changes)


def test_outputs_are_log_probabilities_of_the_attention():
    """By hand: cosines 1, 0 and -1 with the support images, of which the first and the last are of class 0."""
    support, query = torch.tensor([[[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]]]), torch.tensor([[[5.0, 0.0]]])
    outputs = make().compare(support, torch.tensor([[0, 1, 0]]), query)
    weights = torch.tensor([1.0, 0.0, -1.0]).softmax(dim=0)
    assert outputs.exp().squeeze().tolist() == pytest.approx([(weights[0] + weights[2]).item(), weights[1].item()])


def test_full_context_is_that_of_appendix_a():
    """The gates written out, with h and r side by side as the LSTM's hidden state."""
    torch.manual_seed(0)
    width, steps = 3, 2
    context = FullContext(width, steps).double()
    support, query = torch.randn(1, 4, width).double(), torch.randn(1, 2, width).double()
    g, f = context(support, query)

    def cell(weights, inputs, hidden, memory):
        w_x, w_h, b_x, b_h = weights
        i, forget, candidate, o = (inputs @ w_x.T + b_x + hidden @ w_h.T + b_h).chunk(4, dim=-1)
        memory = forget.sigmoid() * memory + i.sigmoid() * candidate.tanh()
        return o.sigmoid() * memory.tanh(), memory

    expected_g = support[0].clone()
    for suffix, order in (("", range(4)), ("_reverse", range(3, -1, -1))):
        weights = [
            getattr(context.of_support, name + suffix) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        ]
        hidden, memory = torch.zeros(width).double(), torch.zeros(width).double()
        for i in order:
            hidden, memory = cell(weights, support[0, i], hidden, memory)
            expected_g[i] = expected_g[i] + hidden
    torch.testing.assert_close(g[0], expected_g)

    of_query = context.of_query
    # Beside x stood r; the paper's hidden state is [h, r], with the same columns of weights.
    w_x, w_r = of_query.weight_ih[:, :width], of_query.weight_ih[:, width:]
    weights = (w_x, torch.cat([of_query.weight_hh, w_r], dim=1), of_query.bias_ih, of_query.bias_hh)
    for x, found in zip(query[0], f[0], strict=True):
        h, c = torch.zeros(width).double(), torch.zeros(width).double()
        for _ in range(steps):
            r = (h @ expected_g.T).softmax(dim=0) @ expected_g
            out, c = cell(weights, x, torch.cat([h, r]), c)
            h = out + x
        torch.testing.assert_close(found, h)


def test_context_is_learned():
    assert isinstance(make(full_context=True).network["context"].of_support, nn.LSTM)
    assert "context" not in make().network
