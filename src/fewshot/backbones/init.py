"""Weights as published networks start them."""

from torch import nn


def xavier_(module: nn.Module) -> None:
    """Glorot-uniform weights and zero biases for a convolution or linear layer; others are left alone (``Module.apply``).

    So does the original MAML.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def kaiming_(network: nn.Module, nonlinearity: str) -> None:
    """Normal weights by their outputs (He et al. 2015, section 2.2) for all convolutions, as residual networks start."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity=nonlinearity)  # type: ignore[arg-type]
