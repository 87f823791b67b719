"""Where classes are that the configs of older runs name by other places."""

from typing import Any

MOVED = {
    "fewshot.data.glyphs.": "fewshot.data.images.glyphs.",
    "fewshot.data.miniimagenet.": "fewshot.data.images.miniimagenet.",
    "fewshot.data.module.": "fewshot.data.datamodule.",
    "fewshot.data.omniglot.": "fewshot.data.images.omniglot.",
    "fewshot.data.quickdraw.": "fewshot.data.images.quickdraw.",
    "fewshot.inner.loop.": "fewshot.inner.inner_loop.",
    "fewshot.runtime.seeing.": "fewshot.runtime.plots.",
    "fewshot.runtime.strategy.": "fewshot.runtime.task_parallel.",
}
"""Modules, the old name and the new one, each with a dot behind it."""


def renamed(node: Any) -> Any:
    """A config, of plain containers, with each ``_target_`` by the name that it has now."""
    if isinstance(node, list):
        return [renamed(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {key: _now(value) if key == "_target_" and isinstance(value, str) else renamed(value) for key, value in node.items()}


def _now(target: str) -> str:
    for old, new in MOVED.items():
        if target.startswith(old):
            return new + target.removeprefix(old)
    return target
