"""The workflow that compiles regions: what is left out and goes on, how it stops, and training with what is kept.

Here graphs run as they are: what a compiler of C++ makes of them is measured by ``benchmarks/fusion.py --regions``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func  # type: ignore[import-untyped]
from safetensors.torch import load_file

from hybridlab.architecture.document import loads
from hybridlab.errors import Problem, RunError, SpecError
from hybridlab.planning import turns
from hybridlab.planning.regions import apply
from hybridlab.planning.regions.counts import Counting
from hybridlab.planning.regions.measure import choose_regions
from hybridlab.planning.regions.record import Regions
from hybridlab.planning.regions.report import RegionsReport
from hybridlab.runs.context import Stopped
from hybridlab.training.spec import make
from hybridlab.workflows import regions, regions_point, regions_run, train
from hybridlab.workflows.launch import prepared
from hybridlab.workflows.one_step import one_step
from hybridlab.workflows.own_process import NoAnswerError
from tests.workflows.test_fusion_run import TRAINING, Context
from tests.workflows.test_train import Context as Trained

DESIGN = "name: small\nwidth: 16\nnodes:\n  - {use: mlp, residual: pre}\n"
Said = Callable[[Mapping[str, Any]], object]


def nothing_compiled(graph: Any, inputs: Any, **settings: Any) -> Any:
    return make_boxed_func(graph.forward)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(turns, "MOST_SECONDS", 0.0)  # as few rounds as there may be
    monkeypatch.setattr(regions, "_LOOK_S", 0.0)
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def found() -> RegionsReport:
    """A report of the design's training step, in this process, everything kept."""
    step = one_step(loads(DESIGN), TRAINING, training=True, verb="compile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns, "run_ms", _clock)
        made = choose_regions(step, rounds=7, most=1, counting=Counting(nothing_compiled))
    torch._dynamo.reset()
    assert made.regions.paths == ("root.mlp",)
    return made


def _clock(step: Any) -> float:
    compiled = any("forward" in one.__dict__ for one in step.model.modules())
    return 0.5 if compiled else 1.0


def process(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> list[Any]:
    """Let processes answer so one after the other, each after saying that it is at a region; return the questions."""
    asked, left = [], iter(answers)

    def ask(
        module: str, question: Any, on_look: Any, *, limit_s: float, on_said: Said
    ) -> dict[str, Any]:
        asked.append((module, question, limit_s))
        on_look()
        on_said({"done": 0, "parts": 4, "doing": "root.mlp"})
        on_look()
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    monkeypatch.setattr(regions, "ask", ask)
    return asked


def test_what_was_found_goes_into_the_runs_folder(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: RegionsReport,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = process(monkeypatch, found.as_dict())
    context = Context(tmp_path, architecture=DESIGN, **{"for": "training"})
    result = regions_run.run(context)  # type: ignore[arg-type]
    ((module, question, _),) = asked
    assert module == "hybridlab.workflows.regions_point" and question["for"] == "training"
    assert question["left_out"] == {} and question["training"] == TRAINING
    content = json.loads((tmp_path / regions_run.FILE).read_text())
    assert content.pop("beside") == 0 and RegionsReport.read(content) == found
    assert result["applied"] and result["ratio"] == pytest.approx(0.5)
    assert (0, 4) in context.told
    assert "compiles and times root.mlp (1 of 4)" in capsys.readouterr().out


def test_a_region_that_does_not_come_to_an_end_is_left_out_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, found: RegionsReport
) -> None:
    late = NoAnswerError(Problem("compile", "did not end within 10 minutes and was stopped"))
    asked = process(monkeypatch, late, found.as_dict())
    assert regions.regions_training(loads(DESIGN), TRAINING, training=True) == found
    why = "cannot be compiled: did not end within 10 minutes and was stopped"
    assert [question["left_out"] for _, question, _ in asked] == [{}, {"root.mlp": why}]
    process(monkeypatch, late, late)
    with pytest.raises(NoAnswerError, match="was stopped"):  # nothing that could be left out
        regions.regions_training(loads(DESIGN), TRAINING, training=True)


def test_it_stops_when_asked_and_what_is_wrong_is_told_before_a_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process(monkeypatch)
    with pytest.raises(Stopped):
        regions_run.run(Context(tmp_path, stop_after=1, architecture=DESIGN))  # type: ignore[arg-type]
    assert not (tmp_path / regions_run.FILE).exists()
    several = {**TRAINING, "stages": [{"name": "a", "until": 3}, {"name": "b"}]}
    with pytest.raises(SpecError, match="is not compiled: the model changes from stage to stage"):
        regions.regions_training(loads(DESIGN), several)


def test_the_process_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, found: RegionsReport
) -> None:
    def choose(step: Any, **given: Any) -> RegionsReport:
        given["on_part"](1, 5, "root.mlp")
        assert given["left_out"] == {"a": "b"} and (given["rounds"], given["most"]) == (7, 3)
        assert (step.loss is None) is (question["for"] == "inference")
        return found

    said: list[Any] = []
    monkeypatch.setattr(regions_point, "choose_regions", choose)
    question: dict[str, Any] = {"architecture": DESIGN, "training": TRAINING, "for": "inference"}
    question |= {"rounds": 7, "most": 3, "left_out": {"a": "b"}}
    assert RegionsReport.read(regions_point.measure(question, said.append)) == found
    assert said == [{"done": 1, "parts": 5, "doing": "root.mlp"}]

    def ran_out(step: Any, **given: Any) -> RegionsReport:
        raise MemoryError

    monkeypatch.setattr(regions_point, "choose_regions", ran_out)
    with pytest.raises(RunError, match=r"batch: ran out of memory .*smaller batch"):
        regions_point.measure(question, said.append)


def test_a_training_with_regions_learns_the_same_but_for_rounding(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    found: RegionsReport,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[int] = []

    def counted(graph: Any, inputs: Any, **settings: Any) -> Any:
        def forward(*given: Any) -> Any:
            calls.append(1)
            return graph.forward(*given)

        return make_boxed_func(forward)

    counting, plain_made = Counting(counted), apply.made

    def made(model: Any, record: Regions, *, say: Any) -> Any:
        return plain_made(model, record, backend=counting, say=say)

    monkeypatch.setattr(apply, "made", made)
    monkeypatch.setattr(apply, "missing_compiler", lambda device: "")
    settings = {**TRAINING, "steps": 6, "eval_every": 3, "checkpoint_every": 3}
    weights = []
    for name, more in (("plain", {}), ("compiled", {"regions": found.regions.as_dict()})):
        context = Trained(tmp_path / name, {"architecture": DESIGN, "training": settings | more})
        train.run(context)  # type: ignore[arg-type]
        (file,) = (tmp_path / name).glob("weights*.safetensors")
        weights.append(load_file(file))
    assert counting.graphs == 1 and len(calls) >= 2 * 4  # steps that are watched run as they are
    assert "compiling region 1 of 1, root.mlp …" in capsys.readouterr().out
    plain, compiled = weights
    assert list(plain) == list(compiled)
    for key, one in plain.items():
        assert torch.allclose(one, compiled[key], rtol=1e-3, atol=1e-5), key


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"training": False}, "measured for inference"),
        ({"device": "cuda"}, "another kind of device"),
        ({"fingerprint": "another"}, "another architecture"),
        ({"paths": ["root.nowhere"]}, "no part of this model"),
        ({"batch": 5}, "another batch"),
        ({"more": 1}, r"regions\.more"),
    ],
)
def test_regions_that_do_not_fit_are_refused_before_a_run(
    found: RegionsReport, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(RunError, match=said):
        prepared(DESIGN, {**TRAINING, "regions": found.regions.as_dict() | change})


def test_regions_stand_alone(found: RegionsReport) -> None:
    kept = found.regions.as_dict()
    assert prepared(DESIGN, {**TRAINING, "regions": kept})["training"]["regions"] == kept
    for other in (
        {"stages": [{"name": "a", "until": 3}, {"name": "b"}]},
        {"plan": {"a": 1}},
        {"accumulation": 2},
    ):
        with pytest.raises(SpecError, match="take out regions, or"):
            make({**TRAINING, "regions": kept, **other})
    with pytest.raises(SpecError, match="cache_frozen"):
        make({**TRAINING, "regions": kept, "cache_frozen": 3})
