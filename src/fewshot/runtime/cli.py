"""The shell around an entry point: composes the config, runs the job, and turns a user's mistake into one line and exit code 2.

Nothing heavy is imported before the config is composed, so that ``--help`` and mistakes answer at once.
"""

import errno
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import hydra
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fewshot.errors import UserError, suggest
from fewshot.runtime.config_check import OTHER_JOBS, TOP, check_config, check_keys
from fewshot.runtime.config_groups import CONFIGS, choices, misfit

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
HANDING_OVER = "torch/multiprocessing/reductions.py"
"""Where a loader worker's tensors arrive."""
NOT_ALLOWED = (errno.EACCES, errno.EPERM, errno.ENOTDIR)


OF_CLASSES = {
    "data/split": "divides rows, and these tasks are computed: leave it out, and sweep=cross_validation too",
    "data.eval.replacement": "is for tasks of classes: users are tested once each, computed tasks use nothing up; leave it out",
}
"""Keys that only some data have, and why."""
FLAGS = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m", "--shell-completion")
FLAGS_WITH_VALUE = (
    "--cfg", "-c", "--package", "-p", "--info", "-i", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd",
    "--experimental-rerun",
)  # fmt: skip
"""Hydra's."""
FOLDERS = (
    *("run", "init_from", "support", "query", "out"),
    *("hydra.run.dir", "hydra.sweep.dir", "paths.data_dir", "paths.cache_dir"),
)
"""Keys whose values are read as they stand: the name of a folder may have any character."""


def run(config_name: str, job: str, before: Callable[[], None] = lambda: None) -> None:
    """Runs a job on the config that the command line asks for, and exits.

    Args:
        config_name: primary config.
        job: ``module:function``, imported once the config stands; takes the config.
        before: called first, under the same treatment of mistakes.
    """
    tolerate_any_console()
    os.environ.setdefault("FEWSHOT_ROOT", str(CONFIGS.parent))
    for variable in ("FEWSHOT_DATA_DIR", "FEWSHOT_CACHE_DIR"):
        if variable in os.environ:
            os.environ[variable] = whole_path(os.environ[variable])
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands exceptions on instead of printing a part of them

    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) > 0:
        # One process of several writes the log.
        sys.argv.append("hydra/job_logging=none")

    def main(cfg: DictConfig) -> None:
        with mistakes_explained(config_name):  # before Hydra remarks on them
            do(job, cfg, f"Starting {' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])} (importing PyTorch takes some seconds)")

    main.job = job  # type: ignore[attr-defined]  # the jobs of a sweep call it in processes of their own
    with mistakes_explained(config_name):
        if not CONFIGS.is_dir():
            raise UserError(f"{CONFIGS} is missing: fewshot runs from its checkout; clone it, make setup, and use its .venv")
        sys.argv[1:] = arranged(sys.argv[1:])
        before()
        if {"--help", "-h"} & set(sys.argv):
            from fewshot.runtime.help import show_help

            show_help(config_name)
            return
        hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name=config_name)(main)()


def do(job: str, cfg: DictConfig, notice: str = "") -> object:
    """Runs a job on a config that is found right first; what the job is made of is imported no sooner.

    Args:
        notice: printed before that import, which takes some seconds.
    """
    check_keys(cfg, OTHER_JOBS[job]) if job in OTHER_JOBS else check_config(cfg)
    for key in cfg.paths:
        if not OmegaConf.is_interpolation(cfg.paths, key):
            cfg.paths[key] = whole_path(cfg.paths[key])
    if cfg.get("init_from") is not None:
        cfg.init_from = whole_path(cfg.init_from)
    if notice:
        print(*filter(None, (misfit(), notice)), sep="\n", flush=True)
    module, function = job.split(":")
    work: Callable[[DictConfig], object] = getattr(import_module(module), function)
    return work(cfg)


def whole_path(folder: str) -> str:
    """A folder as messages and results name it: from the root, whatever the shell left of it."""
    return str(Path(folder).expanduser().absolute())


def tolerate_any_console() -> None:
    """Lets a console or a file that cannot show a sign show another: output never costs a result."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def arranged(arguments: list[str]) -> list[str]:
    """A command line as Hydra reads it: flags at the end, wherever they stood, and the names of folders in quotes.

    Raises:
        UserError: something is no flag.
    """
    overrides, flags, rest = [], [], iter(arguments)
    for argument in rest:
        name = argument.split("=")[0]
        if not argument.startswith("-"):
            overrides.append(_with_quotes(argument))
        elif name in FLAGS_WITH_VALUE:
            flags += [argument] if "=" in argument else [argument, *[value for value in [next(rest, None)] if value]]
        elif argument in FLAGS:
            flags.append(argument)
        else:
            raise UserError(
                f"{argument} is no flag; keys are set by KEY=VALUE, as in {name.lstrip('-').replace('-', '_')}=VALUE"
            )
    return [*overrides, *flags]


def _with_quotes(override: str) -> str:
    key, equals, folder = override.partition("=")
    if key not in FOLDERS or not folder or folder[0] in "'\"":
        return override
    escaped = re.sub(r"(\\*)'", r"\1\1\\'", str(Path(folder).expanduser()))
    return f"{key}{equals}'{escaped}'"


def unquoted(value: str) -> str:
    """The text that a value of the command line stands for, its quotes taken away."""
    return str(OverridesParser.create().parse_override(f"key={value}").value())


@contextmanager
def mistakes_explained(config_name: str) -> Iterator[None]:
    """Turns a user's mistake into one line and exit code 2, and a stop that was asked for into its exit code."""
    try:
        yield
    except BaseException as error:
        code = getattr(error, "exit_code", None)  # of Stopped and of ProcessFailedError, which import what is heavy
        if isinstance(code, int):
            if code != 2:  # else a process of the run has printed the user's mistake
                print(f"stopped: {error}", file=sys.stderr)
            sys.exit(code if code > 0 else 1)
        if isinstance(error, KeyboardInterrupt):
            sys.exit(130)
        if isinstance(error, BrokenPipeError):  # as of --help into head
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(1)
        if not isinstance(error, Exception):
            raise
        message = explain(error, config_name)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        sys.exit(2)


def explain(error: BaseException, config_name: str) -> str | None:
    """One line for a mistake that the user can mend; None for a crash of ours."""
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    for link in chain:
        if isinstance(link, UserError):
            return str(link)
        if isinstance(link, MissingConfigException):
            return _unknown_choice(link)
        if isinstance(link, OSError) and (link.errno in DISK_FULL or (link.errno in NOT_ALLOWED and link.filename)):
            place = link.filename or "the run's folder"
            return f"{place} cannot be written ({link.strerror}); free it or choose another with hydra.run.dir=FOLDER"
        if (killed := _killed_worker(link)) is not None:
            return f"data.num_workers: {killed} Perhaps memory ran out: lower it; the same command continues the run"
        if isinstance(link, yaml.MarkedYAMLError):
            mark = link.problem_mark
            where = f"{mark.name}, line {mark.line + 1}" if mark else "a config file"
            return f"{where}: {link.problem or 'this is no YAML'}; mend the file"
        if isinstance(link, ValueError) and "Config group override must be" in str(link):
            return _empty_choice()
    if isinstance(error, ConfigCompositionException):
        return _composition(error, config_name)
    if isinstance(error, InstantiationException):
        return _instantiation(error)
    if isinstance(error, OverrideParseException):
        return f"'{error.override}' cannot be read as KEY=VALUE ({_first_line(error)}); quote special characters"
    if isinstance(error, HydraException | OmegaConfBaseException):
        return f"{_first_line(error)}; see --help"
    return None


def _killed_worker(error: BaseException) -> str | None:
    """What became of a loader worker; None where the error is another."""
    if isinstance(error, RuntimeError) and (killed := re.match(r"DataLoader worker .*", str(error))):
        return killed.group()
    files = (frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__))
    if isinstance(error, ConnectionError | EOFError) and any(Path(file).as_posix().endswith(HANDING_OVER) for file in files):
        return "DataLoader worker was killed while it handed a tensor over."
    return None


def _unknown_choice(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    options = [option for option in error.options or () if not option.startswith("_")]
    if not options:
        return f"{_first_line(error)}; see --help"
    return f"{group}={name} is unknown{suggest(name, options)}"


def _empty_choice() -> str:
    """Hydra's message lacks the group that was given null."""
    argument = next((word for word in sys.argv[1:] if word.endswith("=null") and choices(word.split("=")[0])), "GROUP=null")
    group = argument.split("=")[0]
    remedy = f"choose one of: {', '.join(choices(group))}" if group in TOP else f"take it away with ~{group}"
    return f"{argument} chooses nothing; {remedy}"


def _composition(error: ConfigCompositionException, config_name: str) -> str:
    if str(error).startswith("Ambiguous value"):
        argument = re.search(r"'(.+)'", _first_line(error))
        given = argument.group(1) if argument else "KEY=A,B"
        key, _, values = given.partition("=")
        return f"{given} has several values: -m runs each of them; for a list, write {key}=[{values}]"
    override = re.search(r"Could not override '([^']+)'", str(error))
    if override is None:
        return f"{_first_line(error)}; see --help"
    key = override.group(1)
    if key in OF_CLASSES:
        return f"{key} {OF_CLASSES[key]}"
    return f"{key} is no key of this config{suggest(key, _keys(config_name))}"


def _keys(config_name: str) -> list[str]:
    """Every dotted key that the config has under the choices of the command line, and every group of choices."""
    groups = [path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*") if path.is_dir()]
    choices = [argument for argument in sys.argv[1:] if argument.split("=")[0] in groups]
    folders = [argument.split("=")[1] for argument in sys.argv[1:] if argument.startswith("--config-dir=")]
    choices += [f"hydra.searchpath=[file://{Path(folder).absolute()}]" for folder in folders]
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            cfg = hydra.compose(config_name, overrides=choices)
        except HydraException:  # a choice is what is wrong
            cfg = hydra.compose(config_name)
    return [*groups, *_dotted(OmegaConf.to_container(cfg), "")]


def _dotted(node: object, prefix: str) -> list[str]:
    if not isinstance(node, dict):
        return []
    keys = []
    for key, value in node.items():
        keys += [f"{prefix}{key}", *_dotted(value, f"{prefix}{key}.")]
    return keys


def _instantiation(error: InstantiationException) -> str | None:
    """A `_target_` that does not exist or refuses its arguments comes from the config; anything else is a crash."""
    text, cause = str(error), error.__cause__
    key = re.search(r"full_key: (\S+)", text)
    where = key.group(1) if key else "the config"
    if "Error locating target" in text:
        target = re.search(r"'([^']+)'", text)
        return f"{where}._target_={target.group(1) if target else '?'} is nothing that can be imported"
    ours = "Error in call to target 'fewshot." in text
    refused = isinstance(cause, TypeError) and "argument" in str(cause)
    impossible = isinstance(cause, ValueError | TypeError) or type(cause).__name__ == "MisconfigurationException"
    if cause is not None and (refused if ours else impossible):
        return f"{where}: {_first_line(cause)}; see --help"
    return None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
