"""A request that begins as an earlier one did gives what it gives when it is read from its start."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.generate import generate, read_prompt
from hybridlab.architecture.library import open_architecture
from hybridlab.architecture.model import GraphModel, build
from hybridlab.components.base import State
from hybridlab.components.token_mixers.mamba2 import Mamba2
from hybridlab.errors import SpecError, StepError
from hybridlab.planning.caches.measure import storage_bytes
from hybridlab.planning.caches.prefix import PrefixCache
from hybridlab.planning.caches.prefix_trial import try_prefixes
from hybridlab.tasks.registry import fit, task
from tests.planning.caches.test_caches import MIXED, TOKENS

MUCH = 2**30


def preset(name: str) -> GraphModel:
    chosen = task("mqar")
    return build(fit(open_architecture(name), chosen), chosen.input_type(), seed=0).eval()


@pytest.fixture
def mixed() -> GraphModel:
    return build(loads(MIXED), TOKENS, seed=0).eval()


def drawn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randint(20, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "name", ["jamba_mini", "samba_mini", "striped_hyena_mini"]
)  # fmt: skip
def test_logits_and_what_is_written_are_those_without_a_cache(name: str) -> None:
    """Bit for bit: the same numbers are computed in the same order, some of them earlier."""
    model = preset(name)
    cache = PrefixCache(model, MUCH, every=4)
    shared = drawn(1, 9)
    for seed in (1, 2, 2):
        prompt = torch.cat((shared, drawn(1, 3, seed=seed)), 1)
        logits, states = cache.read(prompt)
        want, all_states = read_prompt(model, prompt)
        assert torch.equal(logits, want)
        for state, other in zip(states, all_states, strict=True):
            assert all(map(torch.equal, state, other))
        assert torch.equal(generate(model, prompt, 4, read=cache.read), generate(model, prompt, 4))
    told = cache.report()
    # By read and by generate: from the start, then whole; from 8 of 12, then whole; then whole.
    assert (told.requests, told.hits) == (6, 5)
    assert told.saved == 0 + 12 + 8 + 12 + 12 + 12


def test_rows_of_a_batch_are_requests_that_go_on_side_by_side(mixed: GraphModel) -> None:
    cache = PrefixCache(mixed, MUCH, every=5)
    prompt = torch.cat((drawn(1, 5).expand(3, -1), drawn(3, 2, seed=4)), 1)
    torch.testing.assert_close(cache.read(prompt)[0], read_prompt(mixed, prompt)[0])
    assert torch.equal(generate(mixed, prompt, 6, read=cache.read), generate(mixed, prompt, 6))
    assert cache.report().saved == 2 * 5 + 3 * 7


def test_bytes_are_those_of_what_is_kept_and_stay_below_the_limit(mixed: GraphModel) -> None:
    cache = PrefixCache(mixed, MUCH, every=4)
    cache.read(drawn(1, 11))
    told = cache.report()
    assert told.kept == 3 and told.evicted == 0
    wanted = 0
    for length in (4, 8, 11):
        logits, states = read_prompt(mixed, drawn(1, 11)[:, :length])
        wanted += storage_bytes([(logits,), *states]) + 8 * length
    assert told.held_bytes == wanted

    small = PrefixCache(mixed, wanted - 1, every=4)
    small.read(drawn(1, 11))
    told = small.report()
    assert (told.kept, told.evicted) == (2, 1) and told.held_bytes <= wanted - 1
    small.clear()
    assert small.report().held_bytes == small.report().kept == 0
    nothing = PrefixCache(mixed, 0)
    nothing.read(drawn(1, 4))
    assert nothing.report().kept == 0 and nothing.report().held_bytes == 0


def test_the_least_recently_used_goes_first(mixed: GraphModel) -> None:
    prompts = [drawn(1, 6, seed=seed) for seed in range(3)]
    one = PrefixCache(mixed, MUCH)
    one.read(prompts[0])
    cache = PrefixCache(mixed, 2 * one.report().held_bytes)
    cache.read(prompts[0])
    cache.read(prompts[1])
    cache.read(prompts[0])
    cache.read(prompts[2])  # lets go of the second
    hits = cache.report().hits
    cache.read(prompts[0])
    assert cache.report().hits == hits + 1
    cache.read(prompts[1])
    assert cache.report().hits == hits + 1


def test_changed_weights_forget_everything(mixed: GraphModel) -> None:
    cache = PrefixCache(mixed, MUCH)
    prompt = drawn(1, 6)
    cache.read(prompt)
    with torch.no_grad():
        next(mixed.parameters()).mul_(1.5)
    assert torch.equal(cache.read(prompt)[0], read_prompt(mixed, prompt)[0])
    assert cache.report().hits == 0


@pytest.mark.parametrize("fused", [True, False])
def test_an_update_forgets_everything(mixed: GraphModel, *, fused: bool) -> None:
    """Fused optimisers write without telling it in the tensors."""
    cache, prompt = PrefixCache(mixed, MUCH), drawn(1, 6)
    cache.read(prompt)
    optimiser = torch.optim.AdamW(mixed.parameters(), lr=0.1, fused=fused)
    mixed(prompt).square().mean().backward()
    optimiser.step()
    assert torch.equal(cache.read(prompt)[0], read_prompt(mixed, prompt)[0])
    assert cache.report().hits == 0
    assert cache.read(prompt)[0].isfinite().all() and cache.report().hits == 1


def test_what_cannot_be_kept_is_refused(mixed: GraphModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SpecError) as caught:
        PrefixCache(mixed.train(), -1, every=0)
    assert [one.path for one in caught.value.problems] == ["most_bytes", "every", "model"]
    text = MIXED.replace(
        "{id: right, use: attention,", "{id: right, use: attention, causal: false,"
    )
    with pytest.raises(StepError, match="right: attention that looks ahead"):
        PrefixCache(build(loads(text), TOKENS, seed=0).eval(), MUCH)
    with pytest.raises(SpecError, match="not read by tokens"):
        PrefixCache(build(open_architecture("mamba2_mini"), seed=0).eval(), MUCH)
    cache = PrefixCache(mixed.eval(), MUCH)
    with pytest.raises(SpecError, match="empty"):
        cache.read(torch.zeros(1, 0, dtype=torch.int64))
    mixed.train()
    with pytest.raises(SpecError, match=r"model: is in training mode; call model\.eval\(\)"):
        cache.read(drawn(1, 3))
    mixed.eval()

    step: Callable[..., tuple[Tensor, State]] = Mamba2.step

    def in_place(self: Mamba2, state: State, *inputs: Tensor) -> tuple[Tensor, State]:
        output, after = step(self, state, *inputs)
        state[1].copy_(after[1])
        return output, state

    monkeypatch.setattr(Mamba2, "step", in_place)
    with pytest.raises(StepError, match=r"stage\.0\.mamba2: writes into the state"):
        PrefixCache(mixed, MUCH)


def test_a_trial_says_what_was_saved(mixed: GraphModel) -> None:
    found = try_prefixes(mixed, requests=3, shared=8, own=2, every=4)
    told = found.report
    assert (told.requests, told.hits, told.positions, told.saved) == (3, 2, 30, 16)
    assert found.difference == 0 and found.plain_s > 0 and found.cached_s > 0
    assert found.as_dict()["report"]["saved_share"] == 16 / 30
    with pytest.raises(SpecError):
        try_prefixes(mixed, requests=0, own=0)
