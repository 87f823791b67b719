"""Learned linear transforms of the inner gradient, one for each adapted parameter, the identity at first."""

import torch
from torch import Tensor, nn


class MetaCurvature(nn.Module):
    """Meta-curvature of one parameter (Park & Oliva 2019, section 3, MC2).

    The gradient G of a convolution ``(O, I, h, w)`` becomes G x1 M_o x2 M_i x3 M_f, a product with one learned matrix for its
    output channels, its input channels and its ``h*w`` places; that of a matrix ``(O, I)`` becomes M_o G M_i^T. The paper is
    silent on vectors (biases); as in learn2learn, each element has a factor of its own.

    Args:
        parameter: the parameter whose gradients are transformed.

    Shapes:
        ``(..., *parameter.shape)`` -> the same
    """

    def __init__(self, parameter: Tensor) -> None:
        super().__init__()
        self._ndim = parameter.ndim
        if parameter.ndim == 1:
            self.factor = nn.Parameter(torch.ones_like(parameter))
            return
        self.outputs = _identity(len(parameter), parameter)
        self.inputs = _identity(parameter.shape[1], parameter)
        if parameter.ndim > 2:
            self.places = _identity(parameter[0, 0].numel(), parameter)

    def forward(self, gradient: Tensor) -> Tensor:
        if self._ndim == 1:
            return self.factor * gradient
        if self._ndim == 2:
            return self.outputs @ gradient @ self.inputs.mT
        flat = gradient.flatten(2 - self._ndim) @ self.places.mT
        return torch.einsum("po,...oif,qi->...pqf", self.outputs, flat, self.inputs).reshape(gradient.shape)


class Kronecker(nn.Module):
    """The Kronecker-factored optimizer of one parameter (Meta-KFO: Arnold, Iqbal & Sha 2021).

    The gradient, as a matrix G ``(n, m)``, becomes L^T L G R^T R: a linear map that is positive semi-definite. As in
    learn2learn's ``KroneckerTransform(KroneckerLinear)``, which the authors publish as their implementation, G is a matrix
    itself, ``(I, h*w)`` for each output channel of a convolution, which share L and R, and ``(n, 1)`` for a vector; there is
    no bias, and a task does not change L and R.

    Args:
        parameter: the parameter whose gradients are transformed.

    Shapes:
        ``(..., *parameter.shape)`` -> the same
    """

    def __init__(self, parameter: Tensor) -> None:
        super().__init__()
        shape = parameter.shape
        rows, columns = (shape[0], 1) if len(shape) == 1 else (shape[-2], shape[-1])
        if len(shape) > 2:
            rows, columns = shape[1], parameter[0, 0].numel()
        self._ndim, self._matrix = len(shape), (rows, columns)
        self.left = _identity(rows, parameter)
        self.right = _identity(columns, parameter)

    def forward(self, gradient: Tensor) -> Tensor:
        leading = gradient.shape[: gradient.ndim - self._ndim]
        matrices = gradient.reshape(*leading, -1, *self._matrix)
        return (self.left.mT @ self.left @ matrices @ self.right.mT @ self.right).reshape(gradient.shape)


def _identity(size: int, like: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.eye(size, dtype=like.dtype, device=like.device))
