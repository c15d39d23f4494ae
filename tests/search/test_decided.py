"""Precision and fusion as choices: peaks as real steps have them, trained so, refused where nothing is predicted."""

from __future__ import annotations

import warnings

import pytest

from hybridlab.architecture.model import build
from hybridlab.errors import Problem, SpecError
from hybridlab.planning.fusion.find import find, together
from hybridlab.planning.fusion.record import Fusion
from hybridlab.planning.measure import measured_peak
from hybridlab.planning.record import Plan
from hybridlab.search import decided
from hybridlab.search.opening import landscape_of
from hybridlab.search.space import Design
from hybridlab.search.spec import search_of
from hybridlab.search.trained import TrainedLandscape
from hybridlab.tasks.registry import fit
from hybridlab.trace.step import TrainingStep
from hybridlab.training.spec import TrainSpec, make
from hybridlab.workflows.as_trained import as_trained
from hybridlab.workflows.profile import training_step

DESIGN = """
name: forked
width: 16
nodes:
  - {id: near, use: attention, heads: 2, residual: none, inputs: [input]}
  - {id: far, use: min_gru, residual: none, inputs: [input]}
  - {id: join, use: sum, inputs: [near, far]}
  - {id: mix, use: swiglu}
"""
SEARCH = """
name: tiny
architecture: ARCHITECTURE
task: parity
training: {task_params: {length: 16, longer: 16}, steps: 3, batch: 32, warmup_steps: 1, device: cpu}
search:
  precision: [float32, bfloat16]
  fusion: [none, all]
  mix: {ratio: [2, 4]}
objectives: [val_accuracy, peak_bytes, peak_inference_bytes]
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("decided") / "forked.yaml"
    file.write_text(DESIGN)
    return SEARCH.replace("ARCHITECTURE", str(file))


@pytest.fixture(scope="module")
def landscape(text: str) -> TrainedLandscape:
    """A space of decisions; what it has priced is kept from test to test."""
    return opened(text)


WAYS = (("float32", "none"), ("float32", "all"), ("bfloat16", "all"))


def designs_of(ways: tuple[tuple[str, str], ...], ratio: int) -> list[Design]:
    return [{"precision": p, "fusion": f, "mix.ratio": ratio} for p, f in ways]


def opened(text: str) -> TrainedLandscape:
    landscape = landscape_of(search_of(text))
    assert isinstance(landscape, TrainedLandscape)
    return landscape


def test_peaks_are_those_of_real_steps(landscape: TrainedLandscape) -> None:
    space, task = landscape.space, landscape.task
    designs = designs_of(WAYS, ratio=2)
    rows = space.codes(designs)
    values = landscape.prices(rows)
    for design, row, (_, peak, forward) in zip(designs, rows, values, strict=True):
        own = landscape.decided(row)
        assert own["precision"] == design["precision"]
        assert ("fusion" in own) is (design["fusion"] == "all")
        spec = make({**landscape.training.model_dump(), **own})
        fitted = fit(landscape.architecture(design), task)
        model = build(fitted, task.input_type(), seed=0)
        as_trained(model, spec)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            step = training_step(model, task, spec)
            assert peak == pytest.approx(measured_peak(step), abs=64), design
            passing = TrainingStep(model.eval(), step.inputs, loss=None, around=step.around)
            assert forward == pytest.approx(measured_peak(passing), abs=64), design
    assert len(set(values[:, 1])) == 3, "each decision is seen in the peak"
    assert values[2, 1] < values[0, 1], "half of the bytes"


def test_a_training_in_16_bits_is_priced_so_where_nothing_is_decided(
    landscape: TrainedLandscape, text: str
) -> None:
    fixed = opened(
        text.replace("device: cpu", "device: cpu, precision: bfloat16")
        .replace("  precision: [float32, bfloat16]\n", "")
        .replace("  fusion: [none, all]\n", "")
    )
    (row,) = fixed.space.codes([{"mix.ratio": 2}])
    beside: Design = {"precision": "bfloat16", "fusion": "none", "mix.ratio": 2}
    (same,) = landscape.space.codes([beside])
    assert not fixed.decided(row)
    assert list(fixed.prices(row[None])[0, 1:]) == list(landscape.prices(same[None])[0, 1:])


def test_what_is_fused_is_what_real_tensors_show(landscape: TrainedLandscape) -> None:
    (row,) = landscape.space.codes(designs_of(WAYS[1:2], ratio=4))
    fitted = fit(landscape.architecture(landscape.space.design(row)), landscape.task)
    model = build(fitted, landscape.task.input_type(), seed=0)
    seen = find(model, (landscape.task.train_batch(0, 2, 0).inputs,), training=True)
    real = together([one.fusion for one in seen.candidates if one.fusion.products])
    assert Fusion.read(landscape.decided(row)["fusion"]) == real
    assert real.products and real.training


def test_designs_are_trained_as_they_decide(landscape: TrainedLandscape) -> None:
    rows = landscape.space.codes(designs_of(WAYS, ratio=2))
    plain, fused, short = (landscape.measure(row, seed=1) for row in rows)
    assert not (plain.reason or fused.reason or short.reason)
    assert fused.values[0] == pytest.approx(plain.values[0], abs=0.05), "but for rounding"
    assert landscape.marked.own_design() == {
        "precision": "float32",
        "fusion": "none",
        "mix.ratio": 2,
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "peak_bytes, peak_inference_bytes]",
            "step_ms]",
            "take in float32, so it cannot be traded where the precision varies",
        ),
        (
            "peak_bytes, peak_inference_bytes]",
            "tokens_per_s]",
            "'tokens_per_s' is predicted of the step without fusion",
        ),
        (
            "peak_bytes, peak_inference_bytes]",
            "state_bytes_per_token]",
            "'state_bytes_per_token' counts numbers of float32",
        ),
        ("steps: 3,", "steps: 3, tuning: {fingerprint: x},", "goes with one architecture"),
        ("bfloat16]", "float16]", "a CPU does not train in float16"),
        ("bfloat16]", "int4]", "is not a number format"),
        ("[none, all]", "[some]", "says not what is fused"),
        ("[none, all]", "all", "a list of some of none, all"),
        (
            "peak_bytes, peak_inference_bytes]",
            "measured_step_ms]\nlimits: {measured_step_ms: 0}",
            "less than anything takes",
        ),
        (
            "steps: 3,",
            "steps: 3, stages: [{name: a, until: 1}, {name: b}],",
            "not predicted in another precision or fused",
        ),
    ],
)
def test_what_cannot_be_decided_is_told(text: str, old: str, new: str, words: str) -> None:
    assert old in text
    with pytest.raises(SpecError) as caught:
        opened(text.replace(old, new))
    assert words in str(caught.value)


def test_a_plan_knows_what_is_fused(text: str) -> None:
    landscape = opened(text.replace("precision: [float32, bfloat16]", "plan: [none, 80%]"))
    task = landscape.task
    (row,) = landscape.space.codes([{"plan": "80%", "fusion": "all", "mix.ratio": 4}])
    design, own = landscape.space.design(row), landscape.decided(row)
    assert Plan.read(own["plan"]).recompute
    (names,) = Fusion.read(own["fusion"]).products
    assert names[0].startswith("root.mix."), "maps of several parts cannot be computed again apart"
    spec = make({**landscape.training.model_dump(), **own})
    model = build(fit(landscape.architecture(design), task), task.input_type(), seed=0)
    as_trained(model, spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measured = measured_peak(training_step(model, task, spec))
    assert landscape.prices(row[None])[0, 1] == pytest.approx(measured, abs=64)


def test_formats_that_the_planner_refuses_do_not_vary_beside_plans(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(spec: TrainSpec) -> None:
        if spec.precision != "float32":
            raise SpecError(Problem("precision", "is not planned", "float32", spec.precision))

    monkeypatch.setattr(decided, "check_planned", check)
    both = text.replace("fusion: [none, all]", "plan: [none, 75%]")
    with pytest.raises(SpecError) as caught:
        opened(both.replace(", peak_inference_bytes", ""))
    (problem,) = caught.value.problems
    assert problem.path == "search.precision" and problem.got == "bfloat16"
    assert problem.message == "is not planned, so it cannot vary beside the plan"
