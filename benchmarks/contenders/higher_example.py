"""higher's ``innerloop_ctx`` as in its Omniglot example, on the tasks and the network of learn2learn."""

import higher
import torch
from torch.nn.functional import cross_entropy

from benchmarks.contenders import peers
from benchmarks.settings import Setting
from benchmarks.stopwatch import Stopwatch


def train(setting: Setting, steps: int, stopwatch: Stopwatch) -> None:
    """One differentiable inner loop a task; one Adam step a meta-batch."""
    network = peers.network(setting)
    network.train()
    outer = torch.optim.Adam(network.parameters(), 0.001)
    inner = torch.optim.SGD(network.parameters(), lr=setting.lr)
    for tasks in peers.outer_steps(setting, steps, stopwatch, outer):
        for support_x, support_y, query_x, query_y in tasks:
            with higher.innerloop_ctx(
                network, inner, copy_initial_weights=False, track_higher_grads=not setting.first_order
            ) as (fast, inner_optimizer):
                for _ in range(setting.steps):
                    inner_optimizer.step(cross_entropy(fast(support_x), support_y))
                outputs = fast(query_x)
                error = cross_entropy(outputs, query_y)
                error.detach()
                error.backward()
