"""Whether memory pools work on a device: one step with them beside the same step without, and what the device holds."""

from __future__ import annotations

import gc
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from hybridlab.architecture.document import loads
from hybridlab.architecture.model import GraphModel, build
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.hardware.meters.allocator import held, told_of
from hybridlab.planning.pools.apply import Pooled
from hybridlab.planning.pools.backend import Backend, TorchPools, lacking
from hybridlab.training.pool_spec import PoolSpec
from hybridlab.units import format_bytes

_TEXT = "name: pools\nwidth: 64\nnodes:\n  - {use: attention, heads: 4}\n  - {use: swiglu}\n"
_SHAPE = (4, 128, 64)
_POOLS = (
    PoolSpec(name="mixers", kind="token_mixer"),
    PoolSpec(name="channels", kind="channel_mixer", backward=True),
)
_TOLERANCE = 1e-5
"""Largest difference of gradients, relative to the largest value, where two plain steps differ by themselves."""


@dataclass(frozen=True)
class PoolCheck:
    """What a step with memory pools did on a device.

    Attributes:
        ok: whether pools did their work and changed nothing; None where the device has none, so nothing was checked.
        message: the outcome in a sentence.
        difference: the largest one of output and gradients with pools to those without, relative to the largest value.
        bits_equal: whether they are equal bit for bit, and ``repeats_equal`` whether two plain steps are.
        pools: what each pool held after the step, in bytes.
        before, within, after: what the allocator held before, while the pools were there, and when they were let go.
    """

    ok: bool | None
    message: str
    difference: float | None = None
    bits_equal: bool | None = None
    repeats_equal: bool | None = None
    pools: tuple[dict[str, Any], ...] = ()
    before: dict[str, Any] | None = None
    within: dict[str, Any] | None = None
    after: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain JSON."""
        return asdict(self)


def check_pools(device: torch.device, backend: Backend | None = None) -> PoolCheck:
    """Run a small step twice as it is and once with pools; whatever goes wrong becomes the message.

    ``backend`` is torch's own by itself.
    """
    if backend is None and (reason := lacking(device)) is not None:
        return PoolCheck(None, f"not checked: {reason}")
    try:
        return _checked(device, backend or TorchPools(device))
    except Exception as error:  # whatever a device does is what the user wants to be told
        lines = str(error).strip().splitlines()
        return PoolCheck(False, f"{type(error).__name__}: {lines[0][:200] if lines else ''}")


def _checked(device: torch.device, backend: Backend) -> PoolCheck:
    given = TensorType(TensorKind.SEQUENCE, ("B", "L", _SHAPE[-1]))
    model = build(loads(_TEXT), given, seed=0).to(device)
    x = torch.randn(_SHAPE, generator=torch.Generator().manual_seed(0)).to(device)
    plain, again = _step(model, x), _step(model, x)
    _give_back(device)
    before = told_of(held(device))
    pooled = Pooled(model, _POOLS, backend)
    try:
        mine = _step(model, x)
        within, pools = told_of(held(device)), tuple(pooled.as_dict())
    finally:
        pooled.close()
    difference = max(_difference(a, b) for a, b in zip(mine, plain, strict=True))
    equal, repeats = _equal(mine, plain), _equal(plain, again)
    mine.clear()
    model.zero_grad(set_to_none=True)
    _give_back(device)
    found = PoolCheck(
        None, "", difference, equal, repeats, pools, before, within, told_of(held(device))
    )
    return _judged(found, device)


def _judged(found: PoolCheck, device: torch.device) -> PoolCheck:
    """Say what came out: equal results, pools that held something, and all of it given back."""
    empty = [one["name"] for one in found.pools if not one["reserved_bytes"]]
    same = found.bits_equal or (
        not found.repeats_equal and found.difference is not None and found.difference < _TOLERANCE
    )
    before, after = (
        int((told or {}).get("reserved_bytes") or 0) for told in (found.before, found.after)
    )
    sizes = ", ".join(
        f"{one['name']} {format_bytes(one['allocated_bytes'])} of {format_bytes(one['reserved_bytes'])} reserved"
        for one in found.pools
        if one["reserved_bytes"] is not None
    )
    wrong = []
    if not same:
        wrong.append(f"results differ by {found.difference:.1e} from those without pools")
    if empty:
        wrong.append(f"the pool {', '.join(empty)} held nothing")
    if after > before:
        wrong.append(f"{format_bytes(after - before)} stayed reserved when the pools were let go")
    how = "bit for bit" if found.bits_equal else f"within {_TOLERANCE:g}, as this device repeats"
    message = "; ".join(wrong) or (
        f"on {device}, output and gradients with pools equal those without, {how}; {sizes}"
    )
    return PoolCheck(**{**asdict(found), "ok": not wrong, "message": message})


def _step(model: GraphModel, x: Tensor) -> list[Tensor]:
    """Return copies of the output and of all gradients of one step, which do not lie in a pool."""
    model.zero_grad(set_to_none=True)
    output = model(x)
    output.square().mean().backward()
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    return [output.detach().clone(), *(gradient.clone() for gradient in gradients)]


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(a, b, strict=True))


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) / max(float(b.abs().max()), 1e-12)


def _give_back(device: torch.device) -> None:
    gc.collect()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
        torch.accelerator.empty_cache()
