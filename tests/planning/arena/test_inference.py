"""A model in an arena: bit-equal to the plain pass on any values, really written there, honest about what is not."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity

from hybridlab.architecture.document import loads
from hybridlab.architecture.library import preset
from hybridlab.architecture.model import GraphModel, build
from hybridlab.errors import RunError
from hybridlab.planning.arena.buffer import Arena
from hybridlab.planning.arena.calls import ANSWER, ASIDE, BY_ITSELF, NO_FORM
from hybridlab.planning.arena.inference import ArenaModel, PlannedPass
from hybridlab.planning.arena.lifetimes import Lifetimes
from hybridlab.planning.arena.offsets import Placement, place, place_apart
from hybridlab.planning.arena.trials import same_bits
from hybridlab.tasks.registry import fit, task

HYBRID = """
name: small
width: 32
nodes:
  - {id: tokens, use: token_embedding, vocab: 32}
  - {id: stage, repeat: 2, tie: true, nodes: [{use: attention, heads: 2}, {use: swiglu}]}
  - {id: ssm, use: mamba2, state: 8}
  - {id: near, use: short_conv, inputs: [stage]}
  - {id: join, use: gated_sum, inputs: [ssm, near]}
  - {id: head, use: lm_head, vocab: 32}
"""
EXITS = """
name: exits
width: 16
nodes:
  - {use: token_embedding, vocab: 16}
  - {use: attention, heads: 2}
  - {id: early, use: early_exit, outputs: 4, threshold: 0.3}
  - {use: swiglu}
  - {use: classifier, classes: 4}
"""


def made(text: str = HYBRID, seed: int = 0) -> GraphModel:
    return build(loads(text), seed=seed).eval()


def tokens(seed: int, batch: int = 2, length: int = 16, vocab: int = 32) -> Tensor:
    return torch.randint(vocab, (batch, length), generator=torch.Generator().manual_seed(seed))


def plain(model: nn.Module, *inputs: Tensor) -> Tensor:
    with torch.no_grad():
        found = model(*inputs)
    assert isinstance(found, Tensor)
    return found


def allocated(run: object) -> list[int]:
    """Return what is allocated while something runs, as the profiler sees it."""
    assert callable(run)
    run()
    gc.collect()
    with torch.profiler.profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    assert profile.profiler is not None
    events = profile.profiler.kineto_results.events()
    return [e.nbytes() for e in events if e.name() == "[memory]" and e.nbytes() > 0]


@pytest.mark.parametrize("lend", [False, True])
def test_any_values_of_the_shape_give_the_plain_answer_bit_by_bit(lend: bool) -> None:
    model = made()
    planned = PlannedPass(model, tokens(0), lend=lend)
    for seed in range(4):
        assert same_bits(planned(tokens(seed)), plain(model, tokens(seed)))
    report = planned.report
    assert report.bound_bytes <= report.arena_bytes == planned.arena.bytes
    assert report.inside_bytes > 0.8 * report.made_bytes
    assert ANSWER in {one.why for one in report.outside} or lend


@pytest.mark.parametrize(
    "name",
    ["griffin_mini", "jamba_mini", "lstm_attention_mini", "rwkv7_mini", "striped_hyena_mini"],
)
def test_presets_run_in_an_arena(name: str) -> None:
    chosen = task("python_bytes")
    kind = chosen.input_type()
    model = build(fit(loads(preset(name).text()), chosen), kind, seed=0).eval()
    planned = PlannedPass(model, tokens(0, vocab=256))
    assert same_bits(planned(tokens(1, vocab=256)), plain(model, tokens(1, vocab=256)))
    assert planned.report.over_bound <= 0.035
    assert 3 * planned.report.arena_bytes < planned.report.made_bytes


def test_a_pass_that_has_a_form_for_all_it_does_allocates_nothing() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up, self.down = nn.Linear(64, 512), nn.Linear(256, 64, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            a, b = self.up(x).chunk(2, -1)
            padded = F.pad(self.down(F.silu(a) * b), (0, 0, 1, -1))
            return torch.cat([padded, x.softmax(-1).cumsum(1)], -1).relu()

    model, x = Gated().eval(), torch.randn(4, 32, 64)
    planned = PlannedPass(model, x, lend=True)
    assert not planned.report.outside
    assert sum(allocated(lambda: planned(x))) < 1024
    assert sum(allocated(lambda: plain(model, x))) > 400_000
    assert planned(x).untyped_storage().data_ptr() == planned.arena.memory().data_ptr()
    apart = PlannedPass(model, x, place=place_apart)
    assert apart.arena.bytes > 1.3 * planned.arena.bytes
    assert same_bits(apart(x), planned(x))


def test_what_computes_aside_or_has_no_form_is_told_and_stays_with_the_allocator() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.near = nn.LayerNorm(64), nn.Conv1d(64, 64, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            h = self.norm(x)
            heads = h[:, None]
            h = F.scaled_dot_product_attention(heads, heads, heads)[:, 0]
            return self.near((h + x).mT).mT.tanh() * 2

    model, x = Mixed().eval(), torch.randn(4, 4, 64)
    planned = PlannedPass(model, x)
    whys = {one.op: one.why for one in planned.report.outside}
    assert whys["native_layer_norm"] == ASIDE
    assert whys["_scaled_dot_product_flash_attention_for_cpu"] == NO_FORM
    assert whys["mul"] == ANSWER
    assert [one.component for one in planned.report.outside if one.op == "native_layer_norm"] == [
        "norm"
    ]
    assert "operators that make tensors write to the arena" in planned.report.sentence()
    y = torch.randn(4, 4, 64)
    assert same_bits(planned(y), plain(model, y))


def test_an_answer_of_its_own_outlives_the_next_pass_and_a_lent_one_does_not() -> None:
    model = made()
    own, lent = PlannedPass(model, tokens(0)), PlannedPass(model, tokens(0), lend=True)
    kept, borrowed = own(tokens(0)), lent(tokens(0))
    own(tokens(1)), lent(tokens(1))
    assert same_bits(kept, plain(model, tokens(0)))
    assert same_bits(borrowed, plain(model, tokens(1)))


def test_other_shapes_and_dtypes_are_refused_in_a_sentence_or_planned_anew() -> None:
    model = made()
    planned = PlannedPass(model, tokens(0))
    for other in (tokens(0, length=17), tokens(0).int()):
        with pytest.raises(RunError, match="is not what this pass was planned for") as caught:
            planned(other)
        assert len(caught.value.problems) == 1
        assert "(2, 16) int64 on cpu" in str(caught.value)
    several = ArenaModel(model)
    for length in (16, 40, 16, 3):
        x = tokens(length, length=length)
        assert same_bits(several(x), plain(model, x))
    assert len(several.passes) == 3
    assert several.arena is not None
    assert several.arena.bytes == max(p.report.arena_bytes for p in several.passes.values())


def test_weights_changed_in_place_are_seen_and_replaced_ones_refused() -> None:
    model = made()
    planned = PlannedPass(model, tokens(0))
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.1)
    assert same_bits(planned(tokens(2)), plain(model, tokens(2)))
    with pytest.raises(RunError, match="an arena is for inference"):
        PlannedPass(made().train(), tokens(0))
    model.train()
    with pytest.raises(RunError, match="plan the pass again"):
        planned(tokens(0))
    model.eval().double()
    with pytest.raises(RunError, match="plan the pass again"):
        planned(tokens(0))


def test_experts_run_by_themselves_and_follow_other_values() -> None:
    text = HYBRID.replace("{use: swiglu}", "{use: moe, experts: 4, top_k: 1}")
    model = made(text)
    planned = PlannedPass(model, tokens(0))
    alone = [one for one in planned.report.outside if one.why == BY_ITSELF]
    assert {one.component for one in alone} == {"stage.moe"}
    assert sum(one.ops for one in alone) == 2  # the tied group runs twice
    assert any(note.startswith("stage.moe: data decides") for note in planned.report.notes)
    for seed in range(1, 5):
        assert same_bits(planned(tokens(seed)), plain(model, tokens(seed)))
    same = torch.full((2, 16), 7)
    assert same_bits(planned(same), plain(model, same))


def test_where_samples_may_leave_all_are_computed_and_the_scores_are_those_of_leaving() -> None:
    model = made(EXITS)
    planned = PlannedPass(model, tokens(0, 8, vocab=16))
    assert model.leaving
    assert [note.partition(":")[0] for note in planned.report.notes] == ["early"]
    left = 0
    for seed in range(4):
        x = tokens(seed, 8, vocab=16)
        torch.testing.assert_close(planned(x), plain(model, x))
        left += model.left()["early"]
    assert 0 < left < 32


def test_modules_that_ask_for_values_run_by_themselves_or_are_refused() -> None:
    class Asks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.sum().item() > 0 else x - 1

    class Reads(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.flatten().tolist()[0]

    inner = nn.Sequential(nn.Linear(4, 4), Asks(), nn.Tanh()).eval()
    planned = PlannedPass(inner, torch.ones(2, 4))
    assert [one.component for one in planned.report.outside if one.why == BY_ITSELF] == ["1"]
    for x in (torch.ones(2, 4), -torch.ones(2, 4)):
        assert same_bits(planned(x), plain(inner, x))
    with pytest.raises(RunError, match="branches on values"):
        PlannedPass(Asks().eval(), torch.ones(2, 4))
    with pytest.raises(RunError, match="depends on values"):
        PlannedPass(Reads().eval(), torch.arange(8.0).view(2, 4))


def test_random_numbers_are_drawn_anew() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(x, 0.5, training=True) + torch.rand_like(x)

    model, x = Noisy().eval(), torch.ones(32, 32)
    planned = PlannedPass(model, x)
    assert not same_bits(planned(x), planned(x))
    torch.manual_seed(1)
    wanted = plain(model, x)
    torch.manual_seed(1)
    assert same_bits(planned(x), wanted)


def test_constants_may_not_be_changed_by_a_pass() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = [torch.zeros(())]

        def forward(self, x: Tensor) -> Tensor:
            return x * self.seen[0].add_(1)

    with pytest.raises(RunError, match="changes a constant"):
        PlannedPass(Counts().eval(), torch.ones(3))


def test_parts_of_an_answer_that_no_operator_made_are_copied() -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor, y: Tensor) -> dict[str, object]:
            both = torch.stack([x, y])
            return {"x": x, "part": both[1, :2], "weight": self.weight, "n": 3, "none": None}

    planned = PlannedPass(Several().eval(), torch.ones(3), torch.zeros(3))
    first = planned(torch.arange(3.0), torch.full((3,), 5.0))
    planned(torch.ones(3), torch.ones(3))
    assert first["x"].tolist() == [0, 1, 2]
    assert first["part"].tolist() == [5, 5]
    assert (first["n"], first["none"]) == (3, None)


def test_models_that_never_run_together_share_one_buffer_of_the_largest() -> None:
    arena = Arena()
    models = [made(), made(HYBRID.replace("mamba2, state: 8", "rg_lru"), seed=1), made(seed=2)]
    shapes = [(2, 16), (3, 32), (1, 8)]
    passes = [
        PlannedPass(model, tokens(0, *shape), arena=arena)
        for model, shape in zip(models, shapes, strict=True)
    ]
    needs = [planned.report.arena_bytes for planned in passes]
    assert needs[0] < needs[1]  # so that it grew under the first
    assert arena.bytes == max(needs) < sum(needs)
    answers = []
    for turn in range(2):
        for model, planned, shape in zip(models, passes, shapes, strict=True):
            x = tokens(turn, *shape)
            answers.append((planned(x), plain(model, x)))
    assert all(same_bits(found, wanted) for found, wanted in answers)
    with arena:
        memory = weakref.ref(arena.memory())
    arena.release()
    assert arena.bytes == 0
    assert memory() is None  # no pass still holds it
    assert same_bits(passes[0](tokens(5)), plain(models[0], tokens(5)))
    with arena, pytest.raises(RunError, match="another pass is running"):
        passes[0](tokens(5))


def test_a_placement_that_forgets_who_lives_long_is_found_out() -> None:
    def forgetful(pieces: Lifetimes) -> Placement:
        last = np.minimum(pieces.last, pieces.first + 1)
        return place(Lifetimes(pieces.bytes, pieces.first, last))

    with pytest.raises((RunError, RuntimeError), match=r"gives other answers|single memory"):
        PlannedPass(made(), tokens(0), place=forgetful)


@pytest.mark.parametrize("first", [True, False])
def test_inference_mode_or_not_may_change_from_pass_to_pass(first: bool) -> None:
    model = made()
    run = ArenaModel(model)
    for seed, mode in enumerate((first, not first, first)):
        with torch.inference_mode(mode):
            found = run(tokens(seed))
        assert same_bits(found, plain(model, tokens(seed)))
    run.arena.release()  # type: ignore[union-attr]
    with torch.inference_mode(not first):
        run(tokens(3))
    assert same_bits(run(tokens(4)), plain(model, tokens(4)))


def test_autocast_counts_as_another_input() -> None:
    model = made()
    run = ArenaModel(model)
    wide = run(tokens(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = run(tokens(1))
        assert same_bits(found, plain(model, tokens(1))) and found.dtype is torch.bfloat16
        with pytest.raises(RunError, match="under autocast to bfloat16"):
            next(iter(run.passes.values()))(tokens(1))
    assert len(run.passes) == 2
    assert same_bits(run(tokens(0)), wide) and same_bits(wide, plain(model, tokens(0)))


def test_a_forward_that_somebody_has_put_into_a_module_stays_there() -> None:
    class Counted(nn.Module):
        data_decides = "all of it"

        def forward(self, x: Tensor) -> Tensor:
            return x * 2

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Counted()

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.inner(x) + 1
            return found

    model = Whole().eval()
    x = torch.randn(2, 3)
    assert same_bits(PlannedPass(model, x)(x), plain(model, x))
    assert "forward" not in vars(model.inner)
    model.inner.forward = lambda x: x * 3  # type: ignore[method-assign]
    planned = PlannedPass(model, x)
    assert same_bits(model(x), x * 3 + 1) and same_bits(planned(x), x * 3 + 1)


def test_threads_plan_one_after_the_other() -> None:
    """torch's profiler, which planning needs, is one for the process: two threads in it at once end the process."""
    wrong: list[object] = []

    def plan(seed: int) -> None:
        try:
            model = made(seed=seed)
            for length in range(8, 12):
                x = tokens(seed, length=length)
                if not same_bits(PlannedPass(model, x)(x), plain(model, x)):
                    wrong.append((seed, length))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=plan, args=(seed,)) for seed in range(3)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not wrong
