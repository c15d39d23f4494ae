"""The small pictures of the gallery: every component is there, in its kind's colour, and in words."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from hybridlab.architecture import library
from hybridlab.architecture.document import load, loads
from hybridlab.views import style
from hybridlab.views.diagram import diagram_info
from hybridlab.views.thumbnail import alternative, thumbnail_svg

NAMES = {"s": "http://www.w3.org/2000/svg"}
PALETTE = [
    {"name": "mamba2", "kind": "token_mixer", "title": "Mamba-2"},
    {"name": "swiglu", "kind": "channel_mixer", "title": "SwiGLU"},
]


@pytest.mark.parametrize("entry", library.presets(), ids=lambda entry: entry.name)
def test_every_preset_has_a_picture_with_all_its_boxes(entry) -> None:
    info = diagram_info(load(entry.path), catalogue=PALETTE)
    root = ElementTree.fromstring(thumbnail_svg(info))
    assert len(root.findall("s:rect", NAMES)) == len(info.boxes)
    assert root.get("aria-label") == alternative(info)


def test_it_runs_from_left_to_right_in_the_colours_of_the_kinds() -> None:
    text = (
        'name: "a <b>"\nwidth: 8\nnodes:\n  - {use: mamba2}\n  - {use: swiglu}\n  - {use: swiglu}\n'
    )
    info = diagram_info(loads(text), catalogue=PALETTE)
    root = ElementTree.fromstring(thumbnail_svg(info))
    first, second, _ = root.findall("s:rect", NAMES)
    assert float(first.get("x")) < float(second.get("x"))
    assert first.get("fill") == style.kind_colour("token_mixer")
    assert second.get("fill") == style.kind_colour("channel_mixer")
    assert root.get("aria-label") == "a <b>: Mamba-2, SwiGLU × 2"
