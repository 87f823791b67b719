"""torchopt's ``MetaSGD`` as in its Omniglot example, on the tasks and the network of learn2learn."""

import torch
import torchopt
from torch.nn.functional import cross_entropy

from benchmarks.contenders import peers
from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch


def train(setting: Setting, steps: int, stopwatch: Stopwatch) -> None:
    """The network's state is put back after each task; one Adam step a meta-batch."""
    network = peers.network(setting)
    outer = torch.optim.Adam(network.parameters(), 0.001)
    inner = torchopt.MetaSGD(network, lr=setting.lr)
    for tasks in peers.outer_steps(setting, steps, stopwatch, outer):
        network_state = torchopt.extract_state_dict(network, by="reference", detach_buffers=True)
        optimizer_state = torchopt.extract_state_dict(inner, by="reference")
        for support_x, support_y, query_x, query_y in tasks:
            for _ in range(setting.steps):
                inner.step(cross_entropy(network(support_x), support_y))
            error = cross_entropy(network(query_x), query_y)
            (error / setting.tasks).backward()
            torchopt.recover_state_dict(network, network_state)
            torchopt.recover_state_dict(inner, optimizer_state)
