"""Several tasks before they are learnt: whose turn it is, which heads they have, and what cannot be learnt together."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from hybridlab.errors import HybridLabError, SpecError, TaskError
from hybridlab.tasks.several import SeveralBatch, SeveralTasks
from hybridlab.training.defaults import prepare
from hybridlab.training.task_cosines import interval
from tests.training.several_made import IMAGE, goal_of, settings, several


def test_measurements_cost_a_twentieth_at_most() -> None:
    _, _, spec = several(steps=10_000)
    assert spec.tasks is not None
    assert interval(spec.tasks, spec, 3) == 250
    short = spec.model_copy(update={"steps": 100})
    assert (1 + 2 * 3) / 3 / interval(spec.tasks, short, 3) <= 0.05
    given = spec.tasks.model_copy(update={"balancing": "pcgrad"})
    assert interval(given, short, 3) == 10, "it has the gradients anyhow"
    assert interval(given, short.model_copy(update={"log_every": 4}), 3) == 12


def test_whose_turn_it_is_follows_the_sizes() -> None:
    def turns(**tasks: Any) -> Counter[int]:
        of = [
            {"task": "digits_image", "size": 900},
            {"task": "digits_parity", "task_params": IMAGE, "size": 100},
        ]
        what, _ = prepare(settings(tasks={"of": of, **tasks}))
        assert isinstance(what, SeveralTasks)
        assert [what.turn(step, 1) for step in range(5)] == [what.turn(s, 1) for s in range(5)]
        return Counter(what.turn(step, 1)[0] for step in range(4000))

    assert turns(sampling="proportional")[0] / 4000 == pytest.approx(0.9, abs=0.02)
    assert turns(sampling="temperature", temperature=2.0)[0] / 4000 == pytest.approx(0.75, abs=0.03)
    assert turns(sampling="round_robin") == {0: 2000, 1: 2000}


def test_joint_tasks_have_their_inputs_in_common_through_split_and_device() -> None:
    _, what, _ = several()
    batch = what.train_batch(0, 8, 0)
    for one in (batch, batch.to(torch.device("cpu")), *batch.split(3)):
        assert isinstance(one, SeveralBatch)
        assert len({id(each.inputs) for _, each in one.of}) == 1
    assert int(batch.mask.sum()) == 24
    joined = torch.cat([piece.of[2][1].targets for piece in batch.split(3)])  # type: ignore[attr-defined]
    assert torch.equal(joined, batch.of[2][1].targets)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": {"of": [{"task": "digits_image"}]}}, "at least 2"),
        (
            {"tasks": {"of": [{"task": "digits_image"}, {"task": "digits_image"}]}},
            "two tasks are called",
        ),
        ({"tasks": {"of": [{"task": "mqar"}, {"task": "parity"}]}}, "both must be the same"),
        ({"tasks": {"sampling": "round_robin", "balancing": "pcgrad"}}, "joint or each"),
        (
            {"tasks": {"of": [{"task": "digits_image"}, {"task": "digits_parity"}]}},
            "reads other inputs",
        ),
        (
            {
                "tasks": {
                    "of": [
                        {"task": "digits_image"},
                        {"task": "digits_parity", "task_params": {**IMAGE, "augment": True}},
                    ]
                }
            },
            "other samples",
        ),
        (
            {"tasks": {"of": [{"task": "digits_image"}, {"task": "no_such"}]}},
            "tasks.of[1]",
        ),
        ({"tasks": {"sampling": "each"}, "batch": 2}, "one sample of each"),
    ],
)
def test_what_cannot_be_learnt_together_is_a_sentence(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(HybridLabError) as caught:
        prepare(settings(**changes))
    assert words in str(caught.value)


def test_different_measures_have_no_mean_and_no_common_target() -> None:
    params = {"length": 16}
    given = {
        "task": "python_bytes",
        "task_params": params,
        "tasks": {
            "of": [
                {"task": "python_bytes", "task_params": params},
                {"task": "python_indentation", "task_params": params},
            ]
        },
    }
    what, _ = prepare(given)
    assert what.metric == "test_bits_per_byte" and not what.higher_is_better
    with pytest.raises(TaskError, match="different measures"):
        prepare({**given, "target": 1.0})
    with pytest.raises(TaskError, match="means nothing"):
        prepare({**given, "tasks": {**given["tasks"], "main": "mean"}})


def test_sizes_are_needed_where_shares_are_drawn() -> None:
    given = {
        "task": "parity",
        "tasks": {"of": [{"task": "parity"}, {"task": "parity", "name": "b"}]},
    }
    prepare(given)
    with pytest.raises(TaskError, match="give it a size"):
        prepare({**given, "tasks": {**given["tasks"], "sampling": "proportional"}})


def test_the_heads_of_an_architecture_are_taken_where_tasks_name_them() -> None:
    of = [
        {"task": "digits_image", "head": "ten"},
        {"task": "digits_parity", "task_params": IMAGE, "head": "odd"},
    ]
    nodes = [
        "id: a, use: attention, heads: 2, causal: false",
        "id: ten, use: classifier, classes: 10",
        "id: odd, use: classifier, classes: 2, inputs: [a]",
    ]
    model, what, spec = several(*nodes, tasks={"of": of})
    assert [node.id for node in model.architecture.nodes] == ["patch_embedding", "a", "odd", "ten"]
    assert goal_of(model, what, spec).heads == ("ten", "odd")
    for wrong, words in (
        ([{**of[0], "head": "a"}, of[1]], "is no head here"),
        ([{**of[0], "head": "odd"}, of[1]], "another task"),
        ([{"task": "digits_image", "head": "odd"}, {**of[1], "head": "ten"}], "does not answer"),
    ):
        with pytest.raises((SpecError, TaskError), match=words):
            several(*nodes, tasks={"of": wrong})
    with pytest.raises(TaskError, match="no task says that it learns"):
        several(*nodes, tasks={"of": [{k: v for k, v in one.items() if k != "head"} for one in of]})


def test_one_head_of_its_own_goes_to_the_first_task_and_others_are_supplied() -> None:
    nodes = ["id: a, use: attention, heads: 2, causal: false", "use: classifier, classes: 10"]
    model, what, spec = several(*nodes)
    assert goal_of(model, what, spec).heads == (
        "classifier",
        "head_digits_parity",
        "head_digits_strokes",
    )
