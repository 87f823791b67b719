"""``python -m fewshot.data list|check|prepare NAME``: which datasets there are, what of one is found; its prepared arrays."""

import argparse
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fewshot.data.catalogue import Facts, catalogue, download_hint, facts
from fewshot.errors import UserError
from fewshot.runtime.cli import arranged, mistakes_explained, tolerate_any_console, whole_path
from fewshot.runtime.config_groups import CONFIGS, choices

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from fewshot.data.source import Source

Found = Mapping[str, tuple[int, int]]
"""Of each part that is there: how many classes and rows."""
UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def show_list(_: argparse.Namespace) -> int:
    """Which datasets there are, of what size, under which licence."""
    for name, known in catalogue().items():
        _print_filled(f"{name:<15} ", known.title)
        _print_filled(f"{'':<15} ", f"{_numbers(known)}{known.licence}")
    return 0


def check(options: argparse.Namespace) -> int:
    """What a dataset is, where it comes from, what of it is found, and whether it is whole; exit code 1 where it is not."""
    chosen = [facts(name) for name in options.names or catalogue()]
    _require_room_for_sheets(chosen, options)
    return max([_check(known, options) for known in chosen])


def prepare(options: argparse.Namespace) -> int:
    """Downloads what is missing, where an address is known, and makes the prepared arrays, so that runs begin at once."""
    from fewshot.data.preparation import prepare as prepare_part

    chosen = [facts(name) for name in options.names]
    _require_room_for_sheets(chosen, options)
    for known in chosen:
        source, cfg = _source(known.name, options)
        if (refused := _refusals(source)) and _download(known, options, cfg, source, next(iter(refused.values()))):
            source, cfg = _source(known.name, options)
        source.obtain()
        for part in source.parts:
            prepared = prepare_part(source, part, Path(cfg.paths.cache_dir), print)
            print(f"{known.name} {part}: {len(prepared.table):,} rows in {prepared.folder}")
        if options.sheet:
            _write_sheet(source, known, source.parts)
    return 0


def _check(known: Facts, options: argparse.Namespace) -> int:
    _print_filled(f"{known.name}: ", known.title)
    _print_entry("licence", known.licence)
    _print_entry("published", f"{_numbers(known)}{known.page}")
    if known.note:
        _print_entry("note", known.note)
    for file in known.files:
        digests = [f"{kind} {digest}" for kind, digest in (("md5", file.md5), ("sha256", file.sha256)) if digest]
        _print_entry("file", file.name + (f" ({file.bytes:,} bytes)" if file.bytes else ""), *digests, *file.urls)
    if get := _how_to_get(known):
        _print_entry("get", get)
    source, cfg = _source(known.name, options)
    _print_entry("looked in", _looked_in(source, known, Path(cfg.paths.data_dir)))
    refused = list(_refusals(source).values())
    source, found = _found(known, options, cfg, source)
    for part, (classes, rows) in found.items():
        _print_entry("found", f"{part}: " + (f"{classes:,} classes, " if classes else "") + f"{rows:,} rows")
    whole, how = (False, f"no: {refused[0]}") if refused else _is_whole(known, options, source, found)
    _print_entry("whole", how)
    if options.sheet and found:
        _write_sheet(source, known, list(found))
    print()
    return 0 if whole else 1


def _is_whole(known: Facts, options: argparse.Namespace, source: "Source", found: Found) -> tuple[bool, str]:
    """Whether a dataset that no run would refuse has as many rows or classes as are published, and the words for it."""
    lacks = _lacks(known, source, found)
    chosen = [override for override in options.overrides if override.lstrip("+~").startswith("data.source.")]
    if lacks and chosen:  # rows may be there and not asked for
        every = argparse.Namespace(overrides=[override for override in options.overrides if override not in chosen])
        source, _ = _source(known.name, every)
        if not _refusals(source):
            taken, lacks = lacks, _lacks(known, source, _rows_of_parts(source, {}))
            if not lacks:
                return True, f"yes; {taken} are taken with {' '.join(chosen)}"
    if lacks:
        return False, f"no: {lacks}"
    if known.images or known.rows or known.is_embedded:
        return True, f"yes, but for {known.unread}, which is not read here" if known.unread else "yes"
    return True, "not known: no number of rows is published to compare with"


def _lacks(known: Facts, source: "Source", found: Found) -> str:
    """How many rows or classes there are, of how many, where that is fewer than are published; nothing where it is not."""
    if expected := known.images or known.rows:
        there, what = sum(rows for _, rows in found.values()), "images" if known.images else "rows"
    else:
        expected, what = known.classes or 0, "classes"
        there = len({one.name for part in found for one in source.classes(part)})
    return f"{there:,} of {expected:,} {what}" if there < expected else ""


def _how_to_get(known: Facts) -> str:
    """How a dataset comes here; nothing of one that is made here."""
    by_hand = "" if known.is_embedded else "by hand, from where it is published"
    return known.get or (f"python -m fewshot.data prepare {known.name}" if download_hint(known.name) else by_hand)


def _looked_in(source: "Source", known: Facts, data_dir: Path) -> str:
    from fewshot.data.images.listed import PublishedImages

    if not isinstance(source, PublishedImages):
        return f"{data_dir} and its {known.name}/"
    names = (source.folder, *source.other_folders)
    return f"{data_dir}, as there is nothing in {'/ or '.join(names)}/" if source.where == data_dir else str(source.where)


def _sheet(known: Facts) -> Path:
    return Path(f"{known.name}.png")


def _require_room_for_sheets(chosen: Sequence[Facts], options: argparse.Namespace) -> None:
    """Refuses a folder that sheets cannot be written to, before anything is read."""
    if options.sheet:
        from fewshot.data.images.sheet import require_writable

        for known in chosen:
            require_writable(_sheet(known))


def _write_sheet(source: "Source", known: Facts, parts: Sequence[str]) -> None:
    from fewshot.data.images.sheet import examples, write_sheet
    from fewshot.data.source import ImageSource

    if isinstance(source, ImageSource):
        write_sheet(_sheet(known), known.title, {part: examples(source, part) for part in parts})
        _print_entry("sheet", str(_sheet(known)))
    else:
        _print_entry("sheet", f"none, as {known.name} has no images")


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


def _found(known: Facts, options: argparse.Namespace, cfg: "DictConfig", source: "Source") -> tuple["Source", Found]:
    """What is there of a dataset, whole or not, and the source that reads it."""
    refusals = _refusals(source)
    if refusals and "allow_partial" in cfg.data:
        source, _ = _source(known.name, options, "data.allow_partial=true")
        refusals = _refusals(source)
    return source, _rows_of_parts(source, refusals)


def _rows_of_parts(source: "Source", refusals: Mapping[str, str]) -> Found:
    return {part: _rows(source, part) for part in ([] if "all" in refusals else source.parts) if part not in refusals}


def _rows(source: "Source", part: str) -> tuple[int, int]:
    """How many classes and rows a part has."""
    from fewshot.data.source import table_of

    classes = source.classes(part)
    return len(classes), len(table_of(source, classes, source.columns(part)))


def _download(known: Facts, options: argparse.Namespace, cfg: "DictConfig", source: "Source", refused: str) -> bool:
    """Whether anything has been downloaded; what is there already is told first."""
    from fewshot.data.files.download import download

    folder = Path(cfg.paths.data_dir) / known.name
    missing = [file for file in known.files if file.urls and not (folder / file.name).is_file()]
    if not missing:
        return False
    _, found = _found(known, options, cfg, source)
    remedy = f"see {known.page}, and put it into {folder}"
    if found:
        there = ", ".join(f"{part}: {classes:,} classes, {rows:,} rows" for part, (classes, rows) in found.items())
        reason = refused.replace(download_hint(known.name), "")
        _print_filled(f"{known.name}: ", f"there in part ({there}), which a run would refuse: {reason}")
        remedy += ", or accept what is there with data.allow_partial=true" if "allow_partial" in cfg.data else ""
    size = f" ({_size(known.bytes)})" if known.bytes else ""
    _print_filled(f"{known.name}: ", f"downloading {', '.join(file.name for file in missing)}{size} into {folder}")
    for file in missing:
        download(file.urls, folder / file.name, file.md5, remedy, file.sha256, file.bytes)
    return True


def _numbers(known: Facts) -> str:
    """Classes, images and size, as far as they are known, each with a comma behind it."""
    named = [f"{known.classes:,} classes"] if known.classes else []
    named += [f"{known.images:,} images"] if known.images else []
    named += [_size(known.bytes)] if known.bytes else []
    return "".join(f"{part}, " for part in named)


def _size(size: int) -> str:
    return next(f"{size / of:.0f} {unit}" for of, unit in UNITS if size >= of)


def _print_entry(what: str, *texts: str) -> None:
    """Prints a fact, each of its texts on lines of its own."""
    for text in texts:
        _print_filled(f"  {what:<10} ", text)
        what = ""


def _print_filled(first: str, text: str) -> None:
    """Prints a text behind `first`, in lines as wide as the terminal; a word, as an address or digest is, stays whole."""
    lines = textwrap.TextWrapper(shutil.get_terminal_size().columns, break_long_words=False, break_on_hyphens=False)
    lines.initial_indent, lines.subsequent_indent = first, " " * len(first)
    print(lines.fill(text), flush=True)


def refuse_choices(overrides: Sequence[str]) -> None:
    """Refuses another dataset than the one that is named, whose facts would be told of it."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+~").split("@")[0] in ("data", "data/source"):
            name = value if value in catalogue() else "NAME"
            raise UserError(
                f"{override} is of train.py; name the dataset without a key, as in: python -m fewshot.data check {name}"
            )


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
        if many:
            each.add_argument("--sheet", action="store_true", help="also draw some of the images, into NAME.png")
    return whole


if __name__ == "__main__":
    with mistakes_explained("train"):
        tolerate_any_console()
        os.environ.setdefault("FEWSHOT_ROOT", str(CONFIGS.parent))
        overrides = arranged([word for word in sys.argv[1:] if "=" in word])
        refuse_choices(overrides)
        chosen = parser().parse_args([word for word in sys.argv[1:] if "=" not in word])
        chosen.overrides = overrides
        raise SystemExit(chosen.command(chosen))
