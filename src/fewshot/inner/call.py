"""Calls a network with explicit weights, without changing the network, and normalises queries as asked for."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewshot.backbones.norm import norm_mode


class Call:
    """Calls a network with other tensors in place of its parameters.

    Differs from ``torch.func.functional_call`` in two ways: the parameters of a module with two names are restored, and each
    call starts from the network's own buffers (what the network writes into them is discarded).

    Args:
        network: the network; not to be called by two threads at the same time.
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


def query_outputs(network: Callable[[Tensor], Tensor], support_x: Tensor, query_x: Tensor, batch_norm: str) -> Tensor:
    """A network's outputs for one task's query set ``(N*Q, outputs)``.

    Args:
        network: of inputs.
        support_x: ``(N*K, ...)``
        query_x: ``(N*Q, ...)``
        batch_norm: ``transductive`` or ``inductive`` (`fewshot.inner.engine.Engine`).
    """
    return network(query_x) if batch_norm == "transductive" else features(network, support_x, query_x, batch_norm)[1]


def features(network: Callable[[Tensor], Tensor], support_x: Tensor, query_x: Tensor, batch_norm: str) -> tuple[Tensor, Tensor]:
    """A network's outputs for one task's support set and query set, as `query_outputs`."""
    if batch_norm == "transductive":
        return network(support_x), network(query_x)
    support = len(support_x)
    with norm_mode(rows=support):
        both = network(torch.cat([support_x, query_x]))
    return both[:support], both[support:]


@contextmanager
def preserve_buffers(network: nn.Module) -> Iterator[None]:
    """Gives the network copies of its buffers within the context; what it writes into them is discarded."""
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
    """Computes attention by operations that have second derivatives and work under ``vmap``, within the context.

    PyTorch's fused kernels have neither property, and its layers use further fused kernels when no gradient is needed. The
    settings hold for the whole process: enter the context around the threads, not inside one of them.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
