"""Tables of turns made once: the same bits, fewer operators, and nothing kept where it must not be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.components import rotary
from hybridlab.components.rotary import Tables, rotate, tables_once
from hybridlab.planning.fusion.apply import Fused
from hybridlab.planning.fusion.find import find
from hybridlab.planning.fusion.record import Fusion

DESIGN = """
name: x
width: 16
nodes:
  - {use: token_embedding, vocab: 32}
  - {use: attention, heads: 2}
  - {use: attention, heads: 2, kv_heads: 1, rotary_base: 500.0}
  - {use: attention, heads: 2, rotary_scaling: yarn}
  - {use: attention, heads: 2}
  - {use: retention, heads: 2}
"""


def tokens(length: int = 12) -> Tensor:
    return torch.randint(32, (2, length), generator=torch.Generator().manual_seed(0))


def results(model: GraphModel, x: Tensor) -> list[Tensor]:
    model.zero_grad()
    output = model(x)
    output.square().mean().backward()
    return [output.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]


def fused(model: GraphModel, *, training: bool) -> Fused:
    fingerprint = model.architecture.fingerprint
    return Fused(model, Fusion(fingerprint=fingerprint, training=training, tables=True))


@pytest.mark.parametrize("training", [False, True])
def test_they_are_found_and_give_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, *, training: bool
) -> None:
    model = build(loads(DESIGN), seed=0)
    found = find(model, (tokens(),), training=training)
    (one,) = [candidate for candidate in found.candidates if candidate.fusion.tables]
    assert one.places == 10 and one.name == "turns of 10 queries and keys by 4 tables"
    made: list[int] = []
    table = rotary._table
    monkeypatch.setattr(rotary, "_table", lambda *of: made.append(1) or table(*of))
    on = fused(model, training=True)
    for length in (12, 7, 12):
        plain = results(model, tokens(length))
        on.on()
        for _ in range(2):
            for mine, other in zip(results(model, tokens(length)), plain, strict=True):
                assert torch.equal(mine, other)
        on.off()
    assert len(made) == 3 * 10 + 3 * 4


def test_nothing_is_left_behind() -> None:
    model = build(loads(DESIGN), seed=0).eval()
    on = fused(model, training=False)
    on.on()
    with torch.inference_mode():
        model(tokens())
    with torch.no_grad():  # what inference made is not used where gradients may be asked for
        model(tokens())
    assert on._tables is not None and len(on._tables.made) == 8
    with pytest.raises((IndexError, RuntimeError)), torch.no_grad():
        model(tokens() + 99)
    assert rotary._tables.get() is None
    on.off()
    assert not on._tables.made


def test_positions_that_are_tensors_and_other_formats_have_tables_of_their_own() -> None:
    x = torch.randn(1, 2, 5, 8)
    tables = Tables()
    with tables_once(tables):
        for first in (0, 3):
            rotate(x, 10_000.0, first)
            rotate(x, 10_000.0, first)
        rotate(x.double(), 10_000.0)
        rotate(x[:, :, :4], 10_000.0)
        assert len(tables.made) == 4 and tables.asked == 6
        turned = rotate(x, 10_000.0, torch.tensor(3))
    assert tables.asked == 6
    assert torch.equal(turned, rotate(x, 10_000.0, 3))


def test_they_do_not_pile_up() -> None:
    tables = Tables()
    with tables_once(tables):
        for length in range(1, 3 * rotary.MOST_TABLES):
            rotate(torch.ones(1, 1, length, 4), 10_000.0)
    assert len(tables.made) <= rotary.MOST_TABLES
