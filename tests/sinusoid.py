"""Sinusoids to regress (Finn et al. 2017, section 5.1), each computed from its task's number."""

from collections.abc import Sequence

import torch

from fewshot.data.parts import ComputedTasks
from fewshot.data.source import ArraySpec
from fewshot.tasks.batch import TaskBatch, TaskRows
from fewshot.tasks.streams import stream_key, uniforms


class Sinusoids(ComputedTasks):
    """Amplitudes from 0.1 to 5, phases from 0 to pi, inputs from -5 to 5."""

    def __init__(self, part: str, shots: int = 10, queries: int = 10, seed: int = 0) -> None:
        self.name, self.x, self.seed = "sinusoids", ArraySpec((1,), "float32"), seed
        self.description = {"ways": 1, "shots": shots, "queries": queries}
        self._shots, self._key = shots, stream_key("sinusoids", part, seed)

    def draw(self, indices: Sequence[int]) -> list[TaskBatch]:
        count = self._shots + int(str(self.description["queries"]))
        random = torch.from_numpy(uniforms(self._key, list(indices), 2 + count)).float()
        amplitude, phase, x = 0.1 + 4.9 * random[:, :1], torch.pi * random[:, 1:2], 10 * random[:, 2:] - 5
        y, k = amplitude * torch.sin(x - phase), self._shots
        rows = TaskRows(torch.tensor(list(indices)))
        return [TaskBatch(x[:, :k, None], y[:, :k], x[:, k:, None], y[:, k:], rows)]
