"""What a run's metrics say of its gradients: findings on made metrics, and a broken network that a remedy mends."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import build
from hybridlab.architecture.spec import Architecture
from hybridlab.components.registry import palette
from hybridlab.tasks.base import Task
from hybridlab.tasks.registry import fit
from hybridlab.training.flow import Curve, Flow, branches, flow
from hybridlab.training.flow_finding import FlowFinding
from hybridlab.training.flow_findings import APART, UNEVEN, findings
from hybridlab.training.loop import train
from hybridlab.training.remedies import applied
from hybridlab.training.spec import make

BROKEN = (Path(__file__).parent / "broken_deep_hybrid.yaml").read_text(encoding="utf-8")
STEPS = [1, 10, 20, 30, 40]
ROW = """\
name: row
width: 8
nodes:
  - id: stage
    repeat: 2
    nodes:
      - {id: ssm, use: mamba2, heads: 2}
      - {id: mlp, use: mlp, activation: relu}
      - {id: moe, use: moe, experts: 4}
"""
FORK = """\
name: fork
width: 8
nodes:
  - {id: first, use: mlp}
  - {id: attn, use: attention, heads: 2, inputs: [first]}
  - {id: deep, use: gru, inputs: [first]}
  - {id: after, use: mlp}
  - {id: join, use: sum, inputs: [attn, after]}
  - {use: mlp}
"""


def kinds(use: str) -> str | None:
    info = palette().get(use)
    return str(info.kind) if info is not None else None


def made(
    text: str, values: Mapping[str, float | Sequence[float]], usual: float = 0.1
) -> tuple[Flow, Architecture]:
    """Return a flow in which every component's gradient is usual, but for what is given by metric."""
    architecture = loads(text)
    curves: dict[str, Curve] = {}
    for part in flow(architecture, kinds, {}).parts or _every(architecture):
        curves[f"grad_norm/{part}"] = (STEPS, [usual] * len(STEPS))
    for name, value in values.items():
        shown = list(value) if isinstance(value, Sequence) else [value] * len(STEPS)
        curves[name] = (STEPS[-len(shown) :], shown)
    return flow(architecture, kinds, curves), architecture


def _every(architecture: Architecture) -> list[str]:
    from hybridlab.training.flow import parts_of

    return [part.path for part in parts_of(architecture, kinds)]


def only(found: Sequence[FlowFinding], kind: str) -> FlowFinding:
    """Return the finding of a kind, which is the only one but for the network's unevenness."""
    assert {one.kind for one in found} <= {kind, "uneven"}
    (one,) = (one for one in found if one.kind == kind)
    return one


def test_a_healthy_network_has_no_findings() -> None:
    given, architecture = made(ROW, {"grad_norm/stage.0.ssm": 0.1 * APART / 2})
    assert [part.path for part in given.parts][:3] == ["stage.0.ssm", "stage.0.mlp", "stage.0.moe"]
    assert findings(given, architecture) == ()
    assert given.ratios() == {step: pytest.approx(APART / 2) for step in STEPS}


def test_a_component_that_vanishes_is_named_with_its_neighbours_and_how_long() -> None:
    given, architecture = made(
        ROW, {"grad_norm/stage.1.ssm": [0.1, 0.1 / 400, 0.1 / 400, 0.1 / 400]}
    )
    one = only(findings(given, architecture), "vanishing")
    assert one.sentence == (
        "stage.1.ssm: gradient 400 times smaller than its neighbours' for 20 steps (measured)"
    )
    assert one.evidence["times"] == pytest.approx(400)
    assert (one.evidence["from_step"], one.evidence["to_step"], one.evidence["samples"]) == (
        20,
        40,
        3,
    )
    assert [remedy.name for remedy in one.remedies] == ["rate", "freeze"]


@pytest.mark.parametrize("values", [[0.1, 0.1, 1e-5], [1e-5, 1e-5, 1e-5, 1e-5, 0.1]])
def test_what_is_too_short_or_over_is_not_told(values: list[float]) -> None:
    assert findings(*made(ROW, {"grad_norm/stage.1.ssm": values})) == ()


def test_an_explosion_is_clipped_at_its_neighbours_level_in_all_repeats() -> None:
    loud = {f"grad_norm/stage.{n}.mlp": 0.1 * 250 for n in (0, 1)}
    one = only(findings(*made(ROW, loud)), "exploding")
    assert one.components == ("stage.0.mlp", "stage.1.mlp")
    remedies = {remedy.name: remedy for remedy in one.remedies}
    text, settings = applied(remedies["clip"], ROW, {"steps": 5, "groups": [{"name": "old"}]})
    assert text == ROW
    row, old = settings["groups"]
    assert (row["match"], old) == ("stage.mlp", {"name": "old"})
    assert 0.05 < row["clip_norm"] < 2.0, (
        "the neighbours' level, between that of quiet and loud ones"
    )
    _, settings = applied(remedies["scale"], ROW, {})
    assert settings == {"residual_scale": 0.1, "residual_parts": "stage.mlp"}
    assert make({"task": "parity", **settings}).residual_scale == 0.1


def test_a_rate_is_changed_where_its_row_is_there_already() -> None:
    one = only(
        findings(*made(ROW, {f"grad_norm/stage.{n}.ssm": 1e-5 for n in (0, 1)})), "vanishing"
    )
    rate = next(remedy for remedy in one.remedies if remedy.name == "rate")
    _, settings = applied(rate, ROW, {"groups": [{"name": "s", "match": "stage.ssm", "rate": 0.5}]})
    assert settings["groups"] == [{"name": "s", "match": "stage.ssm", "rate": 5.0}]
    _, settings = applied(rate, ROW, {"groups": [{"name": "rate stage ssm", "match": "x"}]})
    assert [group["name"] for group in settings["groups"]] == ["rate stage ssm 2", "rate stage ssm"]


def test_a_starving_branch_is_found_at_its_join_and_balanced() -> None:
    assert branches(loads(FORK), "join") == {"attn": {"attn"}, "after": {"deep", "after"}}
    starved = {"grad_norm/after": 1e-4, "grad_norm/deep": 1e-4}
    found = findings(*made(FORK, starved))
    one = next(one for one in found if one.kind == "starving")
    assert one.sentence.startswith("The branch of after starves at join: its gradient is 710 times")
    assert one.components == ("deep", "after")
    text, _ = applied(one.remedies[0], FORK, {})
    assert loads(text).nodes[4].use == "gated_sum"
    assert loads(text).nodes[4].inputs == ("attn", "after")


@pytest.mark.parametrize(
    ("name", "value", "kind", "words", "change"),
    [
        (
            "dead_share/stage.0.mlp",
            0.75,
            "dead",
            "75 % of its units are dead",
            ("activation", "gelu"),
        ),
        ("saturated_share/stage.0.ssm", 0.6, "saturated", "60 % of its gate values", None),
        ("update_ratio/stage.0.ssm", 0.2, "restless", "moves it by 0.2 of", None),
        ("update_ratio/stage.0.ssm", 1e-8, "still", "only 1e-08 of", None),
        ("grad_norm/stage.0.ssm", 0.0, "cut off", "No gradient at all reaches stage.0.ssm", None),
    ],
)
def test_other_findings_have_their_numbers_and_remedies(
    name: str, value: float, kind: str, words: str, change: tuple[str, str] | None
) -> None:
    one = only(findings(*made(ROW, {name: value})), kind)
    assert words in one.sentence and "in all 40 steps" in one.sentence
    assert one.remedies or kind == "cut off"
    if change is not None:
        text, _ = applied(one.remedies[0], ROW, {})
        assert loads(text).nodes[0].nodes[1].params[change[0]] == change[1]


def test_a_collapsed_router_gets_a_stronger_balance() -> None:
    loads_of = {
        f"expert_load/stage.1.moe/{e}": share for e, share in enumerate((0.5, 0.49, 0.01, 0))
    }
    one = only(findings(*made(ROW, {**loads_of, "grad_norm/stage.moe": 0.1})), "collapsed")
    assert "2 of 4 experts" in one.sentence and one.evidence["largest_share"] == 0.5
    text, _ = applied(one.remedies[0], ROW, {})
    assert loads(text).nodes[0].nodes[2].params["balance_weight"] == pytest.approx(0.1)


def test_crowded_experts_are_told_with_two_ways_to_even_them_out() -> None:
    def loads_of(*shares: float) -> dict[str, float]:
        return {f"expert_load/stage.1.moe/{expert}": share for expert, share in enumerate(shares)}

    usual = {"grad_norm/stage.moe": 0.1}
    assert findings(*made(ROW, {**loads_of(0.32, 0.25, 0.22, 0.21), **usual})) == ()
    one = only(findings(*made(ROW, {**loads_of(0.2, 0.35, 0.25, 0.2), **usual})), "crowded")
    assert one.severity == "hint" and one.components == ("stage.1.moe",)
    assert "the busiest of 4 experts gets 1.40 times the mean load" in one.sentence
    assert (one.evidence["busiest"], one.evidence["max_over_mean"]) == (1, pytest.approx(1.4))
    stronger, bias = one.remedies
    text, _ = applied(stronger, ROW, {})
    assert loads(text).nodes[0].nodes[2].params["balance_weight"] == pytest.approx(0.1)
    text, _ = applied(bias, ROW, {})
    assert loads(text).nodes[0].nodes[2].params["routing"] == "sigmoid"
    biased = ROW.replace("experts: 4", "experts: 4, routing: sigmoid")
    one = only(findings(*made(biased, {**loads_of(0.2, 0.35, 0.25, 0.2), **usual})), "crowded")
    assert one.remedies == (), "it has no loss that could be stronger"


def trained(text: str, settings: Mapping[str, Any], task: Task, folder: Path) -> dict[str, Any]:
    spec = make(settings)
    seen: dict[str, tuple[list[int], list[float]]] = {}

    def note(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            curve = seen.setdefault(name, ([], []))
            curve[0].append(step)
            curve[1].append(value)

    whole = fit(loads(text), task)
    train(build(whole, task.input_type(), seed=0), task, spec, folder=folder, on_metrics=note)
    return {"flow": flow(whole, kinds, seen), "loss": statistics.fmean(seen["loss"][1][-8:])}


def test_a_broken_deep_hybrid_is_mended_by_what_is_suggested(
    parity: Task, settings: Callable[..., Any], tmp_path: Path
) -> None:
    asked = settings(
        steps=50, batch=32, learning_rate=5e-3, eval_every=50, checkpoint_every=50
    ).model_dump(mode="json")
    before = trained(BROKEN, asked, parity, tmp_path / "before")
    assert min(before["flow"].ratios().values()) > 1000
    one = findings(before["flow"], loads(BROKEN))[0]
    assert one.kind == "vanishing" and one.severity == "warning"
    assert one.evidence["ratio"] > UNEVEN
    assert set(one.components) <= {
        f"stage.{n}.{part}" for n in range(4) for part in ("memory", "mlp")
    }

    text, changed = applied(one.remedies[0], BROKEN, asked)
    after = trained(text, changed, parity, tmp_path / "after")
    assert max(after["flow"].ratios().values()) < 30
    assert findings(after["flow"], loads(text)) == ()
    assert before["loss"] > 0.67, "near chance, ln 2"
    assert after["loss"] < 0.6, "it learns"
