"""The house as a whole: who may import whom, configs that explain themselves, one list of versions, commands that work."""

import ast
import re
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fewshot.runtime.config_groups import CONFIGS, ConfigFile
from fewshot.runtime.help import key_comments

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/fewshot"
EXPERIMENTS = sorted(path.stem for path in (ROOT / "configs/experiment").glob("*.yaml"))
EVERYBODY = {"errors", "files", "hashing", "tasks", "objectives"}
MAY_KNOW = {
    "errors": set(),
    "files": set(),
    "hashing": set(),
    "renamed_classes": set(),
    "npy_file": {"errors"},
    "tasks": {"errors"},
    "data": EVERYBODY | {"npy_file"},
    "backbones": EVERYBODY | {"npy_file"},
    # networks as such, and batch normalisation, whose statistics the inner loop decides
    "inner": EVERYBODY | {"backbones"},
    "objectives": {"errors", "evaluation"},
    "evaluation": {"errors", "files", "objectives"},
    "models": EVERYBODY | {"inner", "backbones", "evaluation"},
    "predict": EVERYBODY | {"renamed_classes", "data", "backbones", "inner", "models", "evaluation"},
    "runtime": EVERYBODY | {"renamed_classes", "data", "backbones", "inner", "models", "evaluation", "predict"},
    "sweep": {"errors", "files", "evaluation", "runtime"},
    "report": {"errors", "files", "data", "evaluation", "predict", "runtime", "sweep"},
    "matrix": {"errors", "files", "evaluation", "runtime", "sweep"},
    "compare": {"errors", "files", "evaluation", "runtime", "sweep"},
}


def module_name(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path) for path in PACKAGE.rglob("*.py")}


@cache
def imports_of(path):
    """The project's modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in MODULES and name != "fewshot"}


def room(module):
    return module.split(".")[1]


def test_rooms_know_only_whom_they_may_know():
    for path in PACKAGE.rglob("*.py"):
        here = module_name(path)
        if here == "fewshot":
            continue
        known = MAY_KNOW[room(here)] | ({"runtime"} if here.endswith(".__main__") else set())  # a command, which nobody imports
        strangers = {name for name in imports_of(path) if room(name) != room(here) and room(name) not in known}
        assert not strangers, f"{here} imports {strangers}"


def test_no_circles():
    graph = {module_name(path): imports_of(path) for path in PACKAGE.rglob("*.py")}

    def walk(module, above):
        assert module not in above, " -> ".join([*above, module])
        for name in graph[module]:
            walk(name, [*above, module])

    for module in graph:
        walk(module, [])


def test_the_tests_mirror_the_package():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert rooms <= {path.name for path in (ROOT / "tests").iterdir()}


def test_every_key_has_a_comment_where_it_is_defined():
    """Where it is set to another value, only a reason needs one. Hydra's own keys are documented by Hydra."""
    files = [ConfigFile(path, path.parent.relative_to(CONFIGS).as_posix().replace(".", "")) for path in CONFIGS.rglob("*.yaml")]
    commented = {key for file in files for key, _ in key_comments(file)}
    for file in files:
        assert file.text.startswith("#"), file.path
        if not file.group.startswith("hydra"):
            for key, value in dotted(file.content, "" if file.is_global else f"{file.group.replace('/', '.')}."):
                covered = any(key == known or key.startswith(f"{known}.") for known in commented)
                assert covered or isinstance(value, dict), f"{file.path}: {key} has no comment anywhere"


def dotted(content, prefix):
    for name, value in content.items():
        if name not in ("defaults", "hydra", "_target_", "_partial_"):
            yield f"{prefix}{name}", value
            if isinstance(value, dict):
                yield from dotted(value, f"{prefix}{name}.")


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_builds_its_model(experiment, tmp_path):
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [f"experiment={experiment}", f"paths.output_dir={tmp_path}", "seed=0"])
    container = OmegaConf.to_container(cfg, resolve=True)
    text = "buckets" in cfg.data
    assert container["data"]["eval"]["queries"] == {"rmse": 100, "mae": 10, "acc": 5 if text else 15}[cfg.objective.monitor]
    model = instantiate(cfg.model, _convert_="all")
    assert text or model.network.head.out_features == cfg.data.ways
    assert model.configure_optimizers() is not None


@pytest.mark.parametrize(
    ("experiment", "ways", "shots", "inner_lr", "steps", "eval_steps", "meta_batch_size"),
    [
        ("omniglot_5w1s", 5, 1, 2.0, 1, 3, 16),
        ("omniglot_5w5s", 5, 5, 2.0, 1, 3, 32),
        ("omniglot_20w1s", 20, 1, 2.0, 5, 5, 16),
        ("omniglot_20w5s", 20, 5, 2.0, 5, 5, 16),
        ("miniimagenet_5w1s", 5, 1, 0.05, 5, 10, 4),
        ("miniimagenet_5w5s", 5, 5, 0.05, 5, 10, 4),
    ],
)
def test_recipes_are_the_published_ones(experiment, ways, shots, inner_lr, steps, eval_steps, meta_batch_size):
    """Finn et al. 2017, appendix A.1 and code: the inner rate is 0.4, 0.1 or 0.01 on a loss summed over the classes.

    On a mean loss that is `ways` times as much.
    """
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [f"experiment={experiment}"])
    inner = cfg.model.inner
    assert (cfg.data.ways, cfg.data.shots, cfg.data.meta_batch_size) == (ways, shots, meta_batch_size)
    assert (inner.lr, inner.steps, inner.eval_steps) == (inner_lr, steps, eval_steps)
    assert (inner.adapt_norm, inner.first_order, cfg.model.batch_norm) == (False, False, "transductive")
    assert cfg.trainer.max_steps == 60000


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def pins():
    """requirements.txt: the requirements, their options cut off."""
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    return [Requirement(line.split(" --")[0]) for line in lines if line and not line.startswith("#")]


def chosen(requirements):
    """Name -> version of those that apply to this Python and system."""
    return {
        canonicalize_name(r.name): next(iter(r.specifier)).version
        for r in requirements
        if r.marker is None or r.marker.evaluate()
    }


def test_the_requirements_file_has_the_versions_of_pyproject():
    pinned, constraints = chosen(pins()), chosen(map(Requirement, project()["tool"]["uv"]["constraint-dependencies"]))
    for text in project()["project"]["dependencies"]:
        name = canonicalize_name(Requirement(text).name)
        assert name in pinned, f"requirements.txt lacks {name}; run make pins"
        if name != "learn2learn":
            assert pinned[name] == constraints[name], f"{name} differs; run make pins"


def test_the_requirements_file_is_complete():
    """Every package that the installed ones ask for is listed, but for the two that learn2learn never imports."""
    pinned, left_out = chosen(pins()), set(project()["tool"]["uv"]["exclude-dependencies"])
    for name in pinned:
        try:
            wanted = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # of another system
        for requirement in map(Requirement, wanted):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                assert canonicalize_name(requirement.name) in pinned.keys() | left_out, (
                    f"{name} asks for {requirement}; run make pins"
                )


def test_the_requirements_file_builds_learn2learn_as_pyproject_does():
    option = project()["tool"]["uv"]["config-settings-package"]["learn2learn"]
    assert option == {"--build-option": "build_ext"}
    assert 'learn2learn==0.2.0 --config-settings="--build-option=build_ext"' in (ROOT / "requirements.txt").read_text("utf-8")


def test_the_versions_installed_are_those_pinned():
    for text in project()["project"]["dependencies"]:
        name = canonicalize_name(Requirement(text).name)
        assert distribution(name).version.split("+")[0] == chosen(pins())[name]


def test_the_workflow_covers_every_supported_python():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    classifiers = [c.rpartition(" ")[2] for c in project()["project"]["classifiers"] if "Python :: 3." in c]
    assert workflow["jobs"]["check"]["strategy"]["matrix"]["python"] == classifiers
    assert project()["project"]["requires-python"] == ">=3.10,<3.14"


def test_every_promise_names_tests_that_exist():
    named = re.findall(r"`(tests/[^`]+)` \|$", (ROOT / "docs/reliability.md").read_text("utf-8"), re.MULTILINE)
    assert len(named) > 40
    for test in named:
        path, _, function = test.partition("::")
        assert (ROOT / path).exists(), test
        assert not function or f"def {function}(" in (ROOT / path).read_text("utf-8"), test
