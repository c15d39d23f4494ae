"""What a training measured, in the boxes of a diagram."""

from __future__ import annotations

from hybridlab.architecture import library
from hybridlab.architecture.document import loads
from hybridlab.views.diagram import diagram_info
from hybridlab.views.measured_diagram import measured_info

JAMBA = loads(library.find("jamba_mini").read_text(encoding="utf-8"))
INFO = diagram_info(JAMBA)


def test_each_box_says_its_value_and_has_its_place_on_the_scale() -> None:
    values = {"stage": 9.0, "stage.mamba2": 0.01, "stage.swiglu": 0.1, "stage.attention": 1.0}
    found = measured_info(INFO, JAMBA, "grad_norm", values)
    boxes = {box.path: box for box in found.boxes}
    mamba, swiglu, attention, moe = (boxes[f"nodes[0].nodes[{i}]"] for i in range(4))
    assert (mamba.detail, swiglu.detail, attention.detail, moe.detail) == ("0.01", "0.1", "1", "")
    assert (mamba.tint, attention.tint, moe.tint) == (0.04, 1.0, None)
    assert swiglu.tint is not None
    assert abs(swiglu.tint - 0.5) < 1e-9
    assert mamba.told == "Gradient norm, measured: 0.01"
    assert boxes["nodes[0]"] == INFO.box("nodes[0]")


def test_loads_are_shares_and_even_ones_have_no_colour() -> None:
    for shares, words, tint in (
        ([0.25] * 4, "25 25 25 25 %", 0.0),
        ([1.0, 0.0], "100 0 %", 1.0),
        ([1.0], "100 %", 0.0),
    ):
        found = measured_info(INFO, JAMBA, "expert_load", {"stage.moe": shares})
        box = found.box("nodes[0].nodes[3]")
        assert box is not None
        assert (box.detail, box.tint) == (words, tint)


def test_nothing_measured_has_no_colour_and_zero_and_one_value_are_drawn() -> None:
    assert all(box.tint is None for box in measured_info(INFO, JAMBA, "grad_norm", {}).boxes)
    one = measured_info(INFO, JAMBA, "update_ratio", {"stage.moe": 0.5, "stage.mamba2": 0.0})
    assert [box.tint for box in one.boxes if box.tint is not None] == [0.0, 0.5]
