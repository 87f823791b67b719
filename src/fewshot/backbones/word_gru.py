"""A gated recurrent unit over the words of a sentence (Cho et al. 2014)."""

from typing import Any

import torch
from torch import Tensor, nn

from fewshot.backbones.words import SentenceBackbone
from fewshot.errors import check_int


class WordGRU(SentenceBackbone):
    """The state after the last word is the sentence; places that it does not fill leave the state as it is.

    ``torch.nn.GRU`` computes the same by fused operations: cuDNN's have no second derivative, and none of them can be
    vectorised over tasks (``torch.func.vmap``). These here can.

    Args:
        hidden: numbers of the state.
        sentences: what all networks for sentences take (`SentenceBackbone`).

    Shapes:
        ``(B, L)`` -> ``(B, hidden)``
    """

    def __init__(self, hidden: int = 128, **sentences: Any) -> None:
        super().__init__(**sentences)
        check_int("model.backbone.hidden", hidden, least=1)
        # as in torch.nn.GRU: rows of the reset gate, of the update gate and of the candidate
        self.layers = nn.ModuleDict({"input": nn.Linear(self.width, 3 * hidden), "state": nn.Linear(hidden, 3 * hidden)})
        self.out_features = hidden

    def forward(self, ids: Tensor) -> Tensor:
        vectors, counts = self.words(ids)
        inputs = self.layers["input"](vectors / counts.unsqueeze(-1).clamp(min=1).sqrt())
        state: Tensor = inputs.new_zeros(len(ids), self.out_features)
        for of_word, known in zip(inputs.unbind(dim=1), (counts > 0).unsqueeze(-1).unbind(dim=1), strict=True):
            of_input, of_state = of_word.chunk(3, dim=-1), self.layers["state"](state).chunk(3, dim=-1)
            reset, update = (torch.sigmoid(a + b) for a, b in zip(of_input[:2], of_state[:2], strict=True))
            candidate = torch.tanh(of_input[2] + reset * of_state[2])
            state = torch.where(known, candidate + update * (state - candidate), state)
        return state
