"""Every fix that is offered takes its problem away and brings no error; the typical mistakes all have one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hybridlab.architecture import edit, library
from hybridlab.architecture.document import loads, parse, read_yaml, write_yaml
from hybridlab.architecture.edit import EMPTY
from hybridlab.architecture.fixes import offer
from hybridlab.architecture.fixes.fix import Fix, applied, from_dict
from hybridlab.architecture.fixes.offer import fixes, proposals, read_survey
from hybridlab.components.registry import catalogue
from hybridlab.errors import Problem
from hybridlab.ui.canvas.changes import TextChange, make
from hybridlab.workflows.predict_worker import VERBS

ENTRIES = {entry["name"]: entry for entry in catalogue()}
CHANGES: TypeAdapter[list[TextChange]] = TypeAdapter(list[TextChange])
TOP = "name: x\nwidth: 64\nnodes:\n"

TYPICAL = {
    "heads that do not divide": ("  - {use: attention, heads: 5}\n", "Set heads to 4"),
    "kv_heads that do not divide": (
        "  - {use: attention, heads: 8, kv_heads: 3}\n",
        "Set kv_heads to 2",
    ),
    "heads and kv_heads": (
        "  - {use: attention, heads: 6, kv_heads: 3}\n",
        "Set heads to 4 and leave kv_heads out",
    ),
    "odd heads for rotary": ("  - {use: attention, head_dim: 5}\n", "Set head_dim to 6"),
    "a head of one feature": ("  - {use: attention, heads: 64}\n", "Set heads to 32"),
    "two reasons against one number": (
        "  - {use: gated_linear_attention, heads: 6}\n",
        "Set heads to 4",
    ),
    "more experts than there are": ("  - {use: moe, top_k: 9}\n", "Set top_k to 4"),
    "out of range": ("  - {use: attention, heads: 0}\n", "Set heads to 1"),
    "far out of range": (
        "  - {use: attention, heads: 5000}\n",
        "Use the default heads, which is 4",
    ),
    "text for a number": ("  - {use: attention, heads: '8'}\n", "Set heads to 8"),
    "a fraction": ("  - {use: attention, heads: 7.9}\n", "Set heads to 8"),
    "no choice": ("  - {use: mlp}\n  - {use: classifier, pool: men}\n", "Set pool to mean"),
    "a switch by word": ("  - {use: attention, causal: 'no'}\n", "Set causal to false"),
    "unknown key": ("  - {use: attention, haeds: 8}\n", "Write haeds as heads"),
    "a key nobody knows": ("  - {use: attention, colour: red}\n", "Remove colour"),
    "unknown component": ("  - {use: atention, heads: 8}\n", "Take attention"),
    "a component nobody knows": ("  - {use: mlp}\n  - {use: zzz}\n", "Remove zzz"),
    "one id for two": ("  - {id: a, use: mlp}\n  - {id: a, use: mlp}\n", "Call it a_2"),
    "unknown input": (
        "  - {id: stage, use: mlp}\n  - {use: attention, inputs: [stge]}\n",
        "Read stage instead of stge",
    ),
    "a circle": (
        "  - {use: attention, inputs: [sum]}\n  - {use: mlp}\n"
        "  - {use: sum, inputs: [attention, mlp]}\n",
        "Let attention no longer read sum",
    ),
    "a circle through a group": (
        "  - {id: g, nodes: [{use: mlp, inputs: [later]}]}\n  - {id: later, use: mlp}\n",
        "Let mlp no longer read later",
    ),
    "itself": ("  - {id: a, use: mlp, inputs: [a]}\n", "Let a no longer read a"),
    "a join of one": ("  - {use: mlp}\n  - {use: sum}\n", "Remove sum, which has nothing to join"),
    "two inputs for one": (
        "  - {use: mlp}\n  - {use: attention, inputs: [mlp, input]}\n",
        "Join them before it with Sum",
    ),
    "two inputs for a group": (
        "  - {use: mlp}\n  - {id: g, inputs: [mlp, input], nodes: [{use: mlp}]}\n",
        "Join them before it with Sum",
    ),
    "nobody reads it": ("  - {use: mlp}\n  - {use: attention, inputs: [input]}\n", "Remove mlp"),
    "an input in the middle": (
        "  - {use: token_embedding}\n  - {use: mlp}\n  - {use: patch_embedding}\n",
        "Remove patch_embedding",
    ),
    "a head in the middle": (
        "  - {use: token_embedding}\n  - {use: lm_head}\n  - {use: mlp}\n",
        "Move lm_head to the end",
    ),
    "a residual that changes the width": (
        "  - {use: mlp}\n  - {use: attention, inputs: [input]}\n"
        "  - {use: concat, inputs: [mlp, attention], project: false, residual: pre}\n",
        "Set residual to none",
    ),
    "branches of different width": (
        "  - {use: mlp}\n  - {id: a, use: attention, inputs: [input]}\n"
        "  - {id: wide, use: concat, inputs: [mlp, a], project: false}\n"
        "  - {use: sum, inputs: [wide, a]}\n",
        "Join them with Concatenate",
    ),
    "repeat 0": ("  - {id: g, repeat: 0, nodes: [{use: mlp}]}\n", "Set repeat to 1"),
    "repeat on a component": (
        "  - {use: attention, repeat: 2}\n",
        "Wrap it in a group that repeats 2 times",
    ),
    "an empty group": ("  - {use: mlp}\n  - {id: g, nodes: []}\n", "Remove the empty group"),
    "a key of a group": ("  - {id: g, repaet: 2, nodes: [{use: mlp}]}\n", "Write repaet as repeat"),
    "both component and group": ("  - {use: mlp, nodes: [{use: mlp}]}\n", "Keep the group"),
    "no inputs at all": ("  - {use: mlp, inputs: []}\n", "Read the node above"),
    "a reserved id": ("  - {id: input, use: mlp}\n", "Call it input_2"),
    "an id with a space": ("  - {id: a b, use: mlp}\n", "Call it a_b"),
    "a bare word": ("  - attention\n  - {use: mlp}\n", "Write it as use: attention"),
    "too many repeats": (
        "  - {id: g, repeat: 500, nodes: [{use: mlp}, {use: mlp}, {use: mlp}, {use: mlp}, {use: mlp}]}\n",
        "Lower the repeat of nodes[0] to 400",
    ),
    "a tied group that changes its width": (
        "  - {id: g, tie: true, repeat: 2, nodes: [{use: rms_norm}, "
        "{use: concat, inputs: [rms_norm, input], project: false}]}\n",
        "Give each repeat its own weights",
    ),
}
WHOLE = {
    "no name": ("width: 64\nnodes: [{use: mlp}]\n", "Set name to untitled"),
    "no width": ("name: x\nwidth: 0\nnodes: [{use: mlp}]\n", "Set width to 1"),
    "a key of the whole": ("name: x\nwidht: 32\nnodes: [{use: mlp}]\n", "Write widht as width"),
    "unknown norm": ("name: x\nnorm: layernorm\nnodes: [{use: mlp}]\n", "Set norm to layer_norm"),
}
CASES = {name: (TOP + body, title) for name, (body, title) in TYPICAL.items()} | WHOLE


@pytest.fixture(autouse=True, scope="module")
def unhurried() -> Iterator[None]:
    """Let no busy machine cut the search for fixes short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(offer, "SECONDS", 60.0)
        yield


def look(text: str, task: str | None = None) -> tuple[list[Problem], list[tuple[Fix, ...]]]:
    """Return the problems and fixes that the pages show for a text."""
    architecture, problems = parse(text)
    if architecture is None:
        return problems, fixes(text, problems, ENTRIES)
    said = VERBS["check"]({"text": text, "task": task, "batch": 2})
    found = [tuple(map(from_dict, each)) for each in said["fixes"]]
    return [Problem(**each) for each in said["problems"]], found


def errors(problems: list[Problem]) -> Counter[str]:
    return Counter(problem.message for problem in problems if problem.severity == "error")


def made(text: str, fix: Fix) -> str:
    """Make a fix the way the canvas does, which must be what Python makes of it."""
    by_canvas = make(text, CHANGES.validate_python([dict(change) for change in fix.changes]))
    assert by_canvas == applied(text, fix)
    return by_canvas


@pytest.mark.parametrize("name", CASES)
def test_a_typical_mistake_has_a_fix_that_helps(name: str) -> None:
    text, title = CASES[name]
    problems, offered = look(text)
    every = [fix.title for found in offered for fix in found]
    assert title in every, (problems, every)
    for problem, found in zip(problems, offered, strict=True):
        assert len(found) <= 3
        assert len({fix.title for fix in found}) == len(found)
        for fix in found:
            after, _ = look(made(text, fix))
            assert problem not in after, fix
            assert not errors(after) - errors(problems), (fix, after)


@pytest.mark.parametrize("name", CASES)
def test_the_first_fix_of_a_single_mistake_makes_the_design_right(name: str) -> None:
    text, _ = CASES[name]
    for _ in range(3):
        problems, offered = look(text)
        if not errors(problems):
            break
        text = made(text, next(found[0] for found in offered if found))
    assert not errors(look(text)[0])


@pytest.mark.parametrize("task", ["digits_sequence", "python_bytes", "digits_image"])
def test_an_input_that_does_not_read_the_task_is_replaced(task: str) -> None:
    others = {"digits_sequence": "patch_embedding", "python_bytes": "pixel_series"}
    text = TOP + f"  - {{use: {others.get(task, 'token_embedding')}}}\n  - {{use: mlp}}\n"
    problems, offered = look(text, task)
    assert problems and offered[0]
    for fix in offered[0]:
        assert not errors(look(made(text, fix), task)[0]), fix


def test_a_node_that_reads_the_raw_input_gets_an_embedding_before_it() -> None:
    text = TOP + "  - {use: mlp}\n  - {use: token_embedding}\n"
    problems, offered = look(text, "digits_sequence")
    first = next(i for i, problem in enumerate(problems) if problem.path == "nodes[0].inputs")
    assert "Insert Pixel or sensor series before it" in [fix.title for fix in offered[first]]


def test_what_cannot_be_put_right_in_one_step_has_no_fix() -> None:
    for text in (EMPTY, "just words", "name: x\nnodes: [", "", "name: x\nnodes: 3\n"):
        problems, offered = look(text)
        assert problems
        assert not any(offered), text


def test_comments_survive_a_fix() -> None:
    text = "# mine\n" + TOP + "  - {use: attention, heads: 5}  # five\n"
    _, offered = look(text)
    fixed = made(text, offered[0][0])
    assert "# mine" in fixed and "# five" in fixed and "heads: 4" in fixed


def test_a_mistake_that_hides_another_still_has_its_fix() -> None:
    text = (
        TOP
        + "  - {id: a, use: mlp}\n  - {id: a, use: attention, heads: 5}\n  - {use: mlp, inputs: [b]}\n"
    )
    for _ in range(6):
        problems, offered = look(text)
        if not problems:
            return
        text = made(text, next(found[0] for found in offered if found))
    raise AssertionError(problems)


WRONG: list[dict[str, Any]] = [
    {"heads": 5},
    {"heads": 0},
    {"heads": "many"},
    {"heads": 10**9},
    {"top_k": 99},
    {"state": -3},
    {"window": 0.5},
    {"kernel": True},
    {"hedas": 4},
    {"use": "atention"},
    {"use": "sum"},
    {"use": "lm_head"},
    {"use": "token_embedding"},
    {"inputs": ["nobody"]},
    {"inputs": ["input", "input"]},
    {"inputs": []},
    {"id": "input"},
    {"id": "two words"},
    {"repeat": 3},
    {"residual": "yes"},
    {"nodes": []},
    {"tie": "yes"},
]


def addresses(text: str) -> list[str]:
    return [path for path, _, _ in loads(text).walk()]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_fix_of_any_mistake_in_any_preset_helps(data: st.DataObject) -> None:
    """Break a preset in one or two places; each fix offered takes its own problem away and adds no error."""
    text = data.draw(st.sampled_from([entry.text() for entry in library.presets()]))
    for _ in range(data.draw(st.integers(1, 2))):
        root = read_yaml(text)
        node: Any = root
        for step in edit._STEP.findall(data.draw(st.sampled_from(addresses(text)))):
            node = node["nodes"][int(step)]
        node.update(data.draw(st.sampled_from(WRONG)))
        broken = write_yaml(root)
        if parse(broken)[0] is None:
            text = broken
            break
        text = broken
    task = data.draw(st.sampled_from(["digits_sequence", "python_bytes"]))
    problems, offered = look(text, task)
    for problem, found in zip(problems[:3], offered, strict=False):
        before = read_survey(text).stage
        for fix in found[:2]:
            fixed = made(text, fix)
            after, _ = look(fixed, task)
            count = sum(each.message == problem.message for each in after)
            assert count < sum(each.message == problem.message for each in problems), fix
            if read_survey(fixed).stage == before:
                assert not errors(after) - errors(problems), (fix, after)


def test_proposals_do_not_break_on_what_others_wrote() -> None:
    odd = Problem("nodes[0].inputs[7]", "there is no such node here", got="'x'", fix="try 3 or 4")
    for text in ("nodes: [{use: 3}]", "nodes: [[]]", "nodes: {}", "[]", "nodes: [{inputs: {}}]"):
        assert all(isinstance(fix, Fix) for fix in proposals(text, odd, ENTRIES))


def test_a_message_that_names_an_address_names_the_texts_own() -> None:
    text = TOP + "  - {id: a, use: mlp}\n  - {id: a, use: mlp}\n"
    (problem,) = look(text, "digits_sequence")[0]
    assert (problem.path, problem.message) == ("nodes[1].id", "the id 'a' is taken by nodes[0]")
