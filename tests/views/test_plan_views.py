"""What the views of memory plans say, as records; and that they can be drawn."""

from __future__ import annotations

from typing import Any

from hybridlab.architecture.document import loads
from hybridlab.planning.compared import Compared, CompiledPoint, PlannedPoint
from hybridlab.planning.record import Figures, Plan
from hybridlab.planning.trade_off import Part, TradeOff, Uniform
from hybridlab.views.diagram import diagram_info
from hybridlab.views.fit import fit_info, fit_plot, fit_table
from hybridlab.views.plan_diagram import again_of, plan_diagram, told_apart
from hybridlab.views.plan_timeline import contents_info, timeline_info, timeline_plot
from hybridlab.views.profile_memory import peak_plot
from hybridlab.views.trade_off import trade_off_info, trade_off_plot

MIB = 2**20
NETWORK = (
    "name: x\nwidth: 8\nnodes: [{id: tokens, use: token_embedding, vocab: 4}, "
    "{id: stage, repeat: 2, residual: pre, nodes: [{use: mlp}]}, {id: head, use: lm_head, vocab: 4}]"
)
NAMES = ("tokens", "stage opens", "stage.0.mlp", "stage.1.mlp", "stage closes", "head")
PLAIN = Plan(
    fingerprint="x",
    components=NAMES,
    batch=2,
    length=3,
    predicted=Figures(peak_bytes=4 * MIB, step_ms=10.0),
    plain=Figures(peak_bytes=4 * MIB, step_ms=10.0),
    kept_because={"head": "it counts"},
)
FOUND = TradeOff(
    plain=PLAIN,
    parts=tuple(
        Part(
            name=name,
            forward_ms=1.0,
            again_ms=0.5,
            saved_bytes=10,
            forward_peak_bytes=20,
            backward_peak_bytes=30,
        )
        for name in NAMES
    ),
    peak_bytes=(2 * MIB, 3 * MIB, 4 * MIB),
    step_ms=(13.0, 11.0, 10.0),
    spans=(((1, 3),), ((2, 2),), ()),
    uniform=(
        Uniform(
            name="runs of 1", spans=((0, 0),), predicted=Figures(peak_bytes=3 * MIB, step_ms=14.0)
        ),
    ),
    holder="head at work",
)


def test_a_curve_says_what_a_plan_saves_and_costs() -> None:
    chosen = FOUND.plan(0)
    measured = chosen.model_copy(update={"measured": Figures(peak_bytes=2 * MIB + 9, step_ms=12.5)})
    info = trade_off_info(FOUND, chosen, 2 * MIB + 5, [measured])
    assert info.title == "50 % less memory for 30 % more time (predicted)"
    assert [dot.peak_bytes for dot in info.of("planner")] == [2 * MIB, 3 * MIB, 4 * MIB]
    assert [dot.words for dot in info.of("uniform")] == ["runs of 1"]
    assert [dot.step_ms for dot in info.of("planner", "measured")] == [12.5]
    assert len(info.of("chosen")) == len(info.of("as it is")) == 1
    assert set(info.table()["source"]) == {"predicted", "measured"}
    names = [trace.name for trace in trade_off_plot(info).data]
    assert all("predicted" in name or "measured" in name for name in names)
    assert "as it is" in trade_off_info(FOUND, PLAIN, 4 * MIB).title


def test_a_curve_shows_what_pytorchs_budget_takes_beside() -> None:
    figures = Figures(peak_bytes=3 * MIB, step_ms=9.0)
    points = (
        CompiledPoint(share=0.5, measured=figures, graphs=1, compile_s=60.0, difference=2e-7),
        CompiledPoint(share=0.25, why="it does not compile"),
    )
    within = PlannedPoint(
        spans=((0, 0),), shares=(0.5, 1.0), predicted=figures, measured=figures, difference=3e-7
    )
    failed = PlannedPoint(shares=(0.5, 1.0), predicted=figures, why="no memory is left")
    plain = Figures(peak_bytes=4 * MIB, step_ms=11.0)
    beside = Compared(plain=plain, points=points, planned=(within, failed))
    info = trade_off_info(FOUND, PLAIN, 4 * MIB, compiled=beside)
    (dot,) = info.of("PyTorch's budget", "measured")
    assert (dot.peak_bytes, dot.step_ms) == (3 * MIB, 9.0)
    assert dot.words == "compiled, budget 0.5, its gradients within 2e-07"
    assert [dot.step_ms for dot in info.of("as it is", "measured")] == [11.0]
    names = [trace.name for trace in trade_off_plot(info).data]
    assert "PyTorch's budget, measured, compiled" in names
    assert "a plan of the compiled step, measured" in names
    (dot,) = info.of("compiled plan", "measured")
    assert (dot.peak_bytes, dot.step_ms) == (3 * MIB, 9.0)
    assert dot.words.startswith("1 of 2 components below budget 1, 1 computed again")
    assert dot.words.endswith("; 3 MiB were predicted")


def test_what_leaves_memory_has_a_colour_and_says_where_it_goes() -> None:
    architecture = loads(NETWORK)
    away = {"offload": ("stage.0.mlp", "tokens"), "offload_as": "bfloat16"}
    plan = PLAIN.model_copy(update={**away, "recompute": (("stage.1.mlp",),)})
    boxes = plan_diagram(diagram_info(architecture), architecture, plan).boxes
    (tokens,) = [box for box in boxes if box.detail == "offloaded"]
    assert (tokens.tint, tokens.hue) == (1.0, "away")
    assert "in a memory-mapped file, in bfloat16 (lossy)" in tokens.told
    (both,) = [box for box in boxes if "offloaded: 1" in box.detail]
    assert both.detail == "again: 1 of 2, offloaded: 1" and both.hue == "measured"
    other = plan.model_copy(update={"device": "cuda", "recompute": (), "offload": ("stage.0.mlp",)})
    boxes = plan_diagram(diagram_info(architecture), architecture, other).boxes
    (half,) = [box for box in boxes if box.detail == "offloaded: 1 of 2"]
    assert half.tint == 0.5 and "pinned memory of the host" in half.told
    assert {box.hue for box in boxes if box is not half} == {"measured"}


def test_a_timeline_stands_beside_the_plain_step() -> None:
    def traced(high: float) -> dict[str, Any]:
        parts = {"weights": [1.0, 1.0, 1.0], "kept for backward": [0.0, high, 1.0]}
        rows = [{"category": "kept for backward", "component": "stage", "bytes": high}]
        side = {"ms": [0.0, 1.0, 2.0], "parts": parts}
        return {"peak_bytes": 1 + high, "category": side, "component": side, "at_peak": rows}

    info = timeline_info(traced(3.0), "category", traced(7.0), budget_bytes=5)
    assert (info.live.peak_at, info.live.peak_bytes, info.live.source) == (1.0, 4.0, "predicted")
    assert info.live.at_peak == (("kept for backward", 3.0), ("weights", 1.0))
    assert info.plain == ((0.0, 1.0, 2.0), (1.0, 8.0, 2.0))
    assert len(info.table()) == 6
    figure = timeline_plot(info)
    assert "the step as it is" in [trace.name for trace in figure.data]
    assert "predicted" in figure.layout.xaxis.title.text and "MiB" in figure.layout.yaxis.title.text
    peak = contents_info(traced(3.0))
    assert peak.components == ("stage",)
    assert len(peak_plot(peak).data) == 1


def test_a_network_shows_what_is_computed_again() -> None:
    architecture = loads(NETWORK)
    plan = FOUND.plan(1)
    assert again_of(plan) == {"tokens": (0, 1), "stage.mlp": (1, 2), "head": (0, 1)}
    boxes = {
        box.title: box for box in plan_diagram(diagram_info(architecture), architecture, plan).boxes
    }
    told = {name: (box.detail, box.tint) for name, box in boxes.items() if box.kind != "group"}
    assert sorted(told.values(), key=str) == sorted(
        [("kept", 0.0), ("again: 1 of 2", 0.5), ("kept", 0.0)], key=str
    )
    assert any("it counts" in box.told for box in boxes.values())
    assert told_apart(plan)["stage.0.mlp"] == "again, run 1"
    assert told_apart(plan)["head"] == "kept"


def test_what_fits_is_told_with_what_it_costs() -> None:
    def row(size: int, sample_ms: float, again: int) -> dict[str, Any]:
        times = {"step_ms": size * sample_ms, "sample_ms": sample_ms}
        return {"size": size, "peak_bytes": MIB, "again": again, "traced": False, **times}

    found = {
        "axis": "batch",
        "limit_bytes": 2 * MIB,
        "components": 5,
        "plain": row(10, 1.0, 0),
        "planned": row(30, 1.5, 5),
        "beyond": [row(20, 1.25, 2)],
        "least_bytes": 9,
    }
    info = fit_info(found)
    assert info.title == "Plans fit 3 times the batch, at +50 % time a sample (predicted)"
    assert (info.sizes, info.plain_size) == ((10, 20, 30), 10)
    assert list(fit_table(found)["again"]) == [0, 2, 5]
    assert fit_plot(info).layout.yaxis.title.text == "time a sample (ms)"
    none = fit_info(found | {"plain": None, "planned": None, "beyond": []})
    assert none.title == "Not even batch 1 fits (predicted)"
    assert len(fit_plot(none).data) == 1
