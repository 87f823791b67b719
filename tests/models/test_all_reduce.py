"""Processes that share a meta-batch compute what one process computes alone."""

from itertools import chain

import pytest
import torch

from fewshot.backbones.conv4 import Conv4
from fewshot.data.meta_batches import Share
from fewshot.inner.unrolled import Unrolled
from fewshot.models.all_reduce import average_over_tasks
from fewshot.models.maml import MAML
from tests.ranks import in_processes

STEPS = 8


def descend(data, share, size, dtype, first_order=False):
    """The weights after `STEPS` outer steps of a process with its share of each meta-batch."""
    torch.manual_seed(0)
    backbone = Conv4((1, 16, 16), filters=4, downsample="stride", global_pool=True)
    inner = Unrolled(lr=0.1, steps=2, eval_steps=2, first_order=first_order)
    model = MAML(backbone, 3, 3, inner, "functional", "transductive", lambda p: torch.optim.SGD(p, lr=0.1)).to(dtype)
    # Small steps: large ones are chaotic, and would show the last bit of a sum rather than a wrong weight of a task.
    optimizer = torch.optim.SGD(model.network.parameters(), lr=0.002, momentum=0.5)
    batches = data.meta_batches("train", STEPS * size, share)
    losses = []
    for step in range(STEPS):
        (batch,) = data.scaled(batches[step])
        batch = batch.with_inputs(batch.support_x.to(dtype), batch.query_x.to(dtype))
        optimizer.zero_grad()
        loss, _ = model.meta_gradient(batch)
        tasks, total = average_over_tasks(list(model.network.parameters()), len(batch), loss.sum()[None])
        optimizer.step()
        losses.append((total / tasks).item())
    return torch.cat([p.detach().flatten() for p in model.network.parameters()]).tolist(), losses


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "size", "dtype", "tolerance"),
    [(2, 8, torch.float64, 1e-10), (3, 8, torch.float64, 1e-10), (4, 5, torch.float64, 1e-10), (3, 8, torch.float32, 1e-5)],
    ids=["2x4", "uneven-3", "uneven-4", "uneven-3-float32"],
)
def test_one_process_equals_several(toy_data, tmp_path, processes, size, dtype, tolerance):
    data = toy_data(meta_batch_size=size, shots=4, queries=4)  # batch norm over one shot of 1x1 features is ill conditioned
    data.setup("fit")
    alone, losses = (torch.tensor(values, dtype=torch.float64) for values in descend(data, Share(), size, dtype))
    shared = in_processes(processes, lambda rank: descend(data, Share(rank, processes), size, dtype), tmp_path)
    for weights, seen in shared:
        assert weights == shared[0][0], "all processes hold the same bits"
        assert (torch.tensor(weights, dtype=torch.float64) - alone).norm() / alone.norm() < tolerance
        assert torch.allclose(torch.tensor(seen, dtype=torch.float64), losses, rtol=100 * tolerance)


def test_shares_are_disjoint_and_whole():
    for processes in range(1, 6):
        for tasks in range(processes, 12):
            parts = [list(Share(rank, processes).part(range(100, 100 + tasks))) for rank in range(processes)]
            assert list(chain(*parts)) == list(range(100, 100 + tasks))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_missing_gradient_counts_as_nothing(tmp_path):
    """Process 0 has 3 tasks and no gradient, process 1 one task with gradient 8: the mean over 4 tasks is 2."""

    def average(rank):
        parameter = torch.nn.Parameter(torch.zeros(1))
        parameter.grad = torch.tensor([8.0]) if rank else None
        figures = average_over_tasks([parameter], 1 if rank else 3, torch.tensor([10.0 * rank]))
        return parameter.grad.item(), figures.tolist()

    assert in_processes(2, average, tmp_path) == [(2.0, [4.0, 10.0])] * 2
