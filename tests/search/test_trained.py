"""A real space: what a file marks, prices as ``predict`` gives them, misfits mended, trials trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hybridlab.architecture.document import dump, loads
from hybridlab.errors import SpecError
from hybridlab.search.front import front_of
from hybridlab.search.opening import landscape_of
from hybridlab.search.samplers import make_sampler
from hybridlab.search.spec import search_of
from hybridlab.search.study import open_study, search
from hybridlab.search.trained import TrainedLandscape
from hybridlab.tasks.registry import fit, task
from hybridlab.trace.predict import predict

DESIGN = """
name: small
width: 8
nodes:
  - id: stage
    nodes:
      - {id: mix, use: attention, heads: 2}
      - {use: mlp}
"""
SEARCH = """
name: tiny
architecture: ARCHITECTURE
task: parity
training: {task_params: {length: 8, longer: 12}, steps: 4, batch: 4, warmup_steps: 1}
search:
  width: [8, 12]
  stage: {repeat: [1, 2]}
  stage.mix: {use: [attention, min_gru], heads: [2, 3, 4]}
objectives: [val_accuracy, peak_bytes]
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "small.yaml").write_text(DESIGN)
    return SEARCH.replace("ARCHITECTURE", str(tmp_path / "small.yaml"))


def test_designs_are_mended_and_priced_as_predicted(text: str) -> None:
    landscape = landscape_of(search_of(text.replace("repeat: [1, 2]", "repeat: [1]")))
    assert isinstance(landscape, TrainedLandscape)
    space = landscape.space
    assert [choice.name for choice in space.choices] == [
        "width",
        "stage.repeat",
        "stage.mix.use",
        "stage.mix.heads",
    ]
    rows = landscape.repaired(space.everything())
    assert (rows >= 0).all()
    made = [space.design(row) for row in rows]
    # Three heads do not divide width 8, four leave an odd size of width 12, and min_gru has none.
    pairs = {(design["width"], design["stage.mix.heads"]) for design in made}
    assert pairs == {(8, 2), (8, 4), (12, 2), (12, 3)}
    assert len(np.unique(rows, axis=0)) == 6
    assert (landscape.repaired(rows) == rows).all()
    parity = task("parity", length=8, longer=12)
    for row in rows[::7]:
        architecture = landscape.architecture(space.design(row))
        assert loads(dump(architecture)) == architecture
        told = predict(
            fit(architecture, parity), parity.input_type(), batch=4, length=parity.length
        )
        quality, peak_bytes = landscape.prices(row[None])[0]
        assert np.isnan(quality) and peak_bytes == told.peak_bytes


def test_a_search_trains_and_ends_in_architectures_that_fit(text: str) -> None:
    landscape = landscape_of(search_of(text))
    study = open_study(landscape, make_sampler("cost_aware", landscape))
    search(study, landscape, 6)
    front = front_of(study, landscape)
    assert front.failed == 0 and front.points and front.hypervolume_share is None
    assert len({str(trial.params) for trial in study.trials}) == 6
    for point in front.points:
        assert 0 <= point.values[0] <= 1
        fit(point.architecture, task("parity", length=8, longer=12))


def test_designs_beyond_a_limit_are_not_trained(text: str) -> None:
    landscape = landscape_of(search_of(text + "limits: {peak_bytes: 48 KiB}\n"))
    large = {"width": 12, "stage.repeat": 2, "stage.mix.use": "attention", "stage.mix.heads": 2}
    row = landscape.space.codes([large])[0]
    assert "beyond the limit of 49,152" in landscape.measure(row, 0).reason


def test_limits_that_nothing_keeps_name_the_nearest_design(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        landscape_of(search_of(text + "limits: {peak_bytes: 1 KiB, val_accuracy: 0.1}\n"))
    problem = caught.value.problems[0]
    assert problem.path == "limits.peak_bytes" and problem.expected == "1024"
    with pytest.raises(SpecError, match="beyond what an accuracy can be"):
        landscape_of(search_of(text + "limits: {val_accuracy: 95}\n"))
    landscape = landscape_of(search_of(text))
    rows = landscape.repaired(landscape.space.everything())
    least = landscape.prices(rows)[:, 1].min()
    assert problem.got.startswith(f"{least:g} at the nearest, width 8, stage.repeat 1")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("stage.mix:", "stage.mic:", "did you mean 'stage.mix'"),
        ("heads: [2, 3, 4]", "heds: [2]", "did you mean 'heads'"),
        ("min_gru]", "min_gruu]", "min_gru"),
        ("min_gru]", "swiglu]", "is not a token_mixer"),
        ("heads: [2, 3, 4]", "heads: 2", "no values to choose from"),
        ("width: [8, 12]", "width: [8, -1]", "list of widths"),
        ("[val_accuracy, peak_bytes]", "[val_accuracy, speed]", "is not an objective"),
        ("[val_accuracy, peak_bytes]", "[val_accuracy]", "nothing to trade"),
        ("[val_accuracy, peak_bytes]", "[step_ms, val_accuracy, train_s]", "said another way"),
        ("[val_accuracy, peak_bytes]", "[val_accuracy, val_accuracy]", "stands there twice"),
        ("task: parity\n", "", "name of a task"),
        ("{repeat: [1, 2]}", "{order: [mlp mix, mlp]}", "another order"),
        ("width: [8, 12]", "plan: 50%", "has no values to choose from"),
        ("width: [8, 12]", "plan: [none, half]", "not an amount of memory"),
        ("width: [8, 12]", "plan: [none, 0%]", "not an amount of memory"),
        ("width: [8, 12]", "plan: [50%, 50 %]", "stands there twice"),
        ("width: [8, 12]", "plann: [50%]", "did you mean 'plan'"),
    ],
)
def test_what_is_wrong_is_told(text: str, old: str, new: str, words: str) -> None:
    assert old in text
    with pytest.raises(SpecError) as caught:
        landscape_of(search_of(text.replace(old, new)))
    assert words in str(caught.value)


def test_true_takes_what_is_worth_searching(text: str) -> None:
    landscape = landscape_of(search_of(text.replace("heads: [2, 3, 4]", "heads: true")))
    assert len(landscape.space.choices[-1].values) > 1


def test_only_one_design_is_no_space(text: str) -> None:
    alone = text[: text.index("search:")] + "search: {width: [8], stage.mix: {heads: [2]}}\n"
    with pytest.raises(SpecError, match="nothing varies"):
        landscape_of(search_of(alone))
    with pytest.raises(SpecError, match="nothing that may vary"):
        search_of(alone[: alone.index("search:")] + "search: {}\n")


def test_the_nodes_of_a_group_come_in_any_order(text: str) -> None:
    landscape = landscape_of(search_of(text.replace("{repeat: [1, 2]}", "{order: true}")))
    assert landscape.space.choices[1].values == ("mix mlp", "mlp mix")
    assert landscape.hand_designs()[0]["stage.order"] == "mix mlp"
    turned = {**landscape.hand_designs()[0], "stage.order": "mlp mix"}
    made = landscape.architecture(turned)
    assert [node.id for node in made.nodes[0].nodes] == ["mlp", "mix"]
    assert loads(dump(made)) == made
    assert not np.isnan(landscape.prices(landscape.space.codes([turned]))[0, 1])
