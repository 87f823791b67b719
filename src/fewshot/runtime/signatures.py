"""What a `_target_` takes, read from its source: to import it would import torch, seconds before a mistake is told."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
LISTS = {"list", "List", "tuple", "Tuple", "Sequence", "Iterable", "Collection"}
MAPPINGS = {"dict", "Dict", "Mapping", "DictConfig"}
OBJECTS = {"Callable", "Tensor", "Part"}
"""Names of types whose values a config makes by a `_target_`; so are all classes."""
MADE = "keys with a _target_"
SCALARS: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "float": (int, float), "str": (str,), "Path": (str,)}
WORDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "text", "Path": "text"}


@dataclass(frozen=True)
class Annotation:
    """The type of a parameter as it is written in a file."""

    node: ast.expr
    file: Path

    def fits(self, value: object) -> bool:
        """Whether a value of a config, in plain containers, is of this type; true where the type cannot be told."""
        node = self.node
        if isinstance(node, ast.Constant):
            return (
                self._of(ast.parse(node.value, mode="eval").body).fits(value) if isinstance(node.value, str) else value is None
            )
        if isinstance(node, ast.BinOp) or _name(node) in ("Optional", "Union"):
            return (_name(node) == "Optional" and value is None) or any(part.fits(value) for part in self._parts())
        name = _name(node)
        if name in ("Any", "object"):
            return True
        if name in SCALARS:
            return isinstance(value, SCALARS[name]) and isinstance(value, bool) == (name == "bool")
        if name in LISTS:
            parts = self._parts()
            return isinstance(value, list) and all(not parts or any(p.fits(item) for p in parts) for item in value)
        if name == "Literal":
            return any(ast.literal_eval(part.node) == value for part in self._parts())
        if name == "Annotated":
            return self._parts()[0].fits(value)
        if name in MAPPINGS:
            return isinstance(value, dict)
        if name in OBJECTS:
            return isinstance(value, dict) and "_target_" in value
        meant = self._meaning()
        if isinstance(meant, Annotation):
            return meant.fits(value)
        return meant is None or (isinstance(value, dict) and "_target_" in value)

    def __str__(self) -> str:
        """What a value must be, in words."""
        node, name = self.node, _name(self.node)
        if isinstance(node, ast.Constant):
            return str(self._of(ast.parse(node.value, mode="eval").body)) if isinstance(node.value, str) else "null"
        if isinstance(node, ast.BinOp) or name in ("Optional", "Union"):
            words = [str(part) for part in self._parts()] + ["null"] * (name == "Optional")
            plain = [word for word in words if word not in (MADE, "anything")]
            return " or ".join(dict.fromkeys(plain or words))
        if name == "Literal":
            return "one of " + ", ".join(str(ast.literal_eval(part.node)) for part in self._parts())
        if name == "Annotated":
            return str(self._parts()[0])
        if name in LISTS:
            kinds = [word for word in map(str, self._parts()) if word != "anything"]
            return "a list, each " + " or ".join(dict.fromkeys(kinds)) if kinds else "a list"
        if name in MAPPINGS:
            return "keys with values"
        if name in WORDS:
            return WORDS[name]
        meant = None if name in OBJECTS or name in ("Any", "object") else self._meaning()
        return str(meant) if isinstance(meant, Annotation) else MADE if meant or name in OBJECTS else "anything"

    @property
    def of_values(self) -> Annotation | None:
        """The type of the values that a mapping holds."""
        parts = self._parts() if _name(self.node) in MAPPINGS else []
        return parts[1] if len(parts) == 2 else None

    def _parts(self) -> list[Annotation]:
        if isinstance(self.node, ast.BinOp):
            return [self._of(self.node.left), self._of(self.node.right)]
        if not isinstance(self.node, ast.Subscript):
            return []
        inside = self.node.slice
        nodes = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        return [self._of(node) for node in nodes if not (isinstance(node, ast.Constant) and node.value is ...)]

    def _of(self, node: ast.expr) -> Annotation:
        return Annotation(node, self.file)

    def _meaning(self) -> Annotation | ast.stmt | None:
        """What a name stands for: another type, a class, or None where it cannot be told."""
        found = _resolve(self.file, _name(self.node)) if isinstance(self.node, ast.Name) else None
        if found is None:
            return None
        statement, file = found
        if isinstance(statement, ast.Assign):
            return Annotation(statement.value, file)
        return statement if isinstance(statement, ast.ClassDef) else None


@dataclass(frozen=True)
class Signature:
    """The parameters of a class or function.

    Attributes:
        parameters: name -> type; None where none is written.
        required: those without a default.
        closed: whether it takes no others.
    """

    parameters: dict[str, Annotation | None]
    required: frozenset[str]
    closed: bool


@lru_cache
def signature(target: str) -> Signature | None:
    """What a `_target_` takes; None where its source does not tell."""
    found = _locate(target)
    if found is None:
        return None
    statement, file = found
    if isinstance(statement, ast.FunctionDef):
        return _of_function(statement, file, skip=0)
    return _of_class(statement, file) if isinstance(statement, ast.ClassDef) else None


def _of_class(node: ast.ClassDef, file: Path) -> Signature:
    init = next((item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None)
    if init is not None:
        own = _of_function(init, file, skip=1)
        if own.closed or PACKAGE not in file.parents:  # whoever else takes any keyword may do with it what he likes
            return own
    elif any(_name(decorator) == "dataclass" for decorator in node.decorator_list):
        own = _of_fields(node, file)
    else:
        own = Signature({}, frozenset(), closed=True)
    above = [_of_base(base, file) for base in node.bases if _name(base) not in ("ABC", "Generic", "Protocol", "object")]
    return Signature(
        {name: kind for part in (*above, own) for name, kind in part.parameters.items()},
        own.required or above[0].required if init is None and above else own.required,
        closed=all(part.closed for part in above) and bool(above or own.closed),
    )


def _of_base(base: ast.expr, file: Path) -> Signature:
    found = _resolve(file, _name(base)) if isinstance(base, ast.Name) else None
    if found is None or not isinstance(found[0], ast.ClassDef):
        return Signature({}, frozenset(), closed=False)
    return _of_class(found[0], found[1])


def _of_function(node: ast.FunctionDef, file: Path, skip: int) -> Signature:
    given = node.args
    positional = (given.posonlyargs + given.args)[skip:]
    without_default = positional[: len(positional) - min(len(given.defaults), len(positional))]
    without_default += [arg for arg, default in zip(given.kwonlyargs, given.kw_defaults, strict=True) if default is None]
    everything = positional + given.kwonlyargs
    return Signature(
        {arg.arg: Annotation(arg.annotation, file) if arg.annotation else None for arg in everything},
        frozenset(arg.arg for arg in without_default),
        closed=given.kwarg is None,
    )


def _of_fields(node: ast.ClassDef, file: Path) -> Signature:
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    return Signature(
        {_name(item.target): Annotation(item.annotation, file) for item in fields},
        frozenset(_name(item.target) for item in fields if item.value is None),
        closed=True,
    )


def _locate(dotted: str) -> tuple[ast.stmt, Path] | None:
    """The statement that defines a dotted name, and its file."""
    root, *rest = dotted.split(".")
    try:
        spec = find_spec(root)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None or not rest:
        return None
    file = Path(spec.origin)
    for part in rest[:-1]:
        folder = file.parent
        file = folder / part / "__init__.py" if (folder / part / "__init__.py").is_file() else folder / f"{part}.py"
        if not file.is_file():
            return None
    return _resolve(file, rest[-1])


@lru_cache
def _resolve(file: Path, name: str) -> tuple[ast.stmt, Path] | None:
    """The statement that defines a name in a file, or in the file that it is imported from."""
    for statement in _statements(file):
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return statement, file
        if isinstance(statement, ast.Assign) and any(_name(target) == name for target in statement.targets):
            return statement, file
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return _locate(f"{_module(statement, file)}.{alias.name}")
    return None


def _module(statement: ast.ImportFrom, file: Path) -> str:
    """The absolute name of the module that a statement imports from."""
    if not statement.level:
        return statement.module or ""
    folder = file.parents[statement.level - 1]
    parts = [statement.module] if statement.module else []
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    return ".".join(parts)


@lru_cache
def _statements(file: Path) -> tuple[ast.stmt, ...]:
    """Those of a module's top level, and of its top-level conditions."""
    try:
        tree = ast.parse(file.read_text("utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ()

    def flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
        for statement in body:
            yield statement
            if isinstance(statement, ast.If | ast.Try):
                yield from flat([*statement.body, *statement.orelse])

    return tuple(flat(tree.body))


def _name(node: ast.expr) -> str:
    """The last word of a name, or of what is subscripted or called: ``Optional`` of ``typing.Optional[int]``."""
    if isinstance(node, ast.Subscript):
        return _name(node.value)
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
