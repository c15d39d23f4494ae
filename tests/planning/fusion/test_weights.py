"""Weights that change behind a fused model: by hand, by optimisers, with the number format, in copies."""

from __future__ import annotations

import copy

import pytest
import torch

from hybridlab.architecture.document import loads
from tests.planning.fusion.test_fusion import CLOSE, PARALLEL, all_of, apart, made


def test_weights_that_change_are_seen() -> None:
    model, x = made(loads(PARALLEL))
    model.eval()
    fused = all_of(model, x, training=False)
    assert fused is not None
    with torch.no_grad():
        fused.on()
        model(x)
        for parameter in model.parameters():
            parameter.mul_(1.1)
        changed = model(x)
        model.load_state_dict({name: 1.1 * one for name, one in model.state_dict().items()})
        loaded = model(x)
        fused.off()
        plain = model(x)
        assert apart(plain, loaded) <= CLOSE < apart(plain, changed)


@pytest.mark.parametrize("how", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_weights_that_an_optimiser_has_moved_are_seen(how: dict[str, bool]) -> None:
    """Fused optimisers write without telling it in the tensors."""
    model, x = made(loads(PARALLEL))
    fused = all_of(model.eval(), x, training=False)
    assert fused is not None
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1, **how)
    for _ in range(2):
        model(x).square().mean().backward()
        optimiser.step()
        with torch.no_grad():
            plain = model(x)
            fused.on()
            found = model(x)
            fused.off()
        assert apart(plain, found) <= CLOSE


@pytest.mark.parametrize("norm", ["rms_norm", "layer_norm", "dynamic_tanh"])
@pytest.mark.parametrize(
    "dtypes", [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)]
)
def test_a_model_that_changes_its_number_format_stays_the_same(
    norm: str, dtypes: tuple[torch.dtype, ...]
) -> None:
    """How a bare norm is computed hangs on the format, and so does what its maps take over from it."""
    model, x = made(loads(PARALLEL.replace("width: 32", f"width: 32\nnorm: {norm}")))
    model.eval().to(dtypes[0])
    fused = all_of(model, x, training=False)
    assert fused is not None and fused.fusion.folds
    for dtype in dtypes:
        fused.on()
        model.to(dtype)
        with torch.no_grad():
            found = model(x)
            fused.off()
            assert apart(model(x), found) <= (0.05 if dtype is torch.bfloat16 else 1e-5)


@pytest.mark.parametrize("norm", ["rms_norm", "dynamic_tanh"])
def test_a_copy_and_weights_that_are_put_in_place_are_used(norm: str) -> None:
    model, x = made(loads(PARALLEL.replace("width: 32", f"width: 32\nnorm: {norm}")))
    fused = all_of(model.eval(), x, training=False)
    assert fused is not None
    with torch.no_grad():
        fused.on()
        before = model(x)
        twin = copy.deepcopy(model)
        state = {name: 1.5 * one for name, one in model.state_dict().items()}
        model.load_state_dict(state, assign=True)
        found = model(x)
        assert torch.equal(twin(x), before)
        fused.off()
        assert apart(model(x), found) <= CLOSE
