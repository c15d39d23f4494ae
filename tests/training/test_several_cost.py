"""What a step on several tasks is predicted to take, against what the model and its gradients really hold."""

from __future__ import annotations

from typing import Any

import pytest

from hybridlab.tasks.fit_several import heads_of
from hybridlab.trace.predict import Prediction, predict
from hybridlab.training.several_cost import several_cost
from hybridlab.training.task_gradients import TaskGradients, Trunk
from tests.training.several_made import MOE, several

BATCH = 6


def cost(*nodes: str, **tasks: Any) -> tuple[dict[str, Any], Prediction, int]:
    """Return the predicted cost, that of the whole network alone, and the bytes of all tasks' gradients once held."""
    model, what, spec = several(*nodes, tasks=tasks)
    assert spec.tasks is not None
    found = several_cost(model.architecture, what, spec.tasks, BATCH)
    alone = predict(model.architecture, what.input_type(), batch=BATCH, length=what.length)
    trunk = Trunk(model, model, heads_of(model.architecture, what))
    held = TaskGradients(trunk, len(what.parts))
    batch = what.train_batch(0, BATCH, 0)
    for place, one in batch.of:  # type: ignore[attr-defined]
        outputs: list[Any] = []
        head = dict(model.slots())[heads_of(model.architecture, what)[place]]
        handle = head.register_forward_hook(lambda m, x, y, outputs=outputs: outputs.append(y))
        model(one.inputs)
        handle.remove()
        held.add(place, what.parts[place].task.loss(outputs[0], one), keep=False)
    size = sum(g.nbytes for of_task in held._held for g in of_task if g is not None)
    assert found["params"] == sum(parameter.numel() for parameter in model.parameters())
    return found, alone, size


def test_fixed_weights_take_the_network_with_all_heads_once() -> None:
    found, alone, _ = cost()
    assert [one["path"] for one in found["components"] if one["kind"] == "head"] == [
        "head_digits_parity",
        "head_digits_strokes",
        "head_digits_image",
    ]
    assert (found["step_ms"], found["peak_bytes"]) == (alone.step_ms, alone.peak_bytes)
    assert found["flops_step"] == alone.flops_step
    assert found["problems"] == [], "that nobody in the graph reads a head is no problem"


@pytest.mark.parametrize("nodes", [(), MOE])
def test_balancing_by_gradients_goes_back_once_for_each_task_and_holds_their_gradients(
    nodes: list[str],
) -> None:
    found, alone, held = cost(*nodes, balancing="pcgrad")
    assert found["peak_bytes"] == alone.peak_bytes + held
    trunk = [one for one in alone.components if one.kind != "head"]
    again = sum(one.flops_step - one.flops for one in trunk)
    assert found["flops_step"] == alone.flops_step + 2 * again, "three tasks: twice more"
    ms = sum(one.ms for one in trunk)
    assert alone.step_ms + ms < found["step_ms"] < alone.step_ms + 2 * ms


def test_tasks_with_samples_of_their_own_go_back_through_those_alone() -> None:
    found, alone, held = cost(balancing="cagrad", sampling="each")
    assert (found["step_ms"], found["flops_step"]) == (alone.step_ms, alone.flops_step)
    assert found["peak_bytes"] == alone.peak_bytes + held
