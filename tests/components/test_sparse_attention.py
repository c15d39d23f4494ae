"""DeepSeek sparse attention: what it chooses, and what its index learns from."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hybridlab.components.base import Component
from hybridlab.components.token_mixers.lightning_index import best, disagreement

Build = Callable[..., Component]


def test_choosing_all_is_attention(build: Build) -> None:
    sparse = build("sparse_attention", width=16, kv_heads=2, top_k=150)
    dense = build("attention", width=16, kv_heads=2)
    weights = {name: w for name, w in sparse.state_dict().items() if not name.startswith("index.")}
    dense.load_state_dict(weights)
    x = torch.randn(2, 150, 16)
    torch.testing.assert_close(sparse(x), dense(x), rtol=1e-4, atol=1e-5)


def test_one_choice_gives_the_value_of_the_best_index(build: Build) -> None:
    module = build("sparse_attention", width=16, heads=1, top_k=1, rotary=False).eval()
    x = torch.randn(2, 140, 16)
    queries, keys, weights = module.index(x)
    index = torch.einsum(
        "btj,btsj->bts", weights, torch.einsum("btji,bsi->btsj", queries, keys).relu()
    )
    index = index.masked_fill(torch.ones(140, 140).triu(1).bool(), float("-inf"))
    values = module.project_in(x)[..., 32:]
    places = index.shape[-1] - 1 - index.flip(-1).argmax(-1)  # of those alike, the last
    wanted = module.project_out(values.gather(1, places.unsqueeze(-1).expand(-1, -1, 16)))
    torch.testing.assert_close(module(x), wanted, rtol=1e-4, atol=1e-5)


def test_of_scores_that_are_alike_the_latest_are_chosen_and_never_more_than_asked() -> None:
    chosen = best(torch.zeros(1, 3, 9), 2, first=6)
    assert chosen.sum(-1).tolist() == [[2, 2, 2]]
    assert [row.nonzero().flatten().tolist() for row in chosen[0]] == [[5, 6], [6, 7], [7, 8]]


def test_the_index_learns_from_its_own_loss_alone(build: Build) -> None:
    module = build("sparse_attention", width=16, top_k=3, index_weight=0.5)
    x = torch.randn(2, 20, 16, requires_grad=True)
    module(x).square().sum().backward()
    of_index = {name: w for name, w in module.named_parameters() if name.startswith("index.")}
    assert len(of_index) == 5 and all(not w.grad.any() for w in of_index.values())
    module.zero_grad()
    x.grad = None
    module(x)
    loss = module.aux_loss()
    assert loss is not None and loss.item() > 0
    assert module.report()["disagreement"] == 2 * loss.item()
    loss.backward()
    assert all(w.grad.any() for name, w in of_index.items())
    others = set(dict(module.named_parameters())) - set(of_index)
    assert all(dict(module.named_parameters())[name].grad is None for name in others)
    assert x.grad is None
    module.eval()(x)
    assert build("sparse_attention", width=16, index_weight=0.0).aux_loss() is None


def test_the_loss_is_a_divergence_among_the_chosen() -> None:
    chosen = torch.tensor([[[True, True, False]]])
    index = torch.tensor([[[0.0, 0.0, 50.0]]])
    half = torch.tensor([[[0.5, 0.5, 0.0]]])
    assert disagreement(index, half, chosen).item() == 0
    sure = torch.tensor([[[1.0, 0.0, 0.0]]])
    torch.testing.assert_close(disagreement(index, sure, chosen), torch.tensor([[2.0]]).log())


def test_the_index_finds_what_the_heads_attend_to(build: Build) -> None:
    """Heads that look for one feature of the keys: after some updates the choice has most of their weight."""
    module = build("sparse_attention", width=16, heads=1, top_k=4, rotary=False)
    with torch.no_grad():
        module.project_in.weight[:16] = 0.0
        module.project_in.weight[0, 0] = 24.0  # the first feature of a query is a constant 24
        module.project_in.weight[16:32] = torch.eye(16).roll(
            -1, 0
        )  # that of a key is the second one's
    optimiser = torch.optim.Adam(module.index.parameters(), 1e-2)

    def share() -> float:
        x = _sequences()
        with torch.no_grad():
            queries, keys, weights = module.index(x)
            chosen = best(module.index.scores(queries, keys, weights), 4, 0)
            scores = (6.0 * x[..., 1]).unsqueeze(1).expand(-1, 32, -1)
            hidden = scores.masked_fill(torch.ones(32, 32).triu(1).bool(), float("-inf"))
            return float((hidden.softmax(-1) * chosen).sum(-1)[:, 8:].mean())

    before = share()
    for _ in range(60):
        optimiser.zero_grad()
        module(_sequences())
        module.aux_loss().backward()
        optimiser.step()
    assert before < 0.6 and share() > 0.9, f"{before} {share()}"


def _sequences() -> torch.Tensor:
    """Draw 16 sequences of 32 positions whose first feature is one."""
    x = torch.randn(16, 32, 16)
    x[..., 0] = 1.0
    return x
