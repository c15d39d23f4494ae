"""The diagram's layout: what stands where, what is marked, and that names from files stay text."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree

import pytest

from hybridlab.architecture.document import loads
from hybridlab.errors import Problem
from hybridlab.views import style
from hybridlab.views.diagram import PAD, Box, DiagramInfo, diagram_info
from hybridlab.views.diagram_svg import diagram_svg

PALETTE = [
    {"name": "attention", "kind": "token_mixer", "title": "Attention"},
    {"name": "mamba2", "kind": "token_mixer", "title": "Mamba-2"},
    {"name": "swiglu", "kind": "channel_mixer", "title": "SwiGLU"},
    {"name": "sum", "kind": "merge", "title": "Sum"},
    {"name": "rms_norm", "kind": "norm", "title": "RMS norm"},
    {"name": "classifier", "kind": "head", "title": "Classifier"},
]
HYMBA = """
name: two heads
width: 64
nodes:
  - id: block
    repeat: 3
    nodes:
      - {id: attn, use: attention, heads: 4, causal: true}
      - {id: ssm, use: mamba2, inputs: [input], residual: none}
      - {use: sum, inputs: [attn, ssm]}
      - {use: swiglu, expand: 2.5}
"""
NASTY = "<img src=x onerror=alert(1)>"


def laid_out(text: str, **more: object) -> DiagramInfo:
    return diagram_info(loads(text), catalogue=PALETTE, **more)  # type: ignore[arg-type]


def box(info: DiagramInfo, path: str) -> Box:
    found = info.box(path)
    assert found is not None, f"{path} is not among {[b.path for b in info.boxes]}"
    return found


def test_every_node_is_a_box_with_its_address_kind_and_words() -> None:
    info = laid_out(HYMBA)
    said = [(b.path, b.title, b.detail, b.kind) for b in info.boxes]
    assert info.name == "two heads"
    assert said == [
        ("nodes[0]", "block × 3", "", "group"),
        ("nodes[0].nodes[0]", "attn: Attention", "heads 4, causal yes", "token_mixer"),
        ("nodes[0].nodes[1]", "ssm: Mamba-2", "", "token_mixer"),
        ("nodes[0].nodes[2]", "Sum", "", "merge"),
        ("nodes[0].nodes[3]", "SwiGLU", "expand 2.5", "channel_mixer"),
    ]
    assert info.box("nodes[9]") is None


def test_branches_stand_side_by_side_and_meet_below() -> None:
    info = laid_out(HYMBA)
    attn, ssm, join, last = (box(info, f"nodes[0].nodes[{i}]") for i in range(4))
    assert attn.top == ssm.top
    assert attn.left + attn.width <= ssm.left or ssm.left + ssm.width <= attn.left
    assert join.top >= attn.top + attn.height
    assert last.top >= join.top + join.height
    middle = (min(attn.left, ssm.left) + max(attn.left, ssm.left) + attn.width) / 2
    assert join.left + join.width / 2 == pytest.approx(middle)


def test_a_group_holds_its_nodes_and_no_two_boxes_overlap() -> None:
    info = laid_out(HYMBA)
    group = box(info, "nodes[0]")
    inner = [b for b in info.boxes if b is not group]
    for b in inner:
        assert group.left < b.left
        assert b.left + b.width < group.left + group.width
        assert group.top < b.top
        assert b.top + b.height < group.top + group.height
    for one in inner:
        for other in inner:
            apart = (
                one.left + one.width <= other.left
                or other.left + other.width <= one.left
                or one.top + one.height <= other.top
                or other.top + other.height <= one.top
            )
            assert one is other or apart, f"{one.path} lies on {other.path}"
    assert info.width >= group.width >= 2 * attn_width(info) + 2 * PAD
    assert info.height == pytest.approx(group.top + group.height)


def attn_width(info: DiagramInfo) -> float:
    return box(info, "nodes[0].nodes[0]").width


def test_lines_lead_from_box_to_box_with_the_shape_that_flows() -> None:
    info = laid_out(HYMBA, edges={"block.0.attn": "sequence (B, L, 64) float32"})
    attn, ssm, join = (box(info, f"nodes[0].nodes[{i}]") for i in range(3))
    assert attn.gives == "sequence (B, L, 64) float32"
    assert ssm.gives == ""
    label = {(e.points[0], e.points[-1]): e.label for e in info.edges}
    bottom = (attn.left + attn.width / 2, attn.top + attn.height)
    top = (join.left + join.width / 2, join.top)
    assert label[bottom, top] == "B × L × 64"
    group = box(info, "nodes[0]")
    enters = [e for e in info.edges if group.top < e.points[0][1] < attn.top]
    assert {e.points[-1] for e in enters} == {
        (attn.left + attn.width / 2, attn.top),
        (ssm.left + ssm.width / 2, ssm.top),
    }
    assert sum(not e.arrow for e in info.edges) == 1, "one line leaves the group"


def test_a_line_from_around_a_group_is_told_apart() -> None:
    info = laid_out("""
name: skip
width: 8
nodes:
  - {id: first, use: attention}
  - id: stage
    nodes:
      - {id: inner, use: swiglu}
      - {use: sum, inputs: [inner, first]}
""")
    crossing = [e for e in info.edges if e.crosses]
    first, join = box(info, "nodes[0]"), box(info, "nodes[1].nodes[1]")
    assert len(crossing) == 1
    assert crossing[0].points == (
        (first.left + first.width / 2, first.top + first.height),
        (join.left + join.width / 2, join.top),
    )


def test_residuals_follow_the_kind_unless_the_node_says_otherwise() -> None:
    info = laid_out("""
name: residuals
width: 8
nodes:
  - {use: attention}
  - {id: bare, use: attention, residual: none}
  - {use: rms_norm}
  - {id: wrapped, use: rms_norm, residual: post}
  - {id: group, residual: pre, nodes: [{use: swiglu}]}
""")
    assert [box(info, f"nodes[{i}]").residual for i in range(5)] == [True, False, False, True, True]
    assert box(info, "nodes[4].nodes[0]").residual
    assert diagram_svg(info).count("<circle") == 4


def test_problems_hang_on_the_innermost_box_of_their_path() -> None:
    problems = [
        Problem("nodes[0].nodes[0].heads", "64 features do not divide by 5 heads"),
        Problem("nodes[0].repeat", "must be at least 1", severity="warning"),
        Problem("nodes[0].nodes[10]", "nowhere to be seen"),
        Problem("", "of the whole"),
    ]
    info = laid_out(HYMBA, problems=problems)
    marked = {b.path: (b.errors, b.warnings) for b in info.boxes if b.errors or b.warnings}
    assert marked == {
        "nodes[0].nodes[0]": (
            ("nodes[0].nodes[0].heads: 64 features do not divide by 5 heads",),
            (),
        ),
        "nodes[0]": (
            ("nodes[0].nodes[10]: nowhere to be seen",),
            ("nodes[0].repeat: must be at least 1",),
        ),
    }
    drawn = diagram_svg(info)
    assert f'stroke="{style.ERROR_COLOUR}"' in drawn
    assert f'stroke="{style.ERROR_COLOUR}"' not in diagram_svg(laid_out(HYMBA))
    assert "do not divide by 5 heads" in drawn


def test_what_the_task_supplies_has_no_address_in_the_text() -> None:
    info = laid_out(
        """
name: completed
width: 8
nodes:
  - {id: pixels, use: sum}
  - {use: attention}
  - {use: classifier, classes: 10}
""",
        supplied={"pixels", "classifier"},
    )
    assert [(b.path, b.supplied) for b in info.boxes] == [
        ("task.pixels", True),
        ("nodes[0]", False),
        ("task.classifier", True),
    ]


def test_html_in_names_and_values_stays_text() -> None:
    plain = laid_out(HYMBA)
    nasty = dataclasses.replace(
        plain,
        name=NASTY,
        boxes=tuple(
            dataclasses.replace(b, title=NASTY, detail=NASTY, gives=NASTY, errors=(NASTY,))
            for b in plain.boxes
        ),
        edges=tuple(dataclasses.replace(e, label=NASTY) for e in plain.edges),
    )
    drawn = diagram_svg(nasty)
    assert "<img" not in drawn
    assert "&lt;img" in drawn


def test_the_svg_is_well_formed_and_holds_every_box() -> None:
    info = laid_out(HYMBA.replace("two heads", '"a & b < c"'))
    root = ElementTree.fromstring(diagram_svg(info))
    names = {"s": "http://www.w3.org/2000/svg"}
    assert root.get("aria-label") == "a & b < c"
    assert len(root.findall("s:rect", names)) == len(info.boxes) == 5
    assert len(root.findall("s:polyline", names)) == len(info.edges)
    bold = [t.find("s:title", names).tail for t in root.findall("s:text[@font-weight]", names)]
    assert bold == [b.title for b in info.boxes]


def test_long_names_are_cut_to_their_box_and_whole_in_the_hover() -> None:
    name = "a_very_long_name_for_a_node_that_nobody_should_use"
    info = laid_out(f"name: n\nwidth: 8\nnodes:\n  - {{id: {name}, use: attention}}\n")
    root = ElementTree.fromstring(diagram_svg(info))
    names = {"s": "http://www.w3.org/2000/svg"}
    titles = [text.find("s:title", names) for text in root.findall("s:text[@font-weight]", names)]
    (label,) = [title for title in titles if title is not None]
    shown = label.tail or ""
    assert shown.endswith("…")
    assert name.startswith(shown[:-1])
    assert 15 <= len(shown) <= 28
    assert box(info, "nodes[0]").title == f"{name}: Attention"
    assert f"{name}: Attention" in (label.text or "")


def test_an_empty_place_draws_nothing_and_fails_at_nothing() -> None:
    info = DiagramInfo("empty", (), (), 0.0, 0.0)
    assert ElementTree.fromstring(diagram_svg(info)).get("aria-label") == "empty"
