"""A user's inputs (paths, images, sentences, arrays, tensors) as rows, and rows as a network sees them."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from fewshot.data.source import ArraySpec
from fewshot.predict.errors import InputError

COLOURS = (3, 4)
"""Channels of a picture that is not grey."""


class Reader:
    """Makes rows of inputs, as a run's dataset makes them of its own.

    Args:
        row: what one row is.
        encode: makes a row of what is no array yet; None takes arrays alone.
    """

    def __init__(self, row: ArraySpec, encode: Callable[[Any], npt.NDArray[Any]] | None) -> None:
        self._row, self._encode = row, encode

    def __call__(self, x: Any) -> Tensor:
        """Rows ``(n, ...)``: uint8 images are 0 to 255, float ones 0 to 1; other inputs are as the network takes them.

        Args:
            x: paths, images of Pillow, sentences, or an array of rows, which may be flattened; one alone is a list of one.

        Raises:
            InputError: there are none, they have another shape, or they are not finite.
            UserError: one cannot be read.
        """
        if hasattr(x, "toarray"):
            raise InputError("Sparse data are not supported; give X.toarray()")
        if _is_readable(x):
            x = [x]
        elif not isinstance(x, Sequence | Tensor):  # of pandas, of which x[0] is what is called 0
            x = np.asarray(x)
        if not isinstance(x, Tensor) and getattr(x, "ndim", True) and len(x) and _is_readable(x[0]):
            x = torch.from_numpy(self._encoded(list(x)))
        elif isinstance(x, Sequence) and len(x) and isinstance(x[0], Tensor):
            if len(shapes := {tuple(one.shape) for one in x}) > 1:
                raise InputError(f"tensors of different shapes, {min(shapes)} and {max(shapes)}; give one shape, or arrays")
            x = torch.stack(list(x))
        elif not isinstance(x, Tensor):
            x = self._of_array(x)
        if not len(x):
            raise InputError("there are 0 samples while a minimum of 1 is required; give one input at least")
        return self._checked(self._shaped(x.detach().cpu()))

    def _of_array(self, x: Any) -> Tensor:
        try:
            array = np.asarray(x)
        except ValueError:  # images of different sizes
            return torch.from_numpy(self._encoded(list(x)))
        if array.dtype.kind in "US" or (array.dtype == object and array.ndim == 1):
            return torch.from_numpy(self._encoded(array.tolist()))
        if array.dtype.kind not in "buif":
            raise InputError(f"Complex data not supported, nor other {array.dtype} arrays; give real numbers")
        return torch.from_numpy(np.ascontiguousarray(array.astype(np.float32) if array.dtype.kind == "f" else array))

    def _encoded(self, items: Sequence[Any]) -> Any:
        if self._encode is None:
            raise InputError(f"this run was trained on computed tasks; give arrays of shape {list(self._row.shape)}")
        with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
            return np.stack(list(pool.map(self._encode, items)))

    def _shaped(self, x: Tensor) -> Tensor:
        shape = tuple(self._row.shape)
        if tuple(x.shape[1:]) == shape:
            return x
        if x.ndim == 2 and x.shape[1] == math.prod(shape):
            return x.view(-1, *shape)
        if x.ndim == len(shape) and shape[0] == 1 and tuple(x.shape[1:]) == shape[1:]:
            return x.unsqueeze(1)  # grey images
        if self._row.dtype == "uint8" and x.dtype == torch.uint8 and x.ndim in (3, 4):
            if tuple(x.shape) == shape or (x.ndim == 3 and x.shape[-1] in COLOURS):
                raise InputError(
                    f"an array of shape {list(x.shape)} may be one image or {len(x)} grey ones; give x[None] for one, or a list"
                )
            if x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[3] not in (1, *COLOURS):  # as PyTorch has them, channels first
                x = x.movedim(1, 3)
            return torch.from_numpy(self._encoded(list(x.numpy())))
        if x.ndim == 2:
            raise InputError(f"X has {x.shape[1]} features, but FewShotLearner is expecting {math.prod(shape)} features")
        raise InputError(
            f"inputs of shape {list(x.shape)} are no rows of shape {list(shape)}; give that shape, paths, or images of Pillow"
            + (" (Reshape your data)" if x.ndim < 2 else "")
        )

    def _checked(self, x: Tensor) -> Tensor:
        if self._row.dtype == "int64":
            if x.is_floating_point() and not x.equal(x.round()):
                raise InputError("inputs have fractions, and rows of this run are whole numbers; give what it was trained on")
            return x.to(torch.int64)
        if self._row.dtype == "uint8" and x.dtype == torch.uint8:
            return x
        x = x.to(torch.float32)
        if not x.isfinite().all():
            raise InputError("Input X contains NaN or infinity; leave such rows out")
        if self._row.dtype == "uint8" and (x.min() < 0 or x.max() > 1):
            found = f"from {float(x.min()):g} to {float(x.max()):g}"
            raise InputError(f"images of numbers {found}: give uint8 from 0 to 255, or floats from 0 to 1")
        return x


class Scale(nn.Module):
    """Normalises images as the run's data module does, channel by channel; leaves other inputs and features as they are.

    Args:
        row: what one row is.
        mean, std: of each channel, on the scale 0 to 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, row: ArraySpec, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self._images, self._shape = row.dtype == "uint8", tuple(row.shape)
        if self._images:
            shape = (-1, *(1 for _ in row.shape[1:]))
            self.register_buffer("mean", torch.tensor(list(mean)).view(shape), persistent=False)
            self.register_buffer("std", torch.tensor(list(std)).view(shape), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Of rows ``(..., C, H, W)``: uint8 from 0 to 255, or floats from 0 to 1."""
        if not self._images or (x.is_floating_point() and tuple(x.shape[-len(self._shape) :]) != self._shape):
            return x
        floats = x.to(torch.float32).mul(1 / 255) if x.dtype == torch.uint8 else x
        return (floats - self.mean) / self.std


def _is_readable(item: Any) -> bool:
    """Whether it is a path, a sentence, a file's content or an image of Pillow: something to be encoded."""
    return isinstance(item, str | bytes | PathLike) or hasattr(item, "getbands")
