"""Samples that leave early get what computing everything and choosing gives; what comes later runs without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.exits import chosen
from hybridlab.architecture.exporters.pytorch import source_of
from hybridlab.architecture.infer import check, infer
from hybridlab.architecture.model import GraphModel, build
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import SpecError
from tests.architecture.test_exporters import same

SERIES = TensorType(TensorKind.SERIES, ("B", "L", 1))
TEXT = """
name: exits
width: 16
nodes:
  - {use: pixel_series}
  - {id: first, use: short_conv}
  - {id: exit_1, use: early_exit, outputs: 4, threshold: 0.5}
  - id: stage
    repeat: 2
    residual: post
    nodes:
      - {use: swiglu, inputs: [input]}
      - {id: exit_2, use: early_exit, outputs: 4, threshold: 0.6, certainty: entropy}
      - {id: joined, use: sum, inputs: [exit_2, first]}
  - {id: end, use: sum, inputs: [stage, exit_1]}
  - {use: classifier, classes: 4}
"""
EVERYWHERE = TEXT.replace("use: early_exit,", "use: early_exit, over: position,").replace(
    "use: classifier, classes", "use: lm_head, vocab"
)


def model_of(text: str) -> GraphModel:
    """Return a model whose exits are sure of some samples, and some samples."""
    model = build(loads(text), SERIES, seed=0).eval()
    torch.manual_seed(1)
    for _, slot in model.slots():
        if slot.use == "early_exit":
            torch.nn.init.normal_(slot.body.get_parameter("scores.weight"), std=0.6)
    return model


def calibrated(text: str) -> GraphModel:
    """Return a model of which some samples leave at the first exit, some at later ones, and some at none."""
    model = model_of(text)
    model.leaving = False
    model(samples())
    certain = {path: dict(model.slots())[path].body.certainty() for path, _ in model.exits()}
    first = certain["exit_1"].sort().values[11:13].mean()
    stayed = certain["exit_1"] < first
    one, two = (certain[f"stage.{i}.exit_2"][stayed] for i in range(2))
    for limit in torch.cat((one, two)).sort().values.unfold(0, 2, 1).mean(1):
        at_one, after = one >= limit, two[one < limit] >= limit
        if 0 < at_one.sum() + after.sum() < len(one):
            break
    else:
        raise AssertionError("no threshold lets some leave later, and some not at all")
    return model_of(text.replace("0.5", f"{first:.7f}").replace("0.6", f"{limit:.7f}"))


def samples(count: int = 24) -> Tensor:
    return torch.randn(count, 7, 1, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("text", [TEXT, EVERYWHERE])
@torch.no_grad()
def test_leaving_is_the_same_as_computing_all_and_choosing(text: str) -> None:
    model = calibrated(text)
    ran: list[int] = []
    last = dict(model.slots())["end"]
    last.register_forward_hook(lambda module, given, output: ran.append(len(output)))
    x = samples()
    output, left = model(x), model.left()
    assert list(left) == ["exit_1", "stage.0.exit_2", "stage.1.exit_2"]
    assert left["exit_1"] == 12 < sum(left.values()) < 24
    assert ran == [24 - sum(left.values())]
    model.leaving = False
    plain = model(x)
    exits = model.exits()
    for path, _ in exits[:1]:
        body = dict(model.slots())[path].body
        efficient = body.exit()
        body.reference(dict(model.slots())["first"](dict(model.slots())["pixel_series"](x)))
        torch.testing.assert_close(body.exit().logits, efficient.logits, rtol=1e-4, atol=1e-5)
    assert [path for path, _ in exits] == list(left) and ran[-1] == 24
    naive = plain.clone()
    for row in range(24):  # the definition, sample by sample
        for _, exit in exits:
            if exit.sure[row]:
                naive[row] = exit.logits[row]
                break
    torch.testing.assert_close(output, naive, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(chosen(plain, [exit for _, exit in exits]), naive)
    model.leaving = True
    for row in range(3):
        torch.testing.assert_close(
            model(x[row : row + 1]), naive[row : row + 1], rtol=1e-4, atol=1e-5
        )


@torch.no_grad()
def test_everyone_or_nobody_leaves() -> None:
    x = samples(5)
    everyone = build(loads(TEXT.replace("0.5", "0.0")), SERIES, seed=0).eval()
    ran: list[int] = []
    slots = dict(everyone.slots())
    slots["stage.0.swiglu"].register_forward_hook(lambda *given: ran.append(1))
    output = everyone(x)
    assert everyone.left() == {"exit_1": 5} and not ran
    torch.testing.assert_close(output, slots["exit_1"].body.exit().logits)
    nobody = build(loads(TEXT.replace("0.5", "null").replace("0.6", "null")), SERIES, seed=0).eval()
    exits = TEXT.replace("use: early_exit, outputs: 4, threshold: 0.5", "use: skip").replace(
        "use: early_exit, outputs: 4, threshold: 0.6, certainty: entropy", "use: skip"
    )
    plain = build(loads(exits), SERIES, seed=0).eval()
    assert set(nobody.left().values()) <= {0}
    torch.testing.assert_close(nobody(x), plain(x))


def test_in_training_every_exit_has_its_scores_and_nobody_leaves() -> None:
    model = model_of(TEXT).train()
    assert model(samples()).shape == (24, 4) and model.left() == {}
    exits = model.exits()
    assert [exit.weight for _, exit in exits] == [0.3] * 3
    weight = dict(model.slots())["exit_1"].body.get_parameter("scores.weight")
    exits[0][1].logits.square().sum().backward()
    assert weight.grad is not None and weight.grad.abs().max() > 0


def test_steps_pass_exits_by() -> None:
    model = model_of(EVERYWHERE.replace("0.5", "0.0"))
    x = samples(3)
    model.leaving = False
    with torch.no_grad():
        whole, states = model(x), model.start(3)
        for t in range(7):
            logits, states = model.step(states, x[:, t])
            torch.testing.assert_close(logits, whole[:, t], rtol=1e-4, atol=1e-5)


def test_an_exported_file_chooses_too(tmp_path: Path) -> None:
    text = TEXT.replace("threshold: 0.5", "threshold: 0.3")
    assert "left.sure" in same(loads(text), SERIES, tmp_path / "exits.py")
    tied = loads(TEXT.replace("repeat: 2", "repeat: 2\n    tie: true"))
    with pytest.raises(SpecError, match="several times with the same weights"):
        source_of(tied, SERIES)


@torch.no_grad()
def test_a_traced_program_chooses_too() -> None:
    model = calibrated(TEXT)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(samples()), model(samples()), rtol=1e-4, atol=1e-5)
    assert sum(model.left().values()) > 0


def test_scores_of_another_shape_are_refused() -> None:
    (problem,) = check(
        loads(
            TEXT.replace(
                "exit_1, use: early_exit, outputs: 4", "exit_1, use: early_exit, outputs: 5"
            )
        ),
        SERIES,
    )
    assert problem.path == "nodes[2].outputs" and (problem.expected, problem.got) == (
        "B, 4",
        "B, 5",
    )
    wrong = TEXT.replace("use: early_exit,", "use: early_exit, over: position,")
    assert len(infer(loads(wrong), SERIES).errors) == 2
