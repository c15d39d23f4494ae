"""Types on edges, and the one model that runs any architecture: paths, seeds, early freeing, ties, residuals."""

import gc
import weakref

import pytest
import torch
from torch import nn

from hybridlab.architecture.complete import complete
from hybridlab.architecture.document import loads
from hybridlab.architecture.infer import check, infer
from hybridlab.architecture.library import presets
from hybridlab.architecture.model import Slot, build
from hybridlab.components.registry import palette
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import SpecError

pytestmark = pytest.mark.usefixtures("only_new_garbage")
TOKENS = TensorType(TensorKind.TOKENS, ("B", "L"), "int64")
IMAGE = TensorType(TensorKind.IMAGE, ("B", 1, 8, 8))


def kind_of(name: str) -> str | None:
    return str(palette()[name].kind) if name in palette() else None


def model(nodes: str, **settings):
    return build(loads(f"name: x\nwidth: 16\nnodes: [{nodes}]"), seed=0, **settings)


def sentences(nodes: str, input_type: TensorType | None = None) -> list[str]:
    found = check(loads(f"name: x\nwidth: 64\nnodes: [{nodes}]"), input_type)
    return [problem.sentence() for problem in found]


@pytest.mark.parametrize("entry", presets(), ids=lambda entry: entry.name)
def test_presets_check_build_and_run(entry):
    architecture = loads(entry.text())
    assert check(architecture) == []
    full = complete(
        architecture,
        {"use": "token_embedding", "vocab": 11},
        {"use": "lm_head", "vocab": 11},
        kind_of,
    )
    inference = infer(full, TOKENS)
    assert str(inference.output) == "logits (B, L, 11) float32"
    built = build(full, TOKENS, seed=0)
    output = built(torch.randint(0, 11, (2, 33)))
    assert output.shape == (2, 33, 11)
    assert {path for path, _ in built.slots()} == set(inference.slots)


def test_an_image_becomes_a_sequence_and_an_answer():
    architecture = loads("name: x\nwidth: 16\nnodes: [{use: mlp}]")
    full = complete(
        architecture,
        {"use": "patch_embedding", "patch": 2},
        {"use": "classifier", "classes": 10},
        kind_of,
    )
    inference = infer(full, IMAGE)
    assert str(inference.edges["patch_embedding"]) == "sequence (B, 16, 16) float32"
    assert build(full, IMAGE)(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


def test_completing_leaves_what_is_there():
    own = loads(
        "name: x\nnodes: [{use: token_embedding}, {id: g, nodes: [{use: mlp}]}, {use: lm_head}]"
    )
    assert complete(own, {"use": "pixel_series"}, {"use": "classifier"}, kind_of) == own
    forked = loads(
        "name: x\nnodes: [{use: mlp}, {use: mlp, inputs: [input]}, {use: sum, inputs: [mlp, mlp_2]}]"
    )
    full = complete(forked, {"use": "pixel_series"}, {"use": "classifier"}, kind_of)
    assert [node.id for node in full.nodes] == ["pixel_series", "mlp", "mlp_2", "sum", "classifier"]
    assert full.nodes[2].inputs == ("pixel_series",)


def test_every_problem_at_once_with_its_path():
    found = sentences(
        "{use: attention, heads: 5}, {use: attenion}, {use: swiglu, foo: 1}, {use: token_embedding}, {use: sum}, "
        "{use: lstm, hidden: .nan}, {use: lm_head}, {use: swiglu}"
    )
    assert any(
        s.startswith("nodes[0].heads: 5 does not divide width 64") and "try 4 or 8" in s
        for s in found
    )
    assert any(
        s.startswith("nodes[1].use: unknown component") and "'attention'" in s for s in found
    )
    assert any(s.startswith("nodes[2].foo: unknown key") for s in found)
    assert any(s.startswith("nodes[3].inputs") and "move it to the start" in s for s in found)
    assert any(s.startswith("nodes[4].inputs") and "expected 2 or more, got 1" in s for s in found)
    assert any(s.startswith("nodes[5].hidden") and "NaN" in s for s in found)
    assert any(s.startswith("nodes[7].inputs") and "move it to the end" in s for s in found)


def test_parameters_are_checked_even_where_names_do_not_resolve():
    found = sentences("{use: attention, headz: 5}, {use: mlp, inputs: [nowhere]}")
    assert any("nodes[0].headz" in s for s in found) and any("'nowhere'" in s for s in found)


def test_kinds_that_do_not_fit_say_what_to_put_between():
    assert any("put a token_embedding before it" in s for s in sentences("{use: mlp}", TOKENS))
    assert any("put a patch_embedding before it" in s for s in sentences("{use: mlp}", IMAGE))


def test_unknown_norm():
    problems = check(loads("name: x\nnorm: rms_nrom\nnodes: [{use: mlp}]"))
    assert [p.path for p in problems] == ["norm"]
    assert "'rms_norm'" in problems[0].fix


def test_residual_needs_the_same_shape():
    found = sentences(
        "{use: concat, project: false, inputs: [input, input]}, {use: lstm, residual: post}"
    )
    assert any("nodes[1].residual" in s and "residual: none" in s for s in found)


def test_building_what_is_wrong_raises_all_of_it():
    with pytest.raises(SpecError) as error:
        model("{use: attention, heads: 5}, {use: nothing}")
    assert {problem.path for problem in error.value.problems} == {"nodes[0].heads", "nodes[1].use"}


def test_seeds_make_equal_weights_and_leave_the_global_state_alone():
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first, second = model("{use: lstm}, {use: mlp}"), model("{use: lstm}, {use: mlp}")
    assert torch.equal(before, torch.random.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_change_elsewhere_leaves_weights_as_they_are():
    first, second = (
        model("{id: a, use: lstm}, {use: mlp}"),
        model("{use: mlp}, {id: a, use: lstm}, {use: gru}"),
    )
    weights = {
        name: value for name, value in second.state_dict().items() if name.startswith("root.a.")
    }
    assert weights
    for name, value in weights.items():
        assert torch.equal(value, first.state_dict()[name])


def test_the_graph_is_what_its_text_says():
    built = model(
        "{id: a, use: lstm}, {id: b, use: mlp, residual: none, inputs: [a]}, {id: c, use: mlp, residual: post}, "
        "{id: j, use: sum, inputs: [a, b, c]}"
    )
    slots = dict(built.slots())
    x = torch.randn(2, 5, 16)
    a = x + slots["a"].body(slots["a"].norm(x))
    b = slots["b"].body(a)
    c = slots["c"].norm(b + slots["c"].body(b))
    assert slots["b"].norm is None
    torch.testing.assert_close(built(x), a + b + c)


def test_repeats_have_their_own_weights_and_ties_share_them():
    group = "{{id: g, repeat: 3, tie: {tie}, nodes: [{{use: mlp}}]}}"
    free, tied = model(group.format(tie="false")), model(group.format(tie="true"))
    assert [path for path, _ in free.slots()] == ["g.0.mlp", "g.1.mlp", "g.2.mlp"]
    assert [path for path, _ in tied.slots()] == ["g.mlp"]
    count = sum(p.numel() for p in tied.parameters())
    assert sum(p.numel() for p in free.parameters()) == 3 * count
    x = torch.randn(1, 4, 16)
    slot = dict(tied.slots())["g.mlp"]
    torch.testing.assert_close(tied(x), slot(slot(slot(x))))


def test_a_group_may_have_a_residual_and_inner_nodes_may_read_outward():
    built = model(
        "{id: a, use: lstm}, {id: g, residual: pre, repeat: 2, nodes: "
        "[{id: m, use: mlp, residual: none}, {id: s, use: sum, inputs: [m, input, a]}]}"
    )
    slots = dict(built.slots())
    x = torch.randn(2, 3, 16)
    a = slots["a"](x)
    y = built.root._modules["g"].norm(a)
    for index in range(2):
        y = slots[f"g.{index}.m"](y) + y + a
    torch.testing.assert_close(built(x), a + y)


def test_ids_may_be_names_that_torch_uses_itself():
    built = model(
        "{id: keys, use: mlp}, {id: type, use: mlp}, {id: forward, use: mlp}, "
        "{id: training, nodes: [{id: body, use: mlp}]}"
    )
    assert built(torch.randn(1, 2, 16)).shape == (1, 2, 16)
    assert len(list(built.parameters())) == len(built.state_dict())
    built.eval()
    assert not any(module.training for module in built.modules())


class Watched:
    """Counts how many node outputs are alive whenever a component starts."""

    def __init__(self, built: nn.Module) -> None:
        self.alive: list[weakref.ref] = []
        self.most = 0
        for module in built.modules():
            if isinstance(module, Slot):
                module.register_forward_hook(self.note)

    def note(
        self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        self.alive.append(weakref.ref(output.untyped_storage()))
        gc.collect()
        self.most = max(self.most, sum(ref() is not None for ref in self.alive))


def test_tensors_are_freed_at_their_last_use_when_not_training():
    built = model("{id: g, repeat: 12, nodes: [{use: mlp}, {id: h, nodes: [{use: mlp}]}]}").eval()
    watched = Watched(built)
    with torch.no_grad():
        built(torch.randn(2, 3, 16))
    assert watched.most == 2


def test_a_value_that_is_read_later_stays():
    built = model(
        "{id: a, use: mlp}, {id: g, repeat: 3, nodes: [{use: mlp}]}, {use: sum, inputs: [a, g]}"
    ).eval()
    x = torch.randn(1, 2, 16)
    slots = dict(built.slots())
    a = slots["a"](x)
    y = a
    for index in range(3):
        y = slots[f"g.{index}.mlp"](y)
    torch.testing.assert_close(built(x), a + y)


def test_losses_that_components_ask_for_are_collected_in_training_only():
    built = model("{id: g, repeat: 2, tie: true, nodes: [{use: moe, experts: 4, top_k: 2}]}")
    built(torch.randn(2, 8, 16))
    assert built.aux_loss().item() > 0
    assert set(built.reports()) == {"g.moe"}
    built.eval()
    built(torch.randn(2, 8, 16))
    assert built.aux_loss() is None


def test_wide_architectures_are_checked_without_memory():
    nodes = "{repeat: 100, nodes: [{use: attention, heads: 64}, {use: swiglu}]}"
    assert check(loads(f"name: x\nwidth: 16384\nnodes: [{nodes}]")) == []


def test_of_several_heads_none_needs_a_reader_but_a_mixer_does() -> None:
    """A task reads each head; what else nobody reads is work thrown away."""
    text = """\
name: two answers
width: 16
nodes:
  - {use: attention, id: body}
  - {use: gru, id: idle, inputs: [body]}
  - {use: classifier, id: one, classes: 3, inputs: [body]}
  - {use: classifier, id: two, classes: 4, inputs: [body]}
"""
    assert [problem.path for problem in check(loads(text))] == ["nodes[1]"]
