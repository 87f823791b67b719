"""``python -m fewshot.data list|check|prepare NAME``: which datasets there are, what of one is found; its prepared arrays."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot.data.catalogue import Facts, catalogue, facts
from fewshot.errors import UserError
from fewshot.runtime.cli import arranged, mistakes_explained, tolerate_any_console, whole_path
from fewshot.runtime.config_groups import CONFIGS, choices

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from fewshot.data.source import Source

UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def show_list(_: argparse.Namespace) -> int:
    """Which datasets there are, of what size, under which licence."""
    for name, known in catalogue().items():
        print(f"{name:<15} {known.title}")
        print(f"{'':<15} {_numbers(known)}{known.licence}")
    return 0


def check(options: argparse.Namespace) -> int:
    """What a dataset is, where it comes from, what of it is found, and whether it is whole; exit code 1 where it is not."""
    return max([_check(facts(name), options) for name in options.names or catalogue()])


def prepare(options: argparse.Namespace) -> int:
    """Downloads what is missing, where an address is known, and makes the prepared arrays, so that runs begin at once."""
    from fewshot.data.preparation import prepare as prepare_part

    for name in options.names:
        known = facts(name)
        source, cfg = _source(name, options)
        if _refusals(source) and _download(known, Path(cfg.paths.data_dir)):
            source, cfg = _source(name, options)
        source.obtain()
        for part in source.parts:
            prepared = prepare_part(source, part, Path(cfg.paths.cache_dir), print)
            print(f"{name} {part}: {len(prepared.table):,} rows in {prepared.folder}")
    return 0


def _check(known: Facts, options: argparse.Namespace) -> int:
    print(f"{known.name}: {known.title}")
    _print_entry("licence", known.licence)
    _print_entry("published", f"{_numbers(known)}{known.page}{f' ({known.note})' if known.note else ''}")
    for file in known.files:
        digest = f", md5 {file.md5}" if file.md5 else f", sha256 {file.sha256}" if file.sha256 else ""
        size = f" ({file.bytes:,} bytes{digest})" if file.bytes else f" ({digest[2:]})" if digest else ""
        _print_entry("file", " ".join([file.name + size, *file.urls]))
    source, cfg = _source(known.name, options)
    _print_entry("looked in", _looked_in(source, known, Path(cfg.paths.data_dir)))
    refused = list(_refusals(source).values())
    if refused and "allow_partial" in cfg.data:
        source, _ = _source(known.name, options, "data.allow_partial=true")
    missing = _refusals(source)
    found = {part: _rows(source, part) for part in ([] if "all" in missing else source.parts) if part not in missing}
    for part, (classes, rows) in found.items():
        _print_entry("found", f"{part}: " + (f"{classes:,} classes, " if classes else "") + f"{rows:,} rows")
    if not refused:
        images = sum(rows for _, rows in found.values())
        classes = len({one.name for part in found for one in source.classes(part)})
        there, of, what = (images, known.images, "images") if known.images else (classes, known.classes or 0, "classes")
        refused = [f"{there:,} of {of:,} {what}"] if there < of else []
    whole = "yes" if known.images else "yes, as far as is known: no number of rows is published to compare with"
    _print_entry("whole", f"no: {refused[0]}" if refused else whole)
    if options.sheet and found:
        _write_sheet(source, known, list(found), Path(f"{known.name}.png"))
    print()
    return 1 if refused else 0


def _looked_in(source: "Source", known: Facts, data_dir: Path) -> str:
    from fewshot.data.images.listed import PublishedImages

    if not isinstance(source, PublishedImages):
        return f"{data_dir} and its {known.name}/"
    names = (source.folder, *source.other_folders)
    return f"{data_dir}, which has no {'/ nor '.join(names)}/" if source.where == data_dir else str(source.where)


def _write_sheet(source: "Source", known: Facts, parts: list[str], path: Path) -> None:
    from fewshot.data.images.sheet import examples, write_sheet
    from fewshot.data.source import ImageSource

    if not isinstance(source, ImageSource):
        raise UserError(f"--sheet shows images, and {known.name} has none; leave it out")
    write_sheet(path, known.title, {part: examples(source, part) for part in parts})
    _print_entry("sheet", str(path))


def _source(name: str, options: argparse.Namespace, *more: str) -> tuple["Source", "DictConfig"]:
    """The source of a dataset as a run would have it, and the config of that run."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    chosen = [f"data={name}"] if name in choices("data") else ["data=folder", f"data/source={name}"]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("train", [*chosen, *options.overrides, *more])
    for key in ("data_dir", "cache_dir"):
        cfg.paths[key] = whole_path(cfg.paths[key])
    source: Source = instantiate(cfg.data.source, _convert_="all")
    return source, cfg


def _refusals(source: "Source") -> dict[str, str]:
    """Why a run would refuse parts of a source, by the names of those that it would; ``all`` where its files say the parts."""
    try:
        parts = source.parts
    except UserError as error:
        return {"all": str(error)}
    return {part: reason for part in parts if (reason := _refusal(source, part))}


def _refusal(source: "Source", part: str) -> str:
    """Why a run would refuse a part of a source; nothing where it would not."""
    from fewshot.data.source import reading

    try:
        with reading(source):
            source.files(part)
            source.classes(part)
    except UserError as error:
        return str(error)
    return ""


def _rows(source: "Source", part: str) -> tuple[int, int]:
    """How many classes and rows a part has."""
    from fewshot.data.source import table_of

    classes = source.classes(part)
    return len(classes), len(table_of(source, classes, source.columns(part)))


def _download(known: Facts, data_dir: Path) -> bool:
    """Whether anything has been downloaded."""
    from fewshot.data.files.download import download

    missing = [file for file in known.files if file.urls and not (data_dir / known.name / file.name).is_file()]
    for file in missing:
        path = data_dir / known.name / file.name
        remedy = f"see {known.page}, and put it into {path.parent}"
        download(file.urls, path, file.md5, remedy, file.sha256, file.bytes)
    return bool(missing)


def _numbers(known: Facts) -> str:
    """Classes, images and size, as far as they are known, each with a comma behind it."""
    size = known.bytes
    named = [f"{known.classes:,} classes"] if known.classes else []
    named += [f"{known.images:,} images"] if known.images else []
    named += [next(f"{size / of:.0f} {unit}" for of, unit in UNITS if size >= of)] if size else []
    return "".join(f"{part}, " for part in named)


def _print_entry(what: str, text: str) -> None:
    print(f"  {what:<10} {text}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    whole = argparse.ArgumentParser(prog="python -m fewshot.data", description="Which datasets there are, and what is found.")
    commands = whole.add_subparsers(required=True)
    for name, command, many in (("list", show_list, None), ("check", check, "*"), ("prepare", prepare, "+")):
        about = str(command.__doc__)
        each = commands.add_parser(name, help=about, description=about)
        each.set_defaults(command=command)
        if many:
            each.add_argument(
                "names", nargs=many, metavar="NAME", help="datasets, as list has them; and KEY=VALUE, as of train.py"
            )
        if command is check:
            each.add_argument("--sheet", action="store_true", help="also draw some of the images, into NAME.png")
    return whole


if __name__ == "__main__":
    with mistakes_explained("train"):
        tolerate_any_console()
        os.environ.setdefault("FEWSHOT_ROOT", str(CONFIGS.parent))
        chosen = parser().parse_args([word for word in sys.argv[1:] if "=" not in word])
        chosen.overrides = arranged([word for word in sys.argv[1:] if "=" in word])
        raise SystemExit(chosen.command(chosen))
