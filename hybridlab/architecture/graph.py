"""Who reads whom: names resolved to nodes, an order to run them in, and each value's last use. Free of torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from hybridlab.architecture.spec import INPUT, MAX_DEPTH, MAX_NODES, Architecture, Node
from hybridlab.errors import Problem, SpecError


@dataclass(frozen=True)
class Ref:
    """A value: the node's id and how many groups outward it stands (0: a sibling)."""

    outward: int
    id: str

    def inward(self) -> Ref:
        """Return the same value as seen from inside one more group."""
        return Ref(self.outward + 1, self.id)


@dataclass(frozen=True)
class Step:
    """One node to run: what it reads, and which siblings' values nobody reads afterwards."""

    node: Node
    path: str
    file_path: str
    reads: tuple[Ref, ...]
    frees: tuple[str, ...]
    inner: Scope | None = None


@dataclass(frozen=True)
class Scope:
    """The nodes of one group in running order; its output is the last node as written."""

    steps: tuple[Step, ...]
    output: str
    outer: frozenset[Ref] = field(default_factory=frozenset)
    """Values of the enclosing scopes that nodes in here read, as seen from the group itself."""


def resolve(architecture: Architecture) -> Scope:
    """Resolve every name.

    Raises:
        SpecError: unknown or doubled names, cycles, too many or too deeply nested nodes; all of them at once.
    """
    scope, problems = try_resolve(architecture)
    if scope is None:
        raise SpecError(problems)
    return scope


def try_resolve(architecture: Architecture) -> tuple[Scope | None, list[Problem]]:
    """Resolve every name; return the scope (None where there are errors) and all problems, warnings included."""
    problems: list[Problem] = []
    total = expanded_count(architecture.nodes)
    if total > MAX_NODES:
        problems.append(
            Problem(
                "nodes",
                "too many nodes once repeats are written out",
                f"at most {MAX_NODES:,}",
                f"{total:,}",
                "lower a repeat",
            )
        )
    if _depth(architecture.nodes) > MAX_DEPTH:
        problems.append(
            Problem("nodes", "groups are nested too deeply", f"at most {MAX_DEPTH} levels")
        )
        return None, problems
    scope = _scope(architecture.nodes, "nodes", "", (), problems)
    return (None if any(p.severity == "error" for p in problems) else scope), problems


def expanded_count(nodes: tuple[Node, ...]) -> int:
    """Return the number of component nodes once every repeat is written out."""
    return sum(node.repeat * expanded_count(node.nodes) if node.is_group else 1 for node in nodes)


def _depth(nodes: tuple[Node, ...]) -> int:
    return 1 + max((_depth(node.nodes) for node in nodes if node.is_group), default=0)


def _scope(
    nodes: tuple[Node, ...],
    file_path: str,
    path: str,
    enclosing: tuple[frozenset[str], ...],
    problems: list[Problem],
) -> Scope:
    names = [node.id for node in nodes]
    problems.extend(_doubled(nodes, file_path))
    visible = (frozenset(names) | {INPUT}, *enclosing)
    reads: dict[int, tuple[Ref, ...]] = {}
    inner: dict[int, Scope] = {}
    for index, node in enumerate(nodes):
        here = f"{file_path}[{index}]"
        default = names[index - 1] if index else INPUT
        wanted = node.inputs if node.inputs is not None else (default,)
        reads[index] = tuple(_refs(wanted, visible, f"{here}.inputs", problems))
        if node.is_group:
            if len(wanted) != 1:
                problems.append(
                    Problem(
                        f"{here}.inputs",
                        "a group takes one input",
                        "one name",
                        f"{len(wanted)} names",
                        "join them first with a node such as {use: sum}",
                    )
                )
            inner[index] = _scope(
                node.nodes, f"{here}.nodes", f"{path}{node.id}.", visible, problems
            )
    needs = {
        index: {ref for ref in reads[index] if ref.outward == 0}
        | {ref for ref in (inner[index].outer if index in inner else ()) if ref.outward == 0}
        for index in range(len(nodes))
    }
    order = _ordered(nodes, needs, file_path, problems)
    problems.extend(_unread(nodes, needs, file_path))
    last_use = {ref.id: place for place, index in enumerate(order) for ref in needs[index]}
    steps = []
    for place, index in enumerate(order):
        frees = tuple(
            sorted(name for name, last in last_use.items() if last == place and name != names[-1])
        )
        node = nodes[index]
        steps.append(
            Step(
                node,
                f"{path}{node.id}",
                f"{file_path}[{index}]",
                reads[index],
                frees,
                inner.get(index),
            )
        )
    outer = {ref for index in reads for ref in reads[index] if ref.outward}
    outer |= {ref for scope in inner.values() for ref in scope.outer if ref.outward}
    return Scope(tuple(steps), names[-1], frozenset(Ref(ref.outward - 1, ref.id) for ref in outer))


def _doubled(nodes: tuple[Node, ...], file_path: str) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, node in enumerate(nodes):
        if node.id in first:
            yield Problem(
                f"{file_path}[{index}].id",
                f"the id {node.id!r} is taken by {file_path}[{first[node.id]}]",
                "ids that differ within a group",
                repr(node.id),
                f"try {node.id}_2",
            )
        first.setdefault(node.id, index)


def _refs(
    wanted: tuple[str, ...],
    visible: tuple[frozenset[str], ...],
    path: str,
    problems: list[Problem],
) -> Iterator[Ref]:
    for name in wanted:
        for outward, names in enumerate(visible):
            if name in names:
                yield Ref(outward, name)
                break
        else:
            known = sorted({name for names in visible for name in names})
            close = difflib.get_close_matches(name, known, n=1)
            fix = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(known[:20])
            problems.append(
                Problem(
                    path,
                    "there is no such node here",
                    "the id of a node in this group or around it",
                    repr(name),
                    fix,
                )
            )


def _ordered(
    nodes: tuple[Node, ...],
    needs: Mapping[int, set[Ref]],
    file_path: str,
    problems: list[Problem],
) -> list[int]:
    """Return the nodes' positions so that everyone runs after what they read, else in the order as written."""
    position = {node.id: index for index, node in reversed(list(enumerate(nodes)))}
    waiting = {
        index: {position[ref.id] for ref in refs if ref.id in position}
        for index, refs in needs.items()
    }
    order: list[int] = []
    while waiting:
        ready = next((index for index in waiting if not waiting[index]), None)
        if ready is None:
            names = ", ".join(repr(nodes[index].id) for index in _cycle(waiting))
            first = min(_cycle(waiting))
            problems.append(
                Problem(
                    f"{file_path}[{first}].inputs",
                    f"the nodes {names} read each other in a circle",
                    "a graph without cycles",
                    "",
                    "let one of them read a node from before the circle",
                )
            )
            return order + list(waiting)
        order.append(ready)
        del waiting[ready]
        for others in waiting.values():
            others.discard(ready)
    return order


def _cycle(waiting: Mapping[int, set[int]]) -> list[int]:
    """Return one circle among nodes that all wait for each other."""
    trail: list[int] = []
    index = next(iter(waiting))
    while index not in trail:
        trail.append(index)
        index = min(other for other in waiting[index] if other in waiting)
    return trail[trail.index(index) :]


def _unread(
    nodes: tuple[Node, ...], needs: Mapping[int, set[Ref]], file_path: str
) -> Iterator[Problem]:
    read = {ref.id for refs in needs.values() for ref in refs}
    for index, node in enumerate(nodes[:-1]):
        if node.id not in read:
            yield Problem(
                f"{file_path}[{index}]",
                f"nobody reads {node.id!r}, so its work is thrown away",
                "a node that reads it",
                "",
                "name it in a later node's inputs, or remove it",
                "warning",
            )
