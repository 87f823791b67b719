"""The names that classes have now, which configs of older runs have by others."""

from typing import Any

INNER_LOOP = "fewshot.inner.inner_loop.InnerLoop"
PRETRAINED = "fewshot.backbones.pretrained.Pretrained"
INNER_LOOPS = {
    "unrolled": "fewshot.inner.unrolled.Unrolled",
    "implicit": "fewshot.inner.implicit.Implicit",
    "displacement": "fewshot.inner.reptile.Reptile",
}
"""What was one class, by the value of its key ``outer``."""
OF_UNROLLED = ("first_order", "rates", "transform", "annealing", "checkpoint_steps")
"""Keys that the other outer gradients had too, and could not use."""
OF_IMPLICIT = ("cg_steps", "cg_damping")
"""Keys of the implicit gradient, likewise."""

RENAMED_MODULES = {
    "fewshot.data.glyphs.": "fewshot.data.images.glyphs.",
    "fewshot.data.miniimagenet.": "fewshot.data.images.miniimagenet.",
    "fewshot.data.module.": "fewshot.data.datamodule.",
    "fewshot.data.omniglot.": "fewshot.data.images.omniglot.",
    "fewshot.data.quickdraw.": "fewshot.data.images.quickdraw.",
    "fewshot.inner.loop.": "fewshot.inner.inner_loop.",
    "fewshot.runtime.seeing.": "fewshot.runtime.plots.",
    "fewshot.runtime.strategy.": "fewshot.runtime.task_parallel.",
}
"""The old name and the new one, each with a dot behind it."""


def with_current_names(node: Any) -> Any:
    """A config, of plain containers, with each ``_target_`` by the name that it has now."""
    if isinstance(node, list):
        return [with_current_names(item) for item in node]
    if not isinstance(node, dict):
        return node
    now = {key: with_current_names(value) for key, value in node.items()}
    if isinstance(now.get("_target_"), str):
        now["_target_"] = _current_name(now["_target_"])
    if now.get("_target_") == PRETRAINED:
        now.pop("cached", None)  # images whose features it kept
    return _with_outer_gradient(now) if now.get("_target_") == INNER_LOOP else now


def _with_outer_gradient(inner: dict[str, Any]) -> dict[str, Any]:
    """An inner loop from when one class had the settings of every outer gradient."""
    outer = inner.get("outer", "unrolled")
    dropped = {"outer", *(() if outer == "unrolled" else OF_UNROLLED), *(() if outer == "implicit" else OF_IMPLICIT)}
    kept = {key: value for key, value in inner.items() if key not in dropped and value is not None}
    return {**kept, "_target_": INNER_LOOPS.get(outer, INNER_LOOP)}


def _current_name(target: str) -> str:
    for old, new in RENAMED_MODULES.items():
        if target.startswith(old):
            return new + target.removeprefix(old)
    return target
