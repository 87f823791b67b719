"""Several processes of one run on this machine, forked and joined by gloo, each calling a function."""

import os
import pickle
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def free_port() -> int:
    """A port of this machine that nobody listens to."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def in_processes(count: int, function: Callable[[int], Any], folder: Path) -> list[Any]:
    """What ``function(rank)`` returns in each of `count` processes that can reach each other."""
    port, children = free_port(), []
    for rank in range(count):
        pid = os.fork()
        if not pid:
            _run(rank, count, port, function, folder / f"rank{rank}")
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert codes == [0] * count, [(folder / f"rank{rank}.err").read_text() for rank in range(count) if codes[rank]]
    return [pickle.loads((folder / f"rank{rank}").read_bytes()) for rank in range(count)]  # noqa: S301  our own


def _run(rank: int, count: int, port: int, function: Callable[[int], Any], answer: Path) -> None:
    try:
        torch.set_num_threads(1)
        dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
        answer.write_bytes(pickle.dumps(function(rank)))
        dist.destroy_process_group()
    except BaseException:
        answer.with_suffix(".err").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)
