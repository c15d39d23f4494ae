"""Hints say what a valid design might do better, with the number that says so, and never more."""

from __future__ import annotations

from typing import Any

import pytest

from hybridlab.architecture import library
from hybridlab.architecture.document import loads
from hybridlab.architecture.fixes.fix import applied
from hybridlab.components.registry import catalogue
from hybridlab.trace.hints import hints, sums
from hybridlab.trace.predict import predict

ENTRIES = {entry["name"]: entry for entry in catalogue()}
TOP = "name: x\nwidth: 64\nnodes:\n"
MIXERS = "  - {use: attention}\n  - {use: swiglu}\n"


def found(text: str, length: int = 64) -> dict[str, Any]:
    """Return the hints of a text: sentence by sentence, the text after each fix."""
    architecture = loads(text)
    prediction = predict(architecture, batch=2, length=length).as_dict()
    assert prediction["ok"]
    return {
        problem.sentence(): [applied(text, fix) for fix in fixes]
        for problem, fixes in hints(architecture, prediction, ENTRIES).items()
    }


def test_long_full_attention_is_told_with_its_share_and_a_window_makes_it_cheaper() -> None:
    said = found(TOP + MIXERS, 4096)
    (sentence, (fixed,)) = next((s, f) for s, f in said.items() if "attention over" in s)
    assert sentence.startswith("nodes[0]: attention over 4,096 positions is 9")
    assert "try a window of 512" in sentence
    before, after = (predict(loads(t), batch=2, length=4096) for t in (TOP + MIXERS, fixed))
    share = before.components[0].flops / before.flops_forward
    assert f"{100 * share:.0f} % of the FLOPs (predicted)" in sentence
    assert after.flops_forward < 0.5 * before.flops_forward
    assert not found(fixed, 4096)


def test_every_full_attention_gets_the_window_in_one_fix() -> None:
    text = TOP + "  - {id: g, repeat: 2, nodes: [{use: attention}, {use: swiglu}]}\n" + MIXERS
    ((fixed,),) = (f for s, f in found(text, 2048).items() if "attention over" in s)
    assert fixed.count("window: 256") == 2


@pytest.mark.parametrize(
    ("text", "length"),
    [
        (TOP + MIXERS, 128),
        (TOP.replace("64", "512") + MIXERS, 1024),
        (TOP + "  - {use: attention}\n" + "  - {use: mlp, ratio: 16}\n" * 3, 256),
    ],
    ids=["short", "wide", "a small part"],
)
def test_attention_below_the_lines_is_not_remarked_on(text: str, length: int) -> None:
    assert not [sentence for sentence in found(text, length) if "attention over" in sentence]


def test_a_router_that_chooses_nothing_is_told() -> None:
    said = found(TOP + "  - {use: moe, experts: 4, top_k: 4}\n")
    (fixed,) = next(f for s, f in said.items() if "all 4 experts" in s)
    assert "top_k: 2" in fixed
    assert not found(TOP + "  - {use: moe, experts: 4, top_k: 2}\n")
    assert "one expert" in " ".join(found(TOP + "  - {use: moe, experts: 1, top_k: 1}\n"))


def test_two_norms_in_a_row_are_told_and_one_goes() -> None:
    said = found(TOP + "  - {use: rms_norm}\n  - {use: layer_norm}\n  - {use: swiglu}\n")
    ((fixed,),) = said.values()
    assert "layer_norm" not in fixed
    assert not found(fixed)


def test_a_window_as_long_as_the_sequence_is_told() -> None:
    text = TOP + "  - {use: attention, window: 64}\n"
    ((sentence, (fixed,)),) = found(text).items()
    assert "covers all 64 positions" in sentence and "window" not in fixed
    assert not found(text, 65)


def test_where_the_parameters_stand_is_told() -> None:
    text = TOP + "  - {use: token_embedding, vocab: 9000}\n  - {use: mlp}\n"
    (sentence,) = found(text)
    assert "% of the parameters stand in 'token_embedding'" in sentence
    assert not found(text.replace("9000", "700"))
    assert not found(TOP + "  - {use: mlp, ratio: 16}\n")


def test_shared_weights_count_once_and_their_work_each_time() -> None:
    text = TOP + "  - {id: g, repeat: 3, tie: true, nodes: [{use: mlp}]}\n  - {use: mlp}\n"
    architecture = loads(text)
    prediction = predict(architecture, batch=2, length=8).as_dict()
    flops, params = (sums(architecture, prediction, key) for key in ("flops", "params"))
    assert flops["g.mlp"] == 3 * flops["mlp"]
    assert params["g.mlp"] == params["mlp"]
    assert sum(flops.values()) == prediction["flops_forward"]


def test_presets_on_their_tasks_have_nothing_to_be_told() -> None:
    for entry in library.presets():
        if entry.name != "conv_attention_image":
            assert not found(entry.text()), entry.name
