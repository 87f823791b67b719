"""A model adapted to a support set as one module of PyTorch, preprocessing inside."""

from torch import Tensor, nn


class Adapted(nn.Module):
    """Rows as a user has them, to outputs.

    Args:
        scale: normalises rows.
        network: adapted, from normalised rows to outputs.
    """

    def __init__(self, scale: nn.Module, network: nn.Module) -> None:
        super().__init__()
        self.scale, self.network = scale, network

    def forward(self, x: Tensor) -> Tensor:
        """Outputs ``(n, classes)`` for rows ``(n, ...)``: images uint8 from 0 to 255, or floats from 0 to 1."""
        outputs: Tensor = self.network(self.scale(x))
        return outputs
