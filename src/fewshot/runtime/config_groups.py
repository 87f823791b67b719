"""The files that configs are composed from: where they lie, what can be chosen, and the comments on each choice and key."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig

CONFIGS = Path(__file__).parents[3] / "configs"


@dataclass(frozen=True)
class ConfigFile:
    """One choice of one group.

    Attributes:
        group: as in ``model/backbone``; empty for a primary config.
    """

    path: Path
    group: str

    @cached_property
    def text(self) -> str:
        return self.path.read_text("utf-8")

    @property
    def is_global(self) -> bool:
        """Whether its keys are those of the whole config, not of its group's node."""
        return not self.group or re.match(r"#\s*@package\s+_global_", self.text) is not None

    @property
    def content(self) -> dict[str, Any]:
        """Its keys and values, without those of its defaults."""
        content: Any = yaml.safe_load(self.text)
        return content if isinstance(content, dict) else {}

    @property
    def description(self) -> str:
        """Its first comment, as far as an empty line or one that announces something."""
        lines = [line.removeprefix("# ") for line in self.text.splitlines() if not line.startswith("# @package")]
        return " ".join(takewhile(lambda line: line and not line.endswith(":"), lines))

    @property
    def overrides(self) -> dict[str, str]:
        """The choices that it makes in other groups."""
        entries = [entry for entry in self.content.get("defaults", []) if isinstance(entry, dict)]
        return {key.removeprefix("override /"): str(choice) for entry in entries for key, choice in entry.items()}

    @property
    def parts(self) -> list["ConfigFile"]:
        """The files of its own group that it is made of, itself last."""
        names = [name for name in self.content.get("defaults", []) if isinstance(name, str) and "/" not in name]
        paths = [path for name in names if (path := self.path.with_name(f"{name}.yaml")).is_file()]
        return [*(part for path in paths for part in ConfigFile(path, self.group).parts), self]

    def has(self, key: str) -> bool:
        """Whether it sets a dotted key of the whole config."""
        node: Any = self.content
        path = key.split(".")
        if not self.is_global:
            group = self.group.split("/")
            if path[: len(group)] != group:
                return False
            path = path[len(group) :]
        for name in path:
            if not isinstance(node, dict) or name not in node:
                return False
            node = node[name]
        return bool(path)


def folders() -> list[Path]:
    """Where configs are looked for, the project's own folder included."""
    if not HydraConfig.initialized():
        return [CONFIGS]
    return [Path(source.path) for source in HydraConfig.get().runtime.config_sources if source.schema == "file"]


def choices(group: str) -> list[str]:
    """What can be chosen in a group; names with an underscore in front are parts of others."""
    found = {path.stem for folder in folders() for path in (folder / group).glob("*.yaml")}
    return sorted(name for name in found if not name.startswith("_"))


def chosen() -> Iterator[ConfigFile]:
    """The files that the config in hand was composed from, as far as they were chosen by name."""
    if HydraConfig.initialized():
        for group, choice in HydraConfig.get().runtime.choices.items():
            for folder in folders():
                path = folder / str(group).split("@")[0] / f"{choice}.yaml"
                if path.is_file():
                    yield ConfigFile(path, str(group))


def misfit() -> str | None:
    """A line where the data are not those that the experiment was made for, whose network, numbers and budget stay."""
    files = {file.group: file for file in chosen()}
    experiment, data = files.get("experiment"), files.get("data")
    meant = experiment.overrides.get("data") if experiment else None
    if experiment is None or data is None or meant in (None, data.path.stem):
        return None
    names = [name for name in choices("experiment") if any(_is_for(data, folder, name) for folder in folders())]
    better = f"; made for it: experiment={' or '.join(names)}" if names else ""
    return f"experiment={experiment.path.stem} was made for data={meant}: its network and budget meet {data.path.stem}{better}"


def _is_for(data: ConfigFile, folder: Path, name: str) -> bool:
    path = folder / f"experiment/{name}.yaml"
    return path.is_file() and ConfigFile(path, "experiment").overrides.get("data") == data.path.stem
