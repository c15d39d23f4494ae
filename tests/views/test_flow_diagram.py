"""A component's data flow as boxes: every step is there, and lines lead downwards from what is read to who reads it."""

from __future__ import annotations

from hybridlab.views.diagram_svg import diagram_svg
from hybridlab.views.flow_diagram import flow_info

STEPS = [
    ["s0", "input", "input"],
    ["s1", "layer", "gate: Linear 8 → 8"],
    ["s2", "layer", "<img src=x>"],
    ["s3", "operation", "×"],
    ["s4", "output", "output"],
]
EDGES = [["s0", "s1"], ["s0", "s2"], ["s1", "s3"], ["s2", "s3"], ["s0", "s3"], ["s3", "s4"]]


def test_every_step_is_a_box_and_lines_lead_down() -> None:
    info = flow_info("gated", STEPS, EDGES)
    assert [box.title for box in info.boxes] == [label for _, _, label in STEPS]
    assert len(info.edges) == len(EDGES)
    boxes = {box.path: box for box in info.boxes}
    for edge, (source, reader) in zip(info.edges, EDGES, strict=True):
        start, end = boxes[source], boxes[reader]
        assert edge.points[0] == (start.left + start.width / 2, start.top + start.height)
        assert edge.points[-1] == (end.left + end.width / 2, end.top)
        assert edge.points[0][1] < edge.points[-1][1]
    apart = boxes["s1"], boxes["s2"]
    assert (
        apart[0].left + apart[0].width <= apart[1].left
        or apart[1].left + apart[1].width <= apart[0].left
    )
    assert all(box.left >= 0 and box.left + box.width <= info.width for box in info.boxes)
    assert "<img" not in diagram_svg(info)


def test_a_component_that_hands_on_what_it_is_given() -> None:
    info = flow_info("empty", [STEPS[0], STEPS[4]], [["s0", "s4"]])
    assert len(info.boxes) == 2 and len(info.edges) == 1
