"""``--help``: what can be chosen, and every key with its value and its comment, both as the files in ``configs/`` have them."""

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from fewshot.runtime.config_check import place_numbers, shown
from fewshot.runtime.config_groups import CONFIGS, ConfigFile, choices, chosen, folders

COMMANDS = """\
Few-shot learning: trains on tasks, tests on unseen ones.

python train.py                                    the embedded dataset, a few minutes on a CPU
python train.py experiment=omniglot_5w1s           a published recipe
python train.py experiment=NAME trainer.max_steps=1000 model.inner.lr=0.2
python train.py -m seed=0,1,2 launcher=local       a sweep; the same command again goes on with it
python eval.py run=logs/train/runs/RUN data.shots=5
python predict.py run=logs/train/runs/RUN support=FOLDER query=FOLDER
python export.py run=logs/train/runs/RUN support=FOLDER out=FILE
python demo.py run=logs/train/runs/RUN
"""
WIDTH = 132


def show_help(config_name: str) -> None:
    """Prints what the choices of the command line make of the config."""
    overrides = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    searched = [argument.split("=", 1)[1] for argument in sys.argv[1:] if argument.startswith("--config-dir=")]
    overrides += [f"hydra.searchpath=[{','.join(f'file://{Path(folder).absolute()}' for folder in searched)}]"]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = hydra.compose(config_name, overrides=overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        hydra_node = cfg.pop("hydra")
        place_numbers(cfg)
    print(COMMANDS)
    print("Choices, by GROUP=NAME:\n")
    for group in groups():
        current = hydra_node.runtime.choices.get(group)
        print(f"{group}={current}" if current else group)
        for name in choices(group):
            _entry(f"  {name}", _file(group, name).description, indent=28)
    print("\nKeys, by KEY=VALUE:\n")
    comments = {key: text for file in files() for key, text in key_comments(file)}
    for key, value in leaves(cfg):
        _entry(f"{key}={value}", comments.get(key, ""), indent=56)


def groups() -> list[str]:
    """The groups that something can be chosen in."""
    found = {path.parent.relative_to(folder).as_posix() for folder in folders() for path in folder.glob("*/**/*.yaml")}
    return sorted(group for group in found if group.split("/")[0] not in ("hydra", "recipe") and choices(group))


def files() -> Iterator[ConfigFile]:
    """All config files, those that are chosen last: where two have a comment for a key, theirs is nearer."""
    for folder in folders():
        for path in sorted(folder.rglob("*.yaml")):
            group = path.parent.relative_to(folder).as_posix()
            yield ConfigFile(path, "" if group == "." else group)
    for file in chosen():
        yield from file.parts


def key_comments(file: ConfigFile) -> Iterator[tuple[str, str]]:
    """Each key of a file, dotted, with the comment above it."""
    above: list[tuple[int, str]] = [] if file.is_global else [(-1, file.group.replace("/", "."))]
    comment: list[str] = []
    for line in file.text.splitlines():
        if line.lstrip().startswith("#"):
            comment.append(line.lstrip().removeprefix("# "))
            continue
        key = re.match(r"( *)([\w.]+):", line)
        if key:
            above = [(indent, name) for indent, name in above if indent < len(key[1])] + [(len(key[1]), key[2])]
            if comment:
                yield ".".join(name for _, name in above), " ".join(comment)
        comment = []


def leaves(node: DictConfig, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every key with its value as it is written, references included."""
    written: Any = OmegaConf.to_container(node)
    for name in map(str, node):
        value = node._get_node(name)
        if isinstance(value, DictConfig) and not value._is_interpolation() and not value._is_none():
            yield from leaves(value, f"{prefix}{name}.")
        elif name not in ("_target_", "_partial_"):
            yield f"{prefix}{name}", shown(written[name])


def _file(group: str, name: str) -> ConfigFile:
    return next(ConfigFile(path, group) for folder in folders() if (path := folder / group / f"{name}.yaml").is_file())


def _entry(term: str, text: str, indent: int) -> None:
    """A term with its description beside it, or below where the term is long; no word is broken."""
    lines = textwrap.wrap(text, WIDTH - indent, break_long_words=False, break_on_hyphens=False)
    if len(term) < indent - 1 and lines:
        print(f"{term:<{indent}}{lines.pop(0)}")
    else:
        print(term)
    for line in lines:
        print(" " * indent + line)
