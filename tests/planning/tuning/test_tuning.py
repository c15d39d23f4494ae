"""Ways chosen for a machine: the same results, kept only where faster. Clocks are replaced: nothing hangs on timing."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.components.base import Component
from hybridlab.components.depthwise import DepthwiseConv
from hybridlab.components.registry import palette
from hybridlab.errors import RunError
from hybridlab.hardware.others import Others
from hybridlab.planning import turns
from hybridlab.planning.tuning import store
from hybridlab.planning.tuning.apply import Tuned, Turned, tune
from hybridlab.planning.tuning.knobs import KNOBS, bounds
from hybridlab.planning.tuning.measure import choose_tuning
from hybridlab.planning.tuning.record import Tuning
from hybridlab.planning.tuning.store import Known
from hybridlab.trace.step import TrainingStep, default_optimiser

CHUNKED = {name for name, info in palette().items() if "chunk" in info.cls.Params.model_fields}
CONVOLVED = ("mamba", "mamba2", "short_conv", "hyena", "rg_lru", "slstm", "delta_net")
TURNED = ("hyena", "long_conv", "s4d")
CLOSE = 1e-9
DESIGN = """
name: x
width: 16
nodes:
  - {use: token_embedding, vocab: 32}
  - id: block
    repeat: 2
    nodes:
      - {id: a, use: linear_attention, heads: 2}
      - {id: m, use: mamba2, state: 4, heads: 2}
"""
LENGTH = 40
KNOWN = Known(32, 0.8, 0.7, 0.9, 1.0)


def one_of(name: str) -> GraphModel:
    text = f"name: x\nwidth: 32\nnodes:\n  - {{use: token_embedding, vocab: 32}}\n  - {{id: a, use: {name}}}\n"
    return build(loads(text), seed=0).double()


def tokens(length: int = LENGTH, batch: int = 2) -> torch.Tensor:
    return torch.randint(32, (batch, length), generator=torch.Generator().manual_seed(0))


def step_of(*, training: bool) -> TrainingStep:
    model = build(loads(DESIGN), seed=0)
    if not training:
        return TrainingStep(model.eval(), (tokens(),), loss=None)
    return TrainingStep(model, (tokens(),), optimiser=default_optimiser(model))


def chunks_of(model: torch.nn.Module) -> list[int]:
    return [
        int(one.params.chunk)
        for one in model.modules()
        if isinstance(one, Component) and "chunk" in type(one.params).model_fields
    ]


def forms_of(model: torch.nn.Module) -> list[str]:
    return [one.form for one in model.modules() if isinstance(one, DepthwiseConv)]


def clocks(
    monkeypatch: pytest.MonkeyPatch, chunk: dict[int, float], form: dict[str, float]
) -> list[int]:
    """Let a step take so many milliseconds for each chunk and form in it, a little more each time; tell what ran."""
    runs: list[int] = []

    def run_ms(step: TrainingStep) -> float:
        runs.append(len(chunks_of(step.model)))
        return (
            sum(chunk[one] for one in chunks_of(step.model))
            + sum(form[one] for one in forms_of(step.model))
            + 1e-6 * len(runs)
        )

    monkeypatch.setattr(turns, "run_ms", run_ms)
    monkeypatch.setattr(Others, "cores", lambda self: 0.0)
    return runs


FAST = {16: 0.9, 32: 0.7, 64: 1.0}
FORMS = {"image": 1.0, "shifts": 0.8, "rows": 1.5}
SLOW = {16: 1.2, 32: 1.1, 64: 1.0}, {"image": 1.0, "shifts": 1.1, "rows": 1.5}


@pytest.mark.parametrize("name", sorted(CHUNKED | set(CONVOLVED) | set(TURNED)))
def test_every_way_gives_the_same(name: str) -> None:
    model = one_of(name)
    step = TrainingStep(model, (tokens(),))
    component = next(slot.body for path, slot in model.slots() if path == "a")
    tried = 0
    for knob in KNOBS:
        if not knob.has(component):
            continue
        designed = knob.at(component)
        for value in knob.others(component, torch.empty(2, LENGTH, 32)):
            changed = Turned(knob, [component], value)
            assert turns.difference(step, changed) <= CLOSE, (knob.name, value)
            changed.on()
            assert knob.at(component) == value and not knob.refused(component, value)
            changed.off()
            assert knob.at(component) == designed
            tried += 1
    assert tried


def test_there_is_something_to_tune() -> None:
    assert len(CHUNKED) >= 10 and {"mamba2", "delta_net", "mlstm"} <= CHUNKED
    assert all(
        bounds(palette()[name].cls.Params)[0] <= 16 <= bounds(palette()[name].cls.Params)[1]
        for name in CHUNKED
    )


@pytest.mark.parametrize("training", [False, True])
def test_the_fastest_ways_are_kept(monkeypatch: pytest.MonkeyPatch, *, training: bool) -> None:
    clocks(monkeypatch, FAST, FORMS)
    step = step_of(training=training)
    parts: list[tuple[int, int]] = []
    found = choose_tuning(step, rounds=7, on_part=lambda *at: parts.append(at))
    assert found.applied and found.why == "is faster" and parts == [(at, 3) for at in range(4)]
    assert found.tuning.chunk == dict.fromkeys(
        ("block.0.a", "block.0.m", "block.1.a", "block.1.m"), 32
    )
    assert found.tuning.convolution == dict.fromkeys(("block.0.m", "block.1.m"), "shifts")
    assert found.tuning.training is training and found.tuning.count == 6
    assert [len(one.places) for one in found.judged] == [2, 2, 2]
    assert [tried.value for tried in found.judged[0].tried] == [16, 32]
    assert found.ratio.value == pytest.approx((4 * 0.7 + 2 * 0.8) / 6, rel=0.01)
    assert 0 <= found.error <= found.tolerance == 1e-4
    assert set(chunks_of(step.model)) == {64} and set(forms_of(step.model)) == {"image"}
    assert {one.value for one in found.found.values()} == {32, "shifts"} and len(found.found) == 3
    plain = json.loads(json.dumps(found.as_dict()))
    assert Tuning.read(plain["tuning"]) == found.tuning
    assert plain["plain_borders"] and all(one["ms"] >= 0 for one in plain["tuned_borders"])
    Tuned(step.model, found.tuning).on()  # type: ignore[arg-type]
    assert set(chunks_of(step.model)) == {32} and set(forms_of(step.model)) == {"shifts"}


def test_what_is_slower_is_never_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, *SLOW)
    found = choose_tuning(step_of(training=False), rounds=7)
    assert not found.applied and found.why == "no other way is measured faster"
    assert not any(one.kept for one in found.judged)
    assert found.tuned == found.plain
    assert {one.value for one in found.found.values()} == {64, "image"}


def test_what_does_not_make_the_step_faster_is_not_applied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def in_turns(step: TrainingStep, variants: list[object], rounds: int) -> list[list[float]]:
        alone = not isinstance(step.model, GraphModel)
        return [[1.0] * rounds, *([[0.9 if alone else 1.0] * rounds] * len(variants))]

    monkeypatch.setattr(turns, "in_turns", in_turns)
    found = choose_tuning(step_of(training=False), rounds=7)
    assert all(one.kept for one in found.judged)
    assert not found.applied and "does not make the step faster" in found.why


def test_luck_among_several_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    def in_turns(step: TrainingStep, variants: list[object], rounds: int) -> list[list[float]]:
        return [[1.0] * rounds, *([[0.9 if len(variants) > 1 else 1.1] * rounds] * len(variants))]

    monkeypatch.setattr(turns, "in_turns", in_turns)
    found = choose_tuning(step_of(training=False), rounds=7)
    assert not any(one.kept for one in found.judged) and not found.applied


def test_what_gives_something_else_is_not_even_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, FAST, FORMS)
    monkeypatch.setitem(turns.TOLERANCE, torch.float32, -1.0)
    found = choose_tuning(step_of(training=False), rounds=7)
    assert not found.applied and found.found == {}
    assert all("of the largest value" in tried.why for one in found.judged for tried in one.tried)


def test_what_is_known_is_not_measured_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clocks(monkeypatch, FAST, FORMS)
    first = choose_tuning(step_of(training=False), rounds=7)
    store.keep(tmp_path, "cpu", 1, first.found)
    runs = clocks(monkeypatch, FAST, FORMS)
    again = choose_tuning(step_of(training=False), rounds=7, known=store.kept(tmp_path, "cpu", 1))
    assert again.tuning == first.tuning and again.found == {}
    assert set(runs) == {4}  # of the whole alone
    assert {one.why for one in again.judged} == {"was measured faster before"}
    other = choose_tuning(step_of(training=True), rounds=7, known=store.kept(tmp_path, "cpu", 1))
    assert len(other.found) == 3  # training is another matter


def test_what_is_known_of_one_number_format_is_not_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks(monkeypatch, FAST, FORMS)
    known = choose_tuning(step_of(training=True), rounds=7).found
    step = step_of(training=True)
    step.around = lambda: torch.autocast("cpu", torch.bfloat16)
    found = choose_tuning(step, rounds=7, known=known).found
    assert found and len(known) == 3 and not set(found) & set(known)


@pytest.mark.parametrize(
    ("mark", "value"), [("chunk 64", 2048), ("chunk 64", "rows"), ("image", 8)]
)
def test_what_is_known_and_cannot_be_is_measured_anew(
    monkeypatch: pytest.MonkeyPatch, mark: str, value: int | str
) -> None:
    """As from a version in which a knob had another range, or from a damaged file."""
    clocks(monkeypatch, FAST, FORMS)
    first = choose_tuning(step_of(training=False), rounds=7)
    known = {
        key: replace(one, value=value) if key.endswith(mark) else one
        for key, one in first.found.items()
    }
    again = choose_tuning(step_of(training=False), rounds=7, known=known)
    assert again.tuning == first.tuning and set(again.found) == {
        k for k in known if k.endswith(mark)
    }


def test_what_processes_find_at_once_is_all_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One writes between another one's reading and writing, where nothing keeps it from that."""
    read, others = store.kept, []

    def slow(folder: Path, device: str, threads: int) -> dict[str, Known]:
        content = read(folder, device, threads)
        if not others:
            others.append(
                threading.Thread(target=store.keep, args=(tmp_path, "cpu", 1, {"b": KNOWN}))
            )
            others[0].start()
            others[0].join(0.5)
        return content

    monkeypatch.setattr(store, "kept", slow)
    store.keep(tmp_path, "cpu", 1, {"a": KNOWN})
    others[0].join()
    assert set(store.kept(tmp_path, "cpu", 1)) == {"a", "b"}
    assert {one.name for one in tmp_path.iterdir()} <= {store.FILE, "tuning.lock"}


def test_what_a_busy_machine_says_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, FAST, FORMS)
    monkeypatch.setattr(Others, "cores", lambda self: 1.0)
    found = choose_tuning(step_of(training=False), rounds=7)
    assert found.applied and found.busy and found.found == {}


def test_figures_of_a_machine_are_kept_and_damage_is_survived(tmp_path: Path) -> None:
    known = KNOWN
    store.keep(tmp_path, "cpu", 1, {"a": known})
    store.keep(tmp_path, "cpu", 2, {"a": Known("rows", 0.8, 0.7, 0.9, 1.0)})
    store.keep(tmp_path, "cpu", 1, {"b": known})
    assert store.kept(tmp_path, "cpu", 1) == {"a": known, "b": known}
    assert store.kept(tmp_path, "cpu", 2)["a"].value == "rows"
    assert store.kept(tmp_path, "cpu", 3) == {}
    for damage in ("", "[]", '{"x": {"a": {"value": 1}}}', '{"x": {"a": 3}}', "\x00"):
        (tmp_path / store.FILE).write_text(damage)
        assert store.kept(tmp_path, "cpu", 1) == {}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"fingerprint": "y"}, "another architecture"),
        ({"training": False}, "for inference"),
        ({"chunk": {"block.0.a": 32, "nowhere": 16}}, "with a chunk"),
        ({"chunk": {"block.0.a": 4}}, "is not within 8 and 1024"),
        ({"convolution": {"block.0.a": "rows"}}, "with a convolution"),
    ],
)
def test_tunings_that_do_not_fit_are_refused(change: dict[str, object], said: str) -> None:
    model = build(loads(DESIGN), seed=0)
    right = {
        "fingerprint": model.architecture.fingerprint,
        "training": True,
        "chunk": {"block.0.a": 32},
        "convolution": {"block.1.m": "rows"},
    }
    with pytest.raises(RunError, match=said):
        tune(model, Tuning.read({**right, **change}))
    assert set(chunks_of(model)) == {64} and set(forms_of(model)) == {"image"}
    tune(model, Tuning.read(right))
    assert sorted(chunks_of(model)) == [32, 64, 64, 64]
    assert sorted(forms_of(model)) == ["image", "rows"]


@pytest.mark.parametrize(
    "content",
    [
        {"chunk": {"a": 0}},
        {"chunk": {"a": 16.5}},
        {"convolution": {"a": "round"}},
        {"more": 1},
        {"version": 2},
    ],
)
def test_damaged_tunings_are_told(content: dict[str, object]) -> None:
    with pytest.raises(RunError, match="tuning"):
        Tuning.read({"fingerprint": "x", **content})


def test_only_models_of_architectures_are_tuned() -> None:
    with pytest.raises(RunError, match="not built from an architecture"):
        choose_tuning(TrainingStep(torch.nn.Linear(2, 2), (torch.ones(1, 2),), loss=None))


def test_nothing_to_tune_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, {}, {})
    text = "name: x\nwidth: 8\nnodes:\n  - {use: token_embedding, vocab: 32}\n  - {use: mlp}\n"
    model = build(loads(text), seed=0).eval()
    found = choose_tuning(TrainingStep(model, (tokens(),), loss=None), rounds=7)
    assert not found.applied and found.why == "there is nothing to tune" and not found.judged
