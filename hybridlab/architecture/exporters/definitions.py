"""Collects the source of classes and functions with all that they use, for a file that stands alone."""

from __future__ import annotations

import ast
import functools
import importlib
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hybridlab.components.base import Component

PACKAGE = "hybridlab"
_NOT_NEEDED = {"reference", "start", "step", "check"}
"""Methods that only judge, or run one position at a time."""
_OF_COMPONENTS = _NOT_NEEDED | {
    *("Params", "params", "accepts", "gives", "min_inputs", "max_inputs", "recurrent_trace"),
    *("graph_break", "loops", "info", "causal", "state_bytes_per_token", "state_bytes"),
    *("aux_loss", "report", "after_update", "lends", "borrows", "__getstate__"),
}
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


@functools.cache
def source(module: str) -> Source:
    """Read a module's top level."""
    path = importlib.import_module(module).__file__
    assert path is not None
    text = Path(path).read_text(encoding="utf-8")
    found = Source(module, text.splitlines())
    for item in ast.parse(text).body:
        match item:
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

    def __init__(self, provided: Mapping[str, str]) -> None:
        """Start with names that the file has anyway; those are never collected."""
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
        item = found.defined[name]
        lines = list(_trimmed(item, found, self._is_component(module, name)))
        text = "\n".join(lines)
        renamed = self._uses(text, found) | {name: self._names[key]}
        text = _renamed(text, {old: new for old, new in renamed.items() if old != new})
        self.texts.append(_TYPE_COMMENT.sub("", text))
        return self._names[key]

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
                if original != "base":
                    names[used] = self.need(module, original)
        return names

    @staticmethod
    def _is_component(module: str, name: str) -> bool:
        item = getattr(importlib.import_module(module), name, None)
        return isinstance(item, type) and issubclass(item, Component)


def _trimmed(item: Definition, found: Source, component: bool) -> Iterator[str]:
    """Yield a definition's lines without what a file for inference does not need."""
    first = item.lineno
    if isinstance(item, ast.FunctionDef) or (isinstance(item, ast.ClassDef) and not component):
        first = min([first, *(decorator.lineno for decorator in item.decorator_list)])
    dropped: set[int] = set()
    if isinstance(item, ast.ClassDef):
        unwanted = _unwanted(item, component)
        for part in item.body:
            if unwanted & _defines(part):
                decorators = getattr(part, "decorator_list", [])
                start = min([part.lineno, *(one.lineno for one in decorators)])
                dropped |= set(range(start, (part.end_lineno or start) + 1))
    blank = False
    for number in range(first, (item.end_lineno or first) + 1):
        line = found.lines[number - 1]
        if number in dropped or (blank and not line.strip()):
            continue
        blank = not line.strip()
        yield line
    # A trailing blank line is what a dropped last method leaves.


def _unwanted(item: ast.ClassDef, component: bool) -> set[str]:
    """Return the names in a class that nothing needs: those listed, and private methods that only they use."""
    unwanted = set(_OF_COMPONENTS if component else _NOT_NEEDED)
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
