"""What a task costs at least on this machine: its operations and bytes, counted, over what the machine can do, measured.

    python -m benchmarks.roofline miniimagenet_5w1s

The bound is the larger of the two times (Williams et al. 2009, "Roofline"). Bytes are those that operators read and write, as
if each began and ended in memory: caches make it less.
"""

import argparse
import os
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contenders.fewshot_run import built
from benchmarks.settings import SETTINGS
from benchmarks.stopwatch import DEVICE
from fewshot.data.datamodule import EpisodicDataModule
from fewshot.inner.threads import cores
from fewshot.tasks.batch import TaskBatch


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the bytes of what operators read and write; a view moves none.

    Attributes:
        bytes: so far.
        operators: launched so far, views left out.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.operators += 1
            self.bytes += sum(x.nbytes for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor))
        return result


def seconds(function: Callable[[], Any], repeats: int = 7) -> float:
    """Median time of a call, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        began = _now()
        function()
        times.append(_now() - began)
    return median(times[1:])


def _now() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def machine() -> tuple[float, float]:
    """Operations a second of a large matrix product, bytes a second of a large copy."""
    size, a, b = 4096, torch.rand(4096, 4096, device=DEVICE), torch.rand(4096, 4096, device=DEVICE)
    source, target = torch.rand(2**26, device=DEVICE), torch.empty(2**26, device=DEVICE)
    return 2 * size**3 / seconds(lambda: a @ b, 3), 2 * source.nbytes / seconds(lambda: target.copy_(source))


def first_meta_batch(datamodule: EpisodicDataModule, tasks: int) -> TaskBatch:
    """On the device, scaled."""
    datamodule.setup("fit")
    (batch,) = datamodule.scaled([datamodule.meta_batches("train", tasks)[0][0].to(DEVICE)])
    return batch


def use(threads: int) -> None:
    """So many threads, whether in one operation or for tasks side by side."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch.set_num_threads(threads)


def main() -> None:
    """Prints the figures of one setting, on one core and on all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", choices=SETTINGS)
    setting = SETTINGS[parser.parse_args().setting]
    most = cores()
    # Counted one task at a time: the counter takes tasks that are groups of one convolution for more work than they are.
    with built(setting, 1, "model.engine=functional") as (datamodule, model, _):
        batch = first_meta_batch(datamodule, setting.tasks)
        use(1)  # the counters see their own thread alone
        with FlopCounterMode(display=False) as counter, Traffic() as traffic:
            model.to(DEVICE).meta_gradient(batch)
        work, moved = counter.get_total_flops() / setting.tasks, traffic.bytes / setting.tasks
        operators = traffic.operators / setting.tasks
        print(f"a task: {work / 1e9:.2f} GFLOP, {moved / 2**20:.0f} MiB, {operators:.0f} operators one task at a time")
    with built(setting, 1) as (datamodule, model, _):
        batch = first_meta_batch(datamodule, setting.tasks)
        model.to(DEVICE)
        for threads in sorted({1, most}):
            use(threads)
            speed, bandwidth = machine()
            took = seconds(lambda: model.meta_gradient(batch)) / setting.tasks
            bounds = f"operations {1000 * work / speed:.2f} ms, bytes {1000 * moved / bandwidth:.2f} ms"
            print(
                f"threads {threads}: {speed / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.1f} GB/s; {bounds}; took {1000 * took:.2f} ms"
            )


if __name__ == "__main__":
    main()
