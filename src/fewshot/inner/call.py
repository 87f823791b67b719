"""A network as a function of explicit weights, which leaves the network as it was."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel


class Call:
    """Calls a network with other tensors in the place of its parameters.

    As ``torch.func.functional_call``, which does not put the parameters back of a module that can be reached by two names, and
    lets a network keep what it writes into its buffers: here each call begins with the network's own buffers.

    Args:
        network: that two threads may not call at once.
    """

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        names = {id(parameter): name for name, parameter in network.named_parameters()}
        self._places: list[tuple[dict[str, Any], str, str]] = [
            (module._parameters, leaf, names[id(parameter)])
            for module in network.modules()
            for leaf, parameter in module._parameters.items()
            if parameter is not None
        ]

    def __call__(self, weights: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """The outputs for inputs `x` with weights by name, one for each of ``network.named_parameters()``."""
        kept = [(held, leaf, held[leaf]) for held, leaf, _ in self._places]
        try:
            for held, leaf, name in self._places:
                held[leaf] = weights[name]
            with preserve_buffers(self._network):
                outputs: Tensor = self._network(x)
        finally:
            for held, leaf, parameter in kept:
                held[leaf] = parameter
        return outputs


@contextmanager
def preserve_buffers(network: nn.Module) -> Iterator[None]:
    """Within it, a network has copies of its buffers; what it writes into them is forgotten."""
    kept = [
        (module._buffers, leaf, buffer)
        for module in network.modules()
        for leaf, buffer in module._buffers.items()
        if buffer is not None
    ]
    copies = {id(buffer): buffer.clone() for _, _, buffer in kept}
    try:
        for held, leaf, buffer in kept:
            held[leaf] = copies[id(buffer)]
        yield
    finally:
        for held, leaf, buffer in kept:
            held[leaf] = buffer


@contextmanager
def unfused_attention() -> Iterator[None]:
    """Within it, attention is made of operations that have second derivatives and can be vectorised.

    PyTorch's fused kernels have neither, and its layers take other fused ones where no gradient is asked for. The settings are
    the process's: it surrounds threads, not what one of them does.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
