"""Modules of PyTorch as files for use elsewhere, and what computes by these files, to be compared with the module."""

import io
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from fewshot.errors import UserError
from fewshot.files import written_whole
from fewshot.predict.tensor_file import write_tensors

METADATA = "fewshot"
"""Name of the metadata in a file; ``torch.export`` adds ``.json``."""


Inputs = Sequence[tuple[Tensor, Sequence[str]]]
"""Examples of a module's inputs, two rows or more of each, and the names of each one's first dimensions, which are free."""


@dataclass(frozen=True)
class Exported:
    """What a file will hold.

    Attributes:
        computes: the module's forward, by the name of what computes it.
        write: writes the file, whole or not at all.
    """

    computes: Mapping[str, Callable[..., Tensor]]
    write: Callable[[Path], None]


def as_torch_export(module: nn.Module, inputs: Inputs, about: dict[str, Any]) -> Exported:
    """A program of ``torch.export``; arguments are those of every format.

    Args:
        module: in evaluation.
        inputs: that it takes.
        about: metadata, plain containers; the sizes that it takes are added.

    Raises:
        UserError: the format does not take the module, or a package is missing.
    """
    program, buffer = _program(module, inputs, about), io.BytesIO()
    torch.export.save(program, buffer, extra_files={f"{METADATA}.json": json.dumps(about)})
    content = buffer.getvalue()
    loaded = torch.export.load(io.BytesIO(content)).module()
    return Exported({"torch.export": loaded}, partial(_write, content))


def as_onnx(module: nn.Module, inputs: Inputs, about: dict[str, Any]) -> Exported:
    """A graph of ONNX; ONNX Runtime computes it where it is installed."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(f"format=onnx needs {missing[0]}, which is not installed; make extras, or pip install onnx onnxscript")
    program = _program(module, inputs, about)
    shapes = tuple(dict(enumerate(names)) for _, names in inputs)
    for package in ("onnxscript", "onnx_ir"):
        logging.getLogger(package).setLevel(logging.WARNING)  # they tell of every node that they simplify
    try:
        with torch.no_grad():
            made = torch.onnx.export(program, dynamic_shapes=shapes, output_names=["outputs"], verbose=False)
    except Exception as error:  # of whatever kind torch.onnx finds
        raise UserError(f"format=onnx: {_onnx_reason(error)}; use format=torch_export") from error
    assert made is not None  # noqa: S101  it is where no file is named
    made.model.metadata_props[METADATA] = json.dumps(about)
    content = made.model_proto.SerializeToString()
    computes: dict[str, Callable[..., Tensor]] = {"torch.export": program.module()}
    if find_spec("onnxruntime") is not None:
        computes["onnxruntime"] = _onnxruntime(content)
    return Exported(computes, partial(_write, content))


def as_safetensors(module: nn.Module, _inputs: Inputs, about: dict[str, Any]) -> Exported:
    """All tensors of the module, by their names in it; no graph."""
    tensors = dict([*module.named_parameters(), *module.named_buffers()])
    empty = deepcopy(module)
    filled = dict([*empty.named_parameters(), *empty.named_buffers()])
    with torch.no_grad():
        for tensor in filled.values():
            tensor.zero_()
        for name, tensor in tensors.items():
            filled[name].copy_(tensor)
    return Exported({"safetensors": empty}, lambda path: write_tensors(path, tensors, {METADATA: json.dumps(about)}))


FORMATS = {"torch_export": as_torch_export, "onnx": as_onnx, "safetensors": as_safetensors}


def _program(module: nn.Module, inputs: Inputs, about: dict[str, Any]) -> ExportedProgram:
    """The module, whose tensors become its own, as a program; tells in `about` which sizes it takes."""
    shapes = tuple(dict.fromkeys(range(len(names)), Dim.DYNAMIC) for _, names in inputs)
    for tensor in (*module.parameters(), *module.buffers()):  # a view would be written with all that it is a part of
        tensor.data = tensor.detach().clone(memory_format=torch.contiguous_format)
    try:
        with torch.no_grad():
            program = torch.export.export(module, tuple(tensor for tensor, _ in inputs), dynamic_shapes=shapes)
    except Exception as error:  # of whatever kind a backbone's operations find
        raise UserError(
            f"torch.export cannot take this network ({_first_line(error)}); use format=safetensors, or another backbone"
        ) from error
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"][-len(inputs) :]
    for node, (_, names) in zip(nodes, inputs, strict=True):
        for dim, name in enumerate(names):
            bounds = program.range_constraints[node.meta["val"].shape[dim].node.expr]
            most = int(bounds.upper) if bounds.upper.is_finite and bounds.upper < 2**31 else None
            # 0 and 1 are what a trace cannot tell from the sizes it has seen: it takes them all the same.
            about.setdefault("sizes", {})[name] = [1 if bounds.lower <= 2 else int(bounds.lower), most]
    return program


def _onnxruntime(content: bytes) -> Callable[..., Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def compute(*inputs: Tensor) -> Tensor:
        given = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return torch.from_numpy(session.run(None, given)[0])

    return compute


def _onnx_reason(error: BaseException | None) -> str:
    """The operator that ONNX lacks, else what went wrong first."""
    while error is not None:
        operator = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(error))
        if operator:
            return f"ONNX has no operator for {operator[1]}"
        first, error = error, error.__cause__
    return f"the graph cannot be translated ({_first_line(first)})"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _write(content: bytes, path: Path) -> None:
    with written_whole(path) as file:
        file.write(content)
