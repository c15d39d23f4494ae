"""A component's data flow as a diagram: steps as boxes from the input above to the output below, and who reads whom."""

from __future__ import annotations

from collections.abc import Sequence

from hybridlab.views.diagram import Box, DiagramInfo, Edge
from hybridlab.views.layered import Size, place

_HEIGHT, _LEAST, _MOST = 34.0, 60.0, 300.0
_LETTER, _PAD = 7.0, 22.0
_KINDS = {
    "input": "input",
    "output": "head",
    "layer": "channel_mixer",
    "function": "token_mixer",
    "operation": "norm",
}
"""Kinds of steps by the families whose colours they take; the diagram's own words for them are in ``LEGEND``."""
LEGEND = "Orange: layers with weights. Blue: functions with a file of their own. Grey: operations."


def flow_info(
    name: str, steps: Sequence[Sequence[str]], edges: Sequence[Sequence[str]]
) -> DiagramInfo:
    """Lay out steps (id, kind, label) and edges (id, id of the reader), as ``components.data_flow`` has them."""
    number = {step: index for index, (step, _, _) in enumerate(steps)}
    sizes = [Size(_width(label), _HEIGHT) for _, _, label in steps]
    pairs = [(number[source], number[reader]) for source, reader in edges]
    placed = place(sizes, pairs)
    boxes = tuple(
        Box(
            step,
            label,
            "",
            _KINDS.get(kind, ""),
            *placed.positions[index],
            sizes[index].width,
            sizes[index].height,
            residual=False,
            gives="",
        )
        for index, (step, kind, label) in enumerate(steps)
    )
    lines = []
    for source, reader in pairs:
        start, end = boxes[source], boxes[reader]
        points = (
            (start.left + start.width / 2, start.top + start.height),
            *placed.routes[source, reader],
            (end.left + end.width / 2, end.top),
        )
        lines.append(Edge(points, ""))
    return DiagramInfo(name, boxes, tuple(lines), placed.size.width, placed.size.height)


def _width(label: str) -> float:
    return min(_MOST, max(_LEAST, _LETTER * len(label) + _PAD))
