"""Weights as the original MAML starts them."""

from torch import nn


def xavier_(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases for a convolution or linear layer; others are left alone (``Module.apply``)."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
