"""A transformer encoder over the words of a sentence (Vaswani et al. 2017), normalised before layers (Xiong et al. 2020)."""

from typing import Any

import torch
from torch import Tensor, nn

from fewshot.backbones.words import SentenceBackbone
from fewshot.errors import UserError, check_int


class WordTransformer(SentenceBackbone):
    """Words attend to each other; the mean of what becomes of them is the sentence.

    Attention is on the words that there are: filling changes no bit, and a sentence without a word is at zero.

    Args:
        layers: of attention and a feed-forward network.
        heads: of attention, which share the width out.
        hidden: units of the feed-forward networks.
        sentences: what all networks for sentences take (`SentenceBackbone`).

    Shapes:
        ``(B, L)`` -> ``(B, width)``
    """

    def __init__(self, layers: int = 2, heads: int = 4, hidden: int = 256, words: int = 32, **sentences: Any) -> None:
        super().__init__(words=words, **sentences)
        width = self.width
        for name, value in {"layers": layers, "heads": heads, "hidden": hidden}.items():
            check_int(f"model.backbone.{name}", value, least=1)
        if width % heads:
            raise UserError(f"model.backbone.width={width} is no multiple of model.backbone.heads={heads}; choose one that is")
        self.places = nn.Parameter(torch.empty(words, width).normal_(std=0.02))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.out_features = width

    def forward(self, ids: Tensor) -> Tensor:
        vectors, counts = self.words(ids)
        known = counts > 0
        states = vectors / counts.unsqueeze(-1).clamp(min=1).sqrt() + self.places
        # of a sentence without a word all places are attended to: weights over none would not be numbers
        ignored = ~known & known.any(dim=1, keepdim=True)
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=ignored)
        kept = self.norm(states) * known.unsqueeze(-1)
        mean: Tensor = kept.sum(dim=1) / known.sum(dim=1, keepdim=True).clamp(min=1)
        return mean
