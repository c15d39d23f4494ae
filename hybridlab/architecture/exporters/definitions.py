"""Collects the source of classes and functions with all that they use, for a file that stands alone."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import io
import re
import textwrap
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType

from hybridlab.components.base import Component
from hybridlab.components.base import Params as BaseParams

PACKAGE = "hybridlab"
_NOT_NEEDED = {"reference", "start", "step", "check"}
"""Methods that only judge, or run one position at a time."""
_OF_COMPONENTS = _NOT_NEEDED | {
    *("Params", "params", "accepts", "gives", "min_inputs", "max_inputs", "recurrent_trace"),
    *("graph_break", "loops", "info", "causal", "state_bytes_per_token", "state_bytes"),
    *("takes_ends", "heeds_end"),
    *(
        "aux_loss",
        "report",
        "after_update",
        "lends",
        "borrows",
        "adapts",
        "exit_shape",
        "mixing_matrix",
        "__getstate__",
    ),
}
_PLAIN = {
    "fused_for": "def fused_for(*tensors: Tensor) -> None:\n    return None  # no compiled kernels here",
    "kernel_for": "def kernel_for(name: str, *tensors: Tensor) -> None:\n    return None  # nor those of packages",
}
"""Functions that find something outside of the file, and what stands for them."""
_HERE = "ParametersThatStandHere"
"""A name that nothing has, for a class whose own name may be that of what it derives from."""
_TYPE_COMMENT = re.compile(r"  # type: ignore\[[\w, -]+\]")

Definition = ast.ClassDef | ast.FunctionDef | ast.Assign | ast.AnnAssign


@dataclass
class Source:
    """One module of ours: what it defines at its top, and what it imports."""

    name: str
    lines: list[str]
    defined: dict[str, Definition] = field(default_factory=dict)
    ours: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Names imported from this package: module and name there."""
    others: dict[str, str] = field(default_factory=dict)
    """Names imported from elsewhere: the statement that imports each."""
    attached: dict[str, list[ast.stmt]] = field(default_factory=dict)
    """Statements that add something to a name, such as the gradient of an operator."""


@functools.cache
def source(module: str) -> Source:
    """Read a module's top level."""
    path = importlib.import_module(module).__file__
    assert path is not None
    text = Path(path).read_text(encoding="utf-8")
    found = Source(module, text.splitlines())
    for item in ast.parse(text).body:
        for name in _attached_to(item):
            found.attached.setdefault(name, []).append(item)
        match item:
            case ast.FunctionDef(name="_"):
                continue
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                found.defined[name] = item
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.defined[name] = item
            case ast.Import(names=names):
                for one in names:
                    also = f" as {one.asname}" if one.asname else ""
                    key = one.asname or one.name.partition(".")[0]
                    found.others[key] = f"import {one.name}{also}"
            case ast.ImportFrom(module=origin, names=names) if origin and origin != "__future__":
                for one in names:
                    if origin.partition(".")[0] == PACKAGE:
                        found.ours[one.asname or one.name] = (origin, one.name)
                    else:
                        also = f" as {one.asname}" if one.asname else ""
                        found.others[one.asname or one.name] = (
                            f"from {origin} import {one.name}{also}"
                        )
    return found


class Collection:
    """Definitions in an order in which each follows what it uses, under names that do not meet."""

    def __init__(self, provided: Mapping[str, str], operators: str) -> None:
        """Start with names that the file has anyway; those are never collected.

        ``operators`` is the name space of the file's own operators, which are known to a whole process.
        """
        self.operators = operators
        self._provided = dict(provided)
        self._names: dict[tuple[str, str], str] = {}
        self._taken = set(provided.values())
        self.texts: list[str] = []
        self.imports: set[str] = set()

    def need(self, module: str, name: str) -> str:
        """Collect a definition and all that it uses; return its name in the file."""
        if name in self._provided and module.startswith(f"{PACKAGE}.components"):
            return self._provided[name]
        found = source(module)
        if name in found.ours and name not in found.defined:
            return self.need(*found.ours[name])
        key = (module, name)
        if key in self._names:
            return self._names[key]
        self._names[key] = self.free(name, module.rpartition(".")[2])
        if name in _PLAIN:
            self.texts.append(_PLAIN[name].replace(name, self._names[key]))
            return self._names[key]
        item = found.defined[name]
        unwanted = (
            _unwanted(item, self._class(module, name)) if isinstance(item, ast.ClassDef) else set()
        )
        self._add("\n".join(_trimmed(item, found, unwanted)), found)
        for statement in found.attached.get(name, []):
            self._add("\n".join(_trimmed(statement, found, set())), found)
        return self._names[key]

    def need_params(self, component: type[Component]) -> str:
        """Collect what a component's parameters can do beyond holding values; return the name of their class."""
        params = component.Params
        if not any(_computes(one) for one in params.__mro__ if issubclass(one, BaseParams)):
            return self._provided["Params"]
        module, name = params.__module__, params.__qualname__.rpartition(".")[2]
        if "." not in params.__qualname__:
            return self.need(module, name)
        key = (module, params.__qualname__)
        if key not in self._names:
            self._names[key] = self.free(f"{component.__name__}Params", "again")
            found = source(module)
            holder = found.defined[component.__name__]
            assert isinstance(holder, ast.ClassDef)
            (item,) = [part for part in holder.body if name in _defines(part)]
            assert isinstance(item, ast.ClassDef)
            text = textwrap.dedent("\n".join(_trimmed(item, found, _unwanted(item, params))))
            self._add(re.sub(rf"^class {name}\b", f"class {_HERE}", text), found)
            self.texts[-1] = self.texts[-1].replace(_HERE, self._names[key], 1)
        return self._names[key]

    def _add(self, text: str, found: Source) -> None:
        """Collect what a text uses, then the text itself under the names that things have here."""
        text = text.replace("(base.Params)", f"({self._provided['Params']})")
        text = self._without_modules(text, found)
        renamed = self._uses(text, found)
        own = {name: new for (module, name), new in self._names.items() if module == found.name}
        changed = {old: new for old, new in (own | renamed).items() if old != new}
        text = _renamed(text, changed)
        self.texts.append(
            _TYPE_COMMENT.sub("", text).replace('"hybridlab::', f'"{self.operators}::')
        )

    def _without_modules(self, text: str, found: Source) -> str:
        """Write what is read from one of our modules without the module's name."""
        for alias, (package, name) in found.ours.items():
            module = f"{package}.{name}"
            if alias == "base" or not _is_module(module):
                continue
            for inner in dict.fromkeys(re.findall(rf"(?<![\w.]){alias}\.(\w+)", text)):
                here = self.need(module, inner)
                text = re.sub(rf"(?<![\w.]){alias}\.{inner}\b", here, text)
        return text

    def free(self, name: str, suffix: str) -> str:
        """Return a name that nothing in the file has, and take it."""
        free, number = name, 1
        while free in self._taken:
            free = f"{name}_{suffix}" if number == 1 else f"{name}_{suffix}_{number}"
            number += 1
        self._taken.add(free)
        return free

    def _uses(self, text: str, found: Source) -> dict[str, str]:
        """Collect what a text uses; return its names by those that they had."""
        names = {}
        for used in dict.fromkeys(_names(text)):
            if used in found.others:
                self.imports.add(found.others[used])
            elif used in found.defined:
                names[used] = self.need(found.name, used)
            elif used in found.ours:
                module, original = found.ours[used]
                if not _is_module(f"{module}.{original}"):
                    names[used] = self.need(module, original)
        return names

    @staticmethod
    def _class(module: str, name: str) -> type:
        item = getattr(importlib.import_module(module), name)
        return item if isinstance(item, type) else object


def _trimmed(item: ast.stmt, found: Source, unwanted: set[str]) -> Iterator[str]:
    """Yield a definition's lines without the parts of a class that are not wanted, nor a component's registration."""
    first = item.lineno
    if "component" not in _decorators(item):
        first = _start(item)
    dropped: set[int] = set()
    for part in item.body if isinstance(item, ast.ClassDef) else []:
        if unwanted & _defines(part):
            dropped |= set(range(_start(part), (part.end_lineno or part.lineno) + 1))
    blank = False
    for number in range(first, (item.end_lineno or first) + 1):
        line = found.lines[number - 1]
        if number in dropped or (blank and not line.strip()):
            continue
        blank = not line.strip()
        yield line
    if isinstance(item, ast.ClassDef) and all(unwanted & _defines(part) for part in item.body):
        yield " " * (item.body[0].col_offset) + "pass"


def _unwanted(item: ast.ClassDef, cls: type) -> set[str]:
    """Return the names in a class that nothing needs: those listed, and private methods that only they use."""
    if issubclass(cls, BaseParams):
        return {name for part in item.body if _is_field(part) for name in _defines(part)}
    unwanted = set(_OF_COMPONENTS if issubclass(cls, Component) else _NOT_NEEDED)
    while True:
        kept = [part for part in item.body if not unwanted & _defines(part)]
        used = {
            node.attr for part in kept for node in ast.walk(part) if isinstance(node, ast.Attribute)
        }
        idle = {
            part.name
            for part in kept
            if isinstance(part, ast.FunctionDef)
            and part.name.startswith("_")
            and not part.name.startswith("__")
            and part.name not in used
        }
        if not idle:
            return unwanted
        unwanted |= idle


def _is_field(part: ast.stmt) -> bool:
    """Say whether a part of a class of parameters is a value or a check, not something that others call."""
    plain = not isinstance(part, ast.FunctionDef)
    return plain or any("validator" in name for name in _decorators(part))


def _computes(params: type) -> bool:
    """Say whether a class of parameters has methods or properties of its own."""
    own = vars(params).items() if params is not BaseParams else ()
    return any(
        isinstance(value, (FunctionType, property, classmethod, staticmethod))
        and not name.startswith(("__", "model_", "_abc"))
        for name, value in own
    )


def _decorators(item: ast.stmt) -> set[str]:
    """Return the names in the decorators of a definition."""
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for decorator in getattr(item, "decorator_list", [])
        for node in ast.walk(decorator)
        if isinstance(node, (ast.Name, ast.Attribute))
    }


def _start(item: ast.stmt) -> int:
    """Return a statement's first line, decorators included."""
    decorators: list[ast.expr] = getattr(item, "decorator_list", [])
    return min([item.lineno, *(one.lineno for one in decorators)])


def _attached_to(item: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement adds something to: ``@f.register…`` or ``f.register…(…)``."""
    calls = [item.value] if isinstance(item, ast.Expr) else getattr(item, "decorator_list", [])
    for call in calls:
        target = call.func if isinstance(call, ast.Call) else call
        if (
            isinstance(target, ast.Attribute)
            and isinstance(target.value, ast.Name)
            and target.attr.startswith("register")
        ):
            yield target.value.id


@functools.cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _defines(part: ast.stmt) -> set[str]:
    match part:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
            return {name}
    return set()


def _names(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Name):
            yield node.id


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """Replace names that stand alone, not those behind a dot."""
    if not names:
        return text.rstrip()
    lines = text.splitlines()
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for before, token in reversed(list(zip([None, *tokens], tokens, strict=False))):
        new = names.get(token.string) if token.type == tokenize.NAME else None
        if new is None or (before is not None and before.string == "."):
            continue
        (row, start), (_, end) = token.start, token.end
        line = lines[row - 1]
        lines[row - 1] = line[:start] + new + line[end:]
    return "\n".join(lines).rstrip()
