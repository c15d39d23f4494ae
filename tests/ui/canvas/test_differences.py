"""Whatever is edited turns up in the difference, and nothing else does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from random_edits import CHANGES, random_change, run, starts

from hybridlab.architecture.compare import compare
from hybridlab.architecture.document import parse
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import HybridLabError
from hybridlab.ui.canvas.changes import make
from hybridlab.views.diagram_svg import diagram_svg
from hybridlab.views.difference import GONE, difference_info


def content(architecture: Architecture) -> str:
    return architecture.model_dump_json()


def count(architecture: Architecture) -> int:
    return sum(1 for _ in architecture.walk())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 6))
def test_a_difference_is_empty_exactly_where_nothing_differs(seed: int, steps: int) -> None:
    before, after = (parse(text)[0] for text in (run(seed, steps)[0], run(seed, steps)[2]))
    if before is None or after is None:
        return
    there, back = compare(before, after), compare(after, before)
    assert compare(before, before).empty and compare(after, after).empty
    assert there.empty == back.empty == (content(before) == content(after))
    for one, a, b in ((there, before, after), (back, after, before)):
        whats = [change.what for change in one.nodes]
        assert (
            len(one.pairs) == count(a) - whats.count("removed") == count(b) - whats.count("added")
        )
        assert len({x for x, _ in one.pairs}) == len({y for _, y in one.pairs}) == len(one.pairs)


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_one_edit_is_told_as_what_it_is(rng) -> None:
    text = rng.choice(starts()[1:])
    change = random_change(text, rng)
    try:
        new = make(text, [CHANGES.validate_python(change)])
    except HybridLabError:
        return
    before, after = parse(text)[0], parse(new)[0]
    if before is None or after is None:
        return
    difference = compare(before, after)
    whats = {node.what for node in difference.nodes}
    kind = change["do"]
    if content(before) == content(after):
        assert difference.empty
    elif kind in ("insert", "duplicate", "wrap"):
        assert "added" in whats and "removed" not in whats
    elif kind in ("remove", "unwrap"):
        assert "removed" in whats and "added" not in whats
    elif kind == "set":
        keys = {(node.after, item.key) for node in difference.nodes for item in node.fields}
        assert (change["path"], change["key"]) in keys
    elif kind == "replace":
        assert change["path"] in {node.after for node in difference.nodes if node.what == "changed"}
    elif kind == "rename":
        assert "id" in {item.key for node in difference.nodes for item in node.fields}
    else:
        assert kind == "move" and any(node.moved for node in difference.nodes)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.integers(1, 5))
def test_every_change_is_on_the_diagram(seed: int, steps: int) -> None:
    start, _, end = run(seed, steps)
    before, after = parse(start)[0], parse(end)[0]
    if before is None or after is None:
        return
    difference = compare(before, after)
    info = difference_info(before, after, difference)
    marks = {box.path: box.mark for box in info.boxes}
    assert len(marks) == len(info.boxes)
    expected = {path: "" for path, _, _ in after.walk()}
    expected |= {c.after or f"{GONE}{c.before}": c.what for c in difference.nodes}
    assert marks == expected
    assert diagram_svg(info).count("<circle") >= len(difference.nodes)
