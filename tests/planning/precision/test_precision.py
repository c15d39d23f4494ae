"""Components in a format of their own: who changes, what goes between them, gradients, plans, and what is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.components.base import Component
from hybridlab.errors import RunError
from hybridlab.planning.precision import judge
from hybridlab.planning.precision.apply import Mixed, check_products, mix, unable
from hybridlab.planning.precision.record import Precisions
from hybridlab.trace.step import TrainingStep, default_loss
from tests.planning.steps import equal, steps, with_spans

DESIGN = """
name: x
width: 32
nodes:
  - {use: token_embedding, vocab: 32}
  - id: block
    repeat: 2
    nodes:
      - {id: a, use: attention, heads: 2}
      - {id: f, use: swiglu}
  - {id: head, use: lm_head, vocab: 32}
"""
ALL = ("block.0.a", "block.0.f", "block.1.a", "block.1.f", "head")


def model_of(text: str = DESIGN) -> GraphModel:
    return build(loads(text), seed=0)


def tokens(batch: int = 2, length: int = 20) -> Tensor:
    return torch.randint(32, (batch, length), generator=torch.Generator().manual_seed(0))


def formats_of(model: GraphModel, *paths: str, name: Any = "bfloat16", **more: Any) -> Precisions:
    return Precisions(
        fingerprint=model.architecture.fingerprint,
        device="cpu",
        training=True,
        formats=dict.fromkeys(paths, name),
        **more,
    )


def outputs(model: GraphModel) -> dict[str, tuple[Tensor, ...]]:
    """Return what every component reads and gives, by path."""
    seen: dict[str, tuple[Tensor, ...]] = {}

    def watch(path: str, body: Component) -> Any:
        return body.register_forward_hook(
            lambda module, inputs, output: seen.__setitem__(path, (*inputs, output))
        )

    hooks = [watch(path, slot.body) for path, slot in model.slots()]
    with torch.no_grad():
        model(tokens())
    for hook in hooks:
        hook.remove()
    return seen


def test_what_is_not_named_computes_as_before_and_borders_are_float32() -> None:
    model = model_of()
    plain = outputs(model)
    mixed = Mixed(model, formats_of(model, "block.1.a", "head"))
    mixed.on()
    now = outputs(model)
    before = [path for path in now if path.startswith(("token", "block.0"))]
    assert len(before) == 3
    for path in before:
        assert equal(list(plain[path]), list(now[path])), path
    for path, some in now.items():
        assert all(x.dtype is torch.float32 for x in some if x.is_floating_point()), path
    error = judge.apart(plain["block.1.a"][-1], now["block.1.a"][-1])
    assert 1e-4 < error < 2e-2
    mixed.off()
    assert all(equal(list(some), list(plain[path])) for path, some in outputs(model).items())


def test_it_computes_in_the_format() -> None:
    model = model_of()
    kinds: set[torch.dtype] = set()
    project = model.get_submodule("root.block.0.a.body.project_out")
    project.register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    for name in ("bfloat16", "float16"):
        precisions = formats_of(model, "block.0.a", name=name).model_copy(
            update={"training": False}
        )
        mixed = Mixed(model.eval(), precisions)
        mixed.on()
        outputs(model)
        mixed.off()
    assert kinds == {torch.bfloat16, torch.float16}
    assert all(p.dtype is torch.float32 for p in model.parameters())


def test_named_ones_stay_in_float32_in_a_step_of_16_bits() -> None:
    model = model_of()
    inside: dict[str, Tensor] = {}
    body = model.get_submodule("root.block.0.f.body.project_out")
    body.register_forward_hook(
        lambda module, inputs, output: inside.update(out=output, x=inputs[0])
    )
    mix(model, formats_of(model, "block.0.f", name="float32", within="bfloat16"), within="bfloat16")
    with torch.autocast("cpu", torch.bfloat16):
        assert outputs(model)["block.0.a"][-1].dtype is torch.bfloat16
    assert inside["out"].dtype is inside["x"].dtype is torch.float32
    exact = torch.nn.functional.linear(inside["x"], body.weight, body.bias)  # type: ignore[arg-type]
    assert torch.equal(inside["out"], exact)


def step_of(model: GraphModel) -> TrainingStep:
    return TrainingStep(model.train(), (tokens(),), loss=default_loss)


def test_gradients_are_those_of_autocast_by_hand_and_close_to_float32() -> None:
    """All components named is what ``torch.autocast`` around the whole gives, but for norms, sums and casts between."""
    model = model_of()
    step = step_of(model)
    exact = judge.answer(step, default_loss)
    mixed = Mixed(model, formats_of(model, *ALL))
    with judge.turned_on(mixed):
        ours = judge.answer(step, default_loss)
    step.around = lambda: torch.autocast("cpu", torch.bfloat16)
    whole = judge.answer(step, default_loss)
    mine, theirs = judge.errors(exact, ours), judge.errors(exact, whole)
    assert 1e-4 < mine.values < 3e-2 and mine.loss < 1e-2
    assert mine.values < 3 * theirs.values
    step.around = contextlib.nullcontext
    assert judge.errors(exact, judge.answer(step, default_loss)) == judge.Errors(0.0, 0.0)


@pytest.mark.parametrize("spans", [((1, 2),), ((0, 1), (3, 5))])
def test_gradients_with_a_plan_are_equal_bit_for_bit(spans: Any) -> None:
    found = []
    for planned in (False, True):
        model = model_of()
        mix(model, formats_of(model, "block.0.a", "block.1.f", "head"))
        found.append(steps(with_spans(model, spans) if planned else model, tokens()))
    assert equal(*found)
    assert not equal(found[0], steps(model_of(), tokens()))


def test_a_group_that_runs_again_with_one_weight_is_the_same_with_a_plan() -> None:
    text = (
        "name: x\nwidth: 32\nnodes:\n  - {use: token_embedding, vocab: 32}\n"
        "  - {id: g, repeat: 3, tie: true, nodes: [{id: f, use: swiglu}]}\n"
    )
    found = []
    for spans in ((), ((1, 3),)):
        model = model_of(text)
        mix(model, formats_of(model, "g.f"))
        found.append(steps(with_spans(model, spans), tokens()))
    assert equal(*found)


def test_what_does_not_fit_is_refused_by_name() -> None:
    model = model_of()
    good = formats_of(model, "head")
    for change, said in (
        ({"fingerprint": "x"}, "another architecture"),
        ({"device": "cuda"}, "another kind of device"),
        ({"within": "bfloat16"}, "set precision to bfloat16"),
        ({"training": False}, "made for inference"),
        ({"formats": {"nowhere": "bfloat16", "none": "float32"}}, "nowhere: is no component"),
        ({"formats": {"head": "float16"}}, "would be lost in float16"),
    ):
        with pytest.raises(RunError, match=said):
            mix(model, good.model_copy(update=change))
    with pytest.raises(RunError) as both:
        Mixed(model, good.model_copy(update={"formats": {"a": "bfloat16", "b": "bfloat16"}}))
    assert len(both.value.problems) == 2
    mix(model, good)
    with pytest.raises(RunError, match="others are applied"):
        mix(model, good)
    assert "no formats" in unable(torch.device("meta"), "bfloat16", training=True)


def test_what_leaves_early_has_no_format_of_its_own() -> None:
    model = model_of(
        "name: x\nwidth: 16\nnodes: [{use: token_embedding, vocab: 9}, {id: e, use: early_exit, outputs: 5}]"
    )
    with pytest.raises(RunError, match="scores beside its output"):
        Mixed(model, formats_of(model, "e"))


def test_maps_that_are_one_product_need_one_format() -> None:
    model = model_of()
    maps = tuple(f"root.block.0.{name}.body.project_in" for name in ("a", "f"))
    for paths in ((), ("block.0.a", "block.0.f"), ("head",)):
        check_products(model, formats_of(model, *paths), [maps])
    with pytest.raises(RunError, match=r"block\.0\.a, block\.0\.f"):
        check_products(model, formats_of(model, "block.0.a"), [maps])


def test_it_is_kept_as_json(tmp_path: Path) -> None:
    model = model_of()
    precisions = formats_of(model, "head")
    precisions.save(tmp_path / "p.json")
    assert Precisions.load(tmp_path / "p.json") == precisions and not precisions.empty
    assert formats_of(model).empty
    with pytest.raises(RunError, match=r"precisions\.formats\.head"):
        Precisions.read(precisions.as_dict() | {"formats": {"head": "float8"}})
    with pytest.raises(RunError, match=r"precisions\.device"):
        Precisions.read({"fingerprint": "x"})
