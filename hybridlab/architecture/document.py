"""Architectures as YAML text: read with every error at once, written as people write them, comments kept."""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.emitter import Emitter
from ruamel.yaml.error import YAMLError

from hybridlab.architecture import recent
from hybridlab.architecture.spec import (
    ARCHITECTURE_KEYS,
    MAX_DEPTH,
    MAX_NODES,
    NODE_KEYS,
    Architecture,
    Node,
)
from hybridlab.errors import Problem, SpecError
from hybridlab.validation import join_path, problems_from, shown

MAX_BYTES = 512 * 1024
EMPTY = "the architecture is empty"
"""What is told of a text that has no node yet."""


def load(source: str | os.PathLike[str]) -> Architecture:
    """Read an architecture from a file.

    Raises:
        SpecError: the file cannot be read or does not describe an architecture; it holds every problem found.
    """
    path = Path(source)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(_too_large(path.stat().st_size))
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError(
            Problem(str(path), "is not a text file", "YAML in UTF-8", "other bytes")
        ) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError(
            Problem(str(path), f"cannot be read: {reason}", "an architecture file")
        ) from None
    return loads(text)


def loads(text: str) -> Architecture:
    """Read an architecture from YAML text.

    Raises:
        SpecError: the text does not describe an architecture; it holds every problem found.
    """
    architecture, problems = parse(text)
    if architecture is None:
        raise SpecError(problems)
    return architecture


def parse(text: str) -> tuple[Architecture | None, list[Problem]]:
    """Read YAML text; return the architecture, or None with every problem found."""
    try:
        content, problems = contents(text)
    except SpecError as error:
        return None, list(error.problems)
    if problems:
        return None, problems
    if not isinstance(content, dict):
        return None, [
            Problem(
                "",
                "this is not an architecture",
                "a mapping with name, width and nodes",
                shown(content),
            )
        ]
    gathered: dict[str, Any] = {**content, "nodes": _gather(content.get("nodes"))}
    if not gathered["nodes"]:
        problems.append(
            Problem(
                "nodes",
                EMPTY,
                "at least one node",
                shown(content.get("nodes")),
                "add a node such as {use: attention}",
            )
        )
        gathered["nodes"] = [{"id": "x", "use": "x"}]
    try:
        architecture = Architecture.model_validate(gathered)
    except ValidationError as error:
        return None, problems + list(_named(problems_from(error, known=ARCHITECTURE_KEYS)))
    return (None, problems) if problems else (architecture, [])


def dump(architecture: Architecture) -> str:
    """Write an architecture as YAML text, in the order and the short form that people use."""
    content: dict[str, Any] = {"name": architecture.name}
    for key in ("source", "description"):
        if value := getattr(architecture, key):
            content[key] = value
    content["width"] = architecture.width
    if architecture.norm != Architecture.model_fields["norm"].default:
        content["norm"] = architecture.norm
    if architecture.norm_eps is not None:
        content["norm_eps"] = architecture.norm_eps
    body = CommentedMap(content)
    body["nodes"] = _node_maps(architecture.nodes)
    return write_yaml(body)


def read_yaml(text: str) -> Any:
    """Read YAML into objects that remember comments and order.

    Raises:
        SpecError: the text is too large, too deep or not YAML.
    """
    if len(text) > MAX_BYTES:
        raise SpecError(_too_large(len(text)))
    if text.count("use:") + text.count('"use"') > MAX_NODES:
        raise SpecError(
            Problem("nodes", "too many nodes", f"at most {MAX_NODES:,}", f"{text.count('use:'):,}")
        )
    if _bracket_depth(text) > 2 * MAX_DEPTH + 4:
        raise SpecError(_too_deep(""))
    try:
        return _yaml().load(text)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise SpecError(
            Problem(
                where,
                f"this is not YAML: {reason}",
                fix="check brackets, quotes, colons and indentation there and just before",
            )
        ) from None
    except RecursionError:
        raise SpecError(_too_deep("")) from None
    except (ValueError, OverflowError, ArithmeticError) as error:
        raise SpecError(
            Problem("", f"a value cannot be read: {error}", "plain YAML values")
        ) from None


def write_yaml(content: Any) -> str:
    """Write what ``read_yaml`` gave, or a CommentedMap, as text."""
    stream = io.StringIO()
    _yaml().dump(content, stream)
    return stream.getvalue()


def contents(text: str) -> tuple[Any, list[Problem]]:
    """Return a text as plain values, which nobody may change, and problems; a text of a moment ago is not read again.

    Raises:
        SpecError: the text is too large, too deep or not YAML.
    """
    content = recent.content_of(text)
    if content is not None:
        return content, []
    content, problems = plain(read_yaml(text))
    if not problems:
        recent.remember(text, None, content)
    return content, problems


def plain(raw: Any) -> tuple[Any, list[Problem]]:
    """Return the content as plain dicts, lists and scalars, and problems: aliases, depth, keys, odd values."""
    problems: list[Problem] = []
    seen: set[int] = set()

    def convert(value: Any, path: str, depth: int) -> Any:
        if depth > 2 * MAX_DEPTH + 2:
            if not any(problem.message == _too_deep("").message for problem in problems):
                problems.append(_too_deep(path))
            return None
        if isinstance(value, (dict, list)):
            if id(value) in seen:
                problems.append(
                    Problem(
                        path,
                        "anchors and aliases are not read",
                        "the node written out",
                        "an alias",
                        "use a group with repeat, or copy the node",
                    )
                )
                return None
            seen.add(id(value))
        if isinstance(value, dict):
            result = {}
            for key, item in value.items():
                if not isinstance(key, str):
                    problems.append(Problem(path, "a key is not text", "text", shown(key)))
                    continue
                result[str(key)] = convert(item, join_path(path, str(key)), depth + 1)
            return result
        if isinstance(value, list):
            return [convert(item, join_path(path, i), depth + 1) for i, item in enumerate(value)]
        if value is None or isinstance(value, bool):
            return value
        for kind in (int, float, str):
            if isinstance(value, kind):
                return kind(value)
        if type(value).__name__ == "ScalarBoolean":
            return bool(value)
        problems.append(
            Problem(
                path,
                "is a value of a kind that architectures do not use",
                "text, a number or true/false",
                "a date" if isinstance(value, date) else f"a {type(value).__name__}",
                "put it in quotes",
            )
        )
        return None

    return convert(raw, "", 0), problems


def _gather(raw: Any) -> Any:
    """Give every node an id and move its parameters under ``params``; leave what is not a node to validation."""
    if not isinstance(raw, list):
        return raw
    nodes = []
    for node, name in zip(raw, implied_ids(raw), strict=True):
        if not isinstance(node, dict):
            nodes.append(node)
            continue
        known = {key: node[key] for key in NODE_KEYS if key in node}
        if "nodes" in known:
            known["nodes"] = _gather(known["nodes"])
        known.setdefault("id", name)
        known["params"] = {key: value for key, value in node.items() if key not in NODE_KEYS}
        nodes.append(known)
    return nodes


def implied_ids(siblings: list[Any]) -> list[str]:
    """Return each sibling's id: its own, else its component's name, numbered where that is taken."""
    taken = {n["id"] for n in siblings if isinstance(n, dict) and isinstance(n.get("id"), str)}
    names: list[str] = []
    numbers: dict[str, int] = {}
    for node in siblings:
        if isinstance(node, dict) and "id" in node:
            names.append(str(node["id"]))
            continue
        use = node.get("use") if isinstance(node, dict) else None
        base = implied_id(str(use or "group"))
        name, number = base, numbers.get(base, 2)
        while name in taken:  # a name once taken stays so: the search goes on where it ended
            name, number = f"{base}_{number}", number + 1
        numbers[base] = number
        names.append(name)
        taken.add(name)
    return names


@functools.lru_cache(maxsize=1024)
def implied_id(use: str) -> str:
    """Return the id that the first node of a component has where it is given none."""
    clean = "".join(c if c.isalnum() or c in "_-" else "_" for c in use)[:56]
    return clean if clean and (clean[0].isalpha() or clean[0] == "_") else f"n_{clean}"


def looks_implied(node: Node) -> bool:
    """Return whether a node's id is its component's name, perhaps with a number: it may be one that reading implies."""
    base = implied_id(node.use or "group")
    rest = node.id.removeprefix(f"{base}_")
    return node.id == base or (rest != node.id and rest.isdecimal())


def _named(problems: list[Problem]) -> Iterator[Problem]:
    """Write paths as they stand in the file, and drop the echo that a bad node makes in its list."""
    inside = any(problem.path.startswith("nodes[") for problem in problems)
    for problem in problems:
        if inside and problem.path == "nodes" and problem.message == "has the wrong length":
            continue
        path = problem.path.replace(".params.", ".")
        if problem.message == "is missing" and path.endswith("]"):
            path += ".use"
        yield Problem(
            path, problem.message, problem.expected, problem.got, problem.fix, problem.severity
        )


def _node_maps(nodes: tuple[Node, ...]) -> CommentedSeq:
    """Write siblings; ids that reading would give again by itself are left out."""
    short = [{"use": node.use} | ({} if looks_implied(node) else {"id": node.id}) for node in nodes]
    keep = [node["id"] for node in _gather(short)] != [node.id for node in nodes]
    return CommentedSeq([_node_map(node, keep or not looks_implied(node)) for node in nodes])


def _node_map(node: Node, with_id: bool) -> CommentedMap:
    content: dict[str, Any] = {"id": node.id} if with_id else {}
    if node.use is not None:
        content["use"] = node.use
    content |= {key: _written(value) for key, value in node.params.items()}
    if node.inputs is not None:
        content["inputs"] = _flow(list(node.inputs))
    if node.residual is not None:
        content["residual"] = str(node.residual)
    if node.repeat != 1:
        content["repeat"] = node.repeat
    if node.tie:
        content["tie"] = True
    for key in ("share", "lora"):
        if (value := getattr(node, key)) is not None:
            content[key] = value
    result = CommentedMap(content)
    if node.nodes:
        result["nodes"] = _node_maps(node.nodes)
    else:
        result.fa.set_flow_style()
    return result


def _written(value: Any) -> Any:
    return _flow(value) if isinstance(value, list) else value


def _flow(items: list[Any]) -> CommentedSeq:
    sequence = CommentedSeq(items)
    sequence.fa.set_flow_style()
    return sequence


def _bracket_depth(text: str) -> int:
    """Return how deep brackets nest, so that hostile text is refused before the slow parser sees it."""
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _too_large(size: float) -> Problem:
    size = size if math.isfinite(size) else 0
    return Problem(
        "", "the file is too large", f"at most {MAX_BYTES // 1024} KiB", f"{size / 1024:,.0f} KiB"
    )


def _too_deep(path: str) -> Problem:
    return Problem(path, "groups are nested too deeply", f"at most {MAX_DEPTH} levels", "more")


class _Yaml(YAML):
    """YAML that does not search its own folder for plug-ins, of which it has none, each time that it is made."""

    def official_plug_ins(self) -> list[str]:
        return []


class _Emitter(Emitter):
    """Puts in quotes what ruamel would write plainly within brackets and then not read again, such as ``?0``."""

    def analyze_scalar(self, scalar: Any) -> Any:
        analysis = super().analyze_scalar(scalar)
        if scalar.startswith("?"):
            analysis.allow_flow_plain = False
        return analysis


def _yaml() -> YAML:
    yaml = _Yaml(typ="rt")
    yaml.Emitter = _Emitter
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.allow_duplicate_keys = False
    return yaml
