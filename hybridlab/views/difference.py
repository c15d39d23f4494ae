"""The difference of two architectures on one diagram: what is there now, and what has gone, as ghosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hybridlab.architecture.compare import Difference, NodeChange
from hybridlab.architecture.spec import INPUT, Architecture, Node
from hybridlab.views.diagram import Box, DiagramInfo, Edge, Mark, diagram_info

GONE = "gone."
"""What the address of a box that was removed begins with; its address in the first file follows."""
_Link = tuple[int, int]


def difference_info(
    before: Architecture,
    after: Architecture,
    difference: Difference,
    catalogue: Sequence[Mapping[str, Any]] = (),
) -> DiagramInfo:
    """Lay out the second architecture with the removed nodes of the first beside it, all marked.

    Boxes that are there now have their address in the second file; changed ones say ``heads 4 → 8``.
    """
    merge = _Merge(before, difference)
    nodes = merge.scope(after.nodes, "nodes", before.nodes, "nodes", "nodes")
    drawn = diagram_info(after.model_copy(update={"nodes": tuple(nodes)}), catalogue=catalogue)
    titles = {str(entry["name"]): str(entry["title"]) for entry in catalogue}
    bottoms = {_point(box, box.height): box.path for box in drawn.boxes}
    tops = {_point(box, 0.0): box.path for box in drawn.boxes}
    boxes = tuple(_marked(box, merge.places[box.path], titles) for box in drawn.boxes)
    edges = tuple(_edge(edge, bottoms, tops, merge) for edge in drawn.edges)
    return replace(drawn, boxes=boxes, edges=edges)


@dataclass(frozen=True)
class _Place:
    """What stands at an address of the merged architecture."""

    address: str
    mark: Mark
    change: NodeChange | None
    id: str
    use: str


@dataclass
class _Entry:
    """A node of a merged group while its lines are worked out."""

    node: Node
    before: str | None
    after: str | None
    reads: list[str] = field(default_factory=list)


class _Merge:
    """Puts the removed nodes back into the groups that both architectures have."""

    def __init__(self, before: Architecture, difference: Difference) -> None:
        self.partner = dict(difference.pairs)
        self.old = {b: a for a, b in difference.pairs}
        self.changes = {c.after: c for c in difference.nodes if c.after}
        self.removed = {c.before: c for c in difference.nodes if c.what == "removed"}
        self.by_before = {path: node for path, _, node in before.walk()}
        self.added = {c.after for c in difference.nodes if c.what == "added"}
        self.places: dict[str, _Place] = {}
        self.lines: dict[tuple[str, str], Mark] = {}

    def scope(
        self,
        after: Sequence[Node],
        after_path: str,
        before: Sequence[Node],
        before_path: str,
        merged_path: str,
    ) -> list[Node]:
        """Return a group's nodes of both, with every line written out."""
        entries = self._entries(after, after_path, before, before_path)
        number = {entry.after: i for i, entry in enumerate(entries) if entry.after}
        olds = {entry.before: i for i, entry in enumerate(entries) if entry.before}
        here = [number[f"{after_path}[{i}]"] for i in range(len(after))]
        there = [olds.get(f"{before_path}[{i}]") for i in range(len(before))]
        links = [(here[s] if s >= 0 else -1, here[t]) for s, t in _reads(after)]
        past = [
            (-1 if s < 0 else there[s], there[t])
            for s, t in _reads(before)
            if (s < 0 or there[s] is not None) and there[t] is not None
        ]
        marks: dict[_Link, Mark] = {}
        for link in past:
            if link not in links and self._tells(entries, link) and not _closes(links, link):
                links.append(link)  # type: ignore[arg-type]
                marks[link] = "removed"  # type: ignore[index]
        for link in links:
            if link not in marks and link not in past and self._tells(entries, link):
                marks[link] = "added"
        for (source, target), mark in marks.items():
            ends = (f"{merged_path}[{source}]" if source >= 0 else "", f"{merged_path}[{target}]")
            self.lines[ends] = mark
        for source, target in links:
            entries[target].reads.append(entries[source].node.id if source >= 0 else INPUT)
        siblings = {node.id for node in after}
        made = []
        for index, entry in enumerate(entries):
            path = f"{merged_path}[{index}]"
            self._note(path, entry)
            outer = [] if entry.after is None else _outer(entry.node, siblings)
            inputs: dict[str, Any] = {"inputs": tuple(dict.fromkeys([*entry.reads, *outer]))}
            nodes = self._inside(entry, path) if entry.node.is_group else []
            if entry.node.is_group and not nodes:
                inputs |= {"nodes": (), "use": "group"}  # all that was in it stands elsewhere now
            elif nodes:
                inputs |= {"nodes": tuple(nodes)}
            made.append(entry.node.model_copy(update=inputs))
        return made

    def _entries(
        self, after: Sequence[Node], after_path: str, before: Sequence[Node], before_path: str
    ) -> list[_Entry]:
        """Return the nodes that are there now in their order, each removed one behind what stood before it."""
        entries = []
        for index, node in enumerate(after):
            path = f"{after_path}[{index}]"
            old = self.old.get(path)
            same = old is not None and old.rpartition("[")[0] == before_path
            entries.append(_Entry(node, old if same else None, path))
        place = 0
        for index, node in enumerate(before):
            path = f"{before_path}[{index}]"
            if path in self.removed:
                ghost = node.model_copy(update={"id": f"{GONE}{path}"})
                last = place >= len(entries) and any(entry.after for entry in entries)
                entries.insert(place - 1 if last else place, _Entry(ghost, path, None))
                place += 0 if last else 1
            else:
                now = self.partner.get(path)
                place = next((i + 1 for i, e in enumerate(entries) if e.after == now), place)
        return entries

    def _inside(self, entry: _Entry, merged_path: str) -> list[Node]:
        if entry.after is None:
            assert entry.before is not None
            return self.scope(
                (),
                "",
                self.by_before[entry.before].nodes,
                f"{entry.before}.nodes",
                f"{merged_path}.nodes",
            )
        old = self.old.get(entry.after)
        before = self.by_before[old].nodes if old else ()
        return self.scope(
            entry.node.nodes, f"{entry.after}.nodes", before, f"{old}.nodes", f"{merged_path}.nodes"
        )

    def _tells(self, entries: Sequence[_Entry], link: tuple[int | None, int | None]) -> bool:
        """Say whether a line differs for a reason: an end came or went, or a node was told to read another."""
        for end in link:
            if end is None or end < 0:
                continue
            entry = entries[end]
            if entry.after is None or entry.after in self.added:
                return True
        target = entries[link[1] or 0]
        change = self.changes.get(target.after) if target.after else None
        return change is not None and any(item.key == "inputs" for item in change.fields)

    def _note(self, path: str, entry: _Entry) -> None:
        address = entry.after or f"{GONE}{entry.before}"
        old = entry.before or ""
        change = self.changes.get(entry.after) if entry.after else self.removed[old]
        source = entry.node if entry.after else self.by_before[old]
        mark: Mark = change.what if change else ""
        self.places[path] = _Place(address, mark, change, source.id, source.use or "group")


def _reads(nodes: Sequence[Node]) -> list[_Link]:
    """Return (source, target) positions within a group, once each; source -1 is what enters it."""
    position: dict[str, int] = {}
    for index, node in enumerate(nodes):
        position.setdefault(node.id, index)
    pairs: dict[_Link, None] = {}
    for index, node in enumerate(nodes):
        if node.inputs is None:
            pairs[index - 1, index] = None
        for name in node.inputs or ():
            source = -1 if name == INPUT else position.get(name, index)
            if source != index:
                pairs[source, index] = None
    return list(pairs)


def _outer(node: Node, siblings: Iterable[str]) -> list[str]:
    return [name for name in node.inputs or () if name not in siblings and name != INPUT]


def _closes(links: Sequence[_Link], link: tuple[int | None, int | None]) -> bool:
    """Say whether a line would close a circle."""
    source, target = link
    reached, waiting = set(), [target]
    while waiting:
        place = waiting.pop()
        if place == source:
            return True
        if place not in reached:
            reached.add(place)
            waiting += [t for s, t in links if s == place]
    return False


def _point(box: Box, down: float) -> tuple[float, float]:
    return (round(box.left + box.width / 2, 2), round(box.top + down, 2))


def _marked(box: Box, place: _Place, titles: Mapping[str, str]) -> Box:
    change = place.change
    name, detail = box.title, box.detail
    if place.mark == "removed":
        title = "group" if place.use == "group" else titles.get(place.use, place.use)
        plain = place.id.rstrip("0123456789").rstrip("_") in (place.use, title)
        name = title if plain else place.id if place.use == "group" else f"{place.id}: {title}"
    elif change is not None and change.fields:
        said = [item.words() for item in change.fields if item.key != "use"]
        if new := change.replaced:
            name = f"{titles.get(new.before, new.before)} → {titles.get(new.after, new.after)}"
        if box.kind == "group":
            name = f"{name} ({', '.join(said)})"
        else:
            detail = ", ".join(said) or detail
    elif change is not None and change.moved:
        detail = detail or change.words().partition(": ")[2]
    told = f"{change.what}: {change.words()}" if change else ""
    return replace(
        box,
        path=place.address,
        title=name,
        detail=detail,
        mark=place.mark,
        told=told,
        supplied=False,
    )


def _edge(
    edge: Edge,
    bottoms: Mapping[tuple[float, float], str],
    tops: Mapping[tuple[float, float], str],
    merge: _Merge,
) -> Edge:
    (x, y), (u, v) = edge.points[0], edge.points[-1]
    source = bottoms.get((round(x, 2), round(y, 2)), "")
    target = tops.get((round(u, 2), round(v, 2)), "")
    mark = merge.lines.get((source, target), "")
    return replace(edge, mark=mark) if mark else edge
