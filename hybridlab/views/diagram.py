"""An architecture as a diagram: components as boxes, groups around them, what flows on the lines between."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hybridlab.architecture.spec import INPUT, Architecture, Node, Residual
from hybridlab.errors import Problem
from hybridlab.views.layered import GAP_Y, Placed, Size, place

BOX = Size(184.0, 46.0)
PAD = 16.0
HEADER = 26.0
_REPEAT = re.compile(r"\.\d+(?=\.|$)")
"""Which repeat of a group a path leads through; all repeats hand on the same type."""
MIXERS = ("token_mixer", "channel_mixer")
Mark = Literal["", "added", "removed", "changed", "moved"]
"""What became of a box or a line where a diagram shows the difference between two architectures."""


@dataclass(frozen=True)
class Box:
    """A component or a group: where it stands (pixels, y downwards), what it says and what is wrong with it."""

    path: str
    """Its address in the file, such as ``nodes[1].nodes[0]``."""
    title: str
    detail: str
    kind: str
    """The family of the palette, ``group``, or empty where the component is unknown."""
    left: float
    top: float
    width: float
    height: float
    residual: bool
    gives: str
    """What it hands on, such as ``sequence (B, L, 64) float32``; empty while unknown."""
    supplied: bool = False
    """Whether the task brings it; then it has no address in the text, and ``path`` is ``task.`` and its id."""
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    mark: Mark = ""
    told: str = ""
    """What a mark says in full, for the pointer and for those who listen."""
    tint: float | None = None
    """How strong the colour of a measured value is, 0 to 1; None for the colour of its kind."""
    hue: Literal["measured", "away"] = "measured"
    """Which colour a tint is of: that of measured values and of what is computed again, or of what leaves memory."""


@dataclass(frozen=True)
class Edge:
    """A line from one box to another through points, with the shape that flows on it."""

    points: tuple[tuple[float, float], ...]
    label: str
    crosses: bool = False
    """Whether it leads into a group from outside past the group's own input."""
    arrow: bool = True
    mark: Mark = ""


@dataclass(frozen=True)
class DiagramInfo:
    """Everything a drawing of an architecture shows, in reading order."""

    name: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    width: float
    height: float

    def box(self, path: str) -> Box | None:
        """Return the box at a path of the file, if there is one."""
        return next((box for box in self.boxes if box.path == path), None)


def diagram_info(
    architecture: Architecture,
    edges: Mapping[str, object] | None = None,
    problems: Iterable[Problem] = (),
    catalogue: Sequence[Mapping[str, Any]] = (),
    supplied: Collection[str] = (),
) -> DiagramInfo:
    """Lay an architecture out.

    ``edges`` gives what each node hands on (a TensorType or its text) by path of ids, such as ``stage.attention``;
    ``problems`` are marked at the boxes their paths name; ``catalogue`` (of the component registry) gives titles and
    kinds; ``supplied`` are ids of first or last nodes that a task has put around the text's own.
    """
    by_name = {entry["name"]: entry for entry in catalogue}
    gives = {_REPEAT.sub("", key): str(value) for key, value in (edges or {}).items()}
    draft = _Draft(by_name, gives, frozenset(supplied))
    size = draft.scope(architecture.nodes, "nodes", "", 0.0, 0.0, {}, None)
    boxes = _marked(draft.boxes, problems)
    return DiagramInfo(architecture.name, boxes, tuple(draft.edges), size.width, size.height)


class _Draft:
    """Collects boxes and edges while walking the groups."""

    def __init__(
        self,
        catalogue: Mapping[str, Mapping[str, Any]],
        gives: Mapping[str, str],
        supplied: frozenset[str],
    ) -> None:
        self.catalogue, self.gives, self.supplied = catalogue, gives, supplied
        self.boxes: list[Box] = []
        self.edges: list[Edge] = []

    def measure(self, nodes: Sequence[Node]) -> Placed:
        sizes = [self.room(node) for node in nodes]
        return place(sizes, [(s, t) for s, t in _siblings(nodes) if s >= 0])

    def scope(
        self,
        nodes: Sequence[Node],
        file_path: str,
        ids: str,
        left: float,
        top: float,
        outer: Mapping[str, Box],
        group: Box | None,
    ) -> Size:
        """Add one scope's boxes and edges with its corner at (left, top); return its size."""
        placed = self.measure(nodes)
        known: dict[str, Box] = {}
        placed_boxes: list[Box] = []
        own = [node for node in nodes if group is not None or node.id not in self.supplied]
        shift = nodes.index(own[0]) if own else 0
        for index, node in enumerate(nodes):
            x, y = placed.positions[index]
            path, named = f"{file_path}[{index - shift}]", f"{ids}{node.id}"
            if group is None and node.id in self.supplied:
                path = f"task.{node.id}"
            box = self.box(node, path, named, left + x, top + y, self.room(node))
            self.boxes.append(box)
            placed_boxes.append(box)
            known.setdefault(node.id, box)
        for source, target in _siblings(nodes):
            end = placed_boxes[target]
            if source >= 0:
                start = placed_boxes[source]
                route = [(left + x, top + y) for x, y in placed.routes[source, target]]
                self.connect(start, end, route)
            elif group is not None:
                self.edges.append(
                    Edge(((_middle(end), group.top + HEADER), (_middle(end), end.top)), "")
                )
        if group is not None:
            last = placed_boxes[-1]
            ends = (
                (_middle(last), last.top + last.height),
                (_middle(last), group.top + group.height),
            )
            self.edges.append(Edge(ends, "", arrow=False))
        self.from_outside(nodes, placed_boxes, known, outer)
        for index, node in enumerate(nodes):
            if node.is_group:
                box = placed_boxes[index]
                self.scope(
                    node.nodes,
                    f"{box.path}.nodes",
                    f"{ids}{node.id}.",
                    box.left + PAD + 8,
                    box.top + HEADER + PAD,
                    {**outer, **known},
                    box,
                )
        return placed.size

    def room(self, node: Node) -> Size:
        if not node.is_group:
            return BOX
        inner = self.measure(node.nodes).size
        return Size(inner.width + 2 * PAD + 16, inner.height + HEADER + 2 * PAD + GAP_Y / 2)

    def box(self, node: Node, path: str, named: str, left: float, top: float, size: Size) -> Box:
        entry = self.catalogue.get(node.use or "", {})
        kind = "group" if node.is_group else str(entry.get("kind", ""))
        residual = node.residual is not Residual.NONE if node.residual else kind in MIXERS
        return Box(
            path,
            _title(node, entry),
            _detail(node),
            kind,
            left,
            top,
            size.width,
            size.height,
            (residual and not node.is_group) or node.residual in (Residual.PRE, Residual.POST),
            self.gives.get(named, ""),
            path.startswith("task."),
        )

    def connect(self, start: Box, end: Box, route: list[tuple[float, float]]) -> None:
        points = [(_middle(start), start.top + start.height), *route, (_middle(end), end.top)]
        self.edges.append(Edge(tuple(points), _short(start.gives)))

    def from_outside(
        self,
        nodes: Sequence[Node],
        boxes: Sequence[Box],
        known: Mapping[str, Box],
        outer: Mapping[str, Box],
    ) -> None:
        """Add the lines of nodes that read a value from around their group."""
        for index, node in enumerate(nodes):
            for name in node.inputs or ():
                if name not in known and name in outer:
                    start, end = outer[name], boxes[index]
                    ends = ((_middle(start), start.top + start.height), (_middle(end), end.top))
                    self.edges.append(Edge(ends, _short(start.gives), crosses=True))


def _siblings(nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """Return (source, target) positions of who reads whom within a scope; source -1 is what enters the scope."""
    position: dict[str, int] = {}
    for index, node in enumerate(nodes):
        position.setdefault(node.id, index)
    pairs = []
    for index, node in enumerate(nodes):
        if node.inputs is None:
            pairs.append((index - 1, index))
        else:
            names = dict.fromkeys(node.inputs)
            pairs += [(position[n], index) for n in names if n in position and position[n] != index]
            pairs += [(-1, index)] if INPUT in names else []
    return pairs


def _marked(boxes: Sequence[Box], problems: Iterable[Problem]) -> tuple[Box, ...]:
    """Hang each problem on the innermost box whose path begins the problem's."""
    paths = sorted((box.path for box in boxes), key=len, reverse=True)
    errors: dict[str, list[str]] = {}
    warnings: dict[str, list[str]] = {}
    for problem in problems:
        for path in paths:
            rest = problem.path.removeprefix(path)
            if problem.path.startswith(path) and (not rest or rest[0] in ".["):
                marks = errors if problem.severity == "error" else warnings
                marks.setdefault(path, []).append(problem.sentence())
                break
    return tuple(
        replace(
            box, errors=tuple(errors.get(box.path, ())), warnings=tuple(warnings.get(box.path, ()))
        )
        if box.path in errors or box.path in warnings
        else box
        for box in boxes
    )


def _title(node: Node, entry: Mapping[str, Any]) -> str:
    if node.is_group:
        times = f" × {node.repeat}" if node.repeat > 1 else ""
        of = f", weights of {node.share}" if node.share else ""
        return f"{node.id}{times}{', shared weights' if node.tie else ''}{of}"
    title = str(entry.get("title", node.use))
    plain = node.id == node.use or node.id.rstrip("0123456789").rstrip("_") == node.use
    return title if plain else f"{node.id}: {title}"


def _detail(node: Node) -> str:
    said = [f"{key} {_value(value)}" for key, value in node.params.items()]
    return ", ".join([*said, *_sharing(node)])


def _sharing(node: Node) -> list[str]:
    """Return what a node says of weights that it shares."""
    of = [f"weights of {node.share}"] if node.share else []
    return of + ([f"low-rank pair of rank {node.lora}"] if node.lora else [])


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(gives: str) -> str:
    """Write ``sequence (B, L, 64) float32`` as ``B × L × 64``."""
    start, end = gives.find("("), gives.rfind(")")
    return gives[start + 1 : end].replace(", ", " × ") if 0 <= start < end else gives


def _middle(box: Box) -> float:
    return box.left + box.width / 2
