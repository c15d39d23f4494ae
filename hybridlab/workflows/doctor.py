"""What this machine is and what was checked on it: every component runs, and agrees with the CPU."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import hybridlab
from hybridlab.architecture.fake_run import concrete_shape
from hybridlab.components import gpu_kernels
from hybridlab.components.base import BuildContext, Component, ComponentInfo
from hybridlab.components.fused_scans import which_scan
from hybridlab.components.registry import palette
from hybridlab.components.token_mixers import fla_kernels
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.hardware.caches import device_caches
from hybridlab.hardware.ceilings import Ceilings, ceilings, fingerprint
from hybridlab.hardware.devices import choose, devices
from hybridlab.hardware.kept import entries, put
from hybridlab.hardware.meters.here import instruments
from hybridlab.hardware.published import LABEL, published, table
from hybridlab.runs.condition import facts as runs_facts
from hybridlab.runs.home import home
from hybridlab.workflows.pool_check import check_pools

_WIDTH, _BATCH, _LENGTH, _SIDE = 64, 2, 65, 8
_TOLERANCE = 2e-3
"""Largest difference to the CPU, relative to the largest value; accelerators add in another order."""
_FORMS: dict[TensorKind, tuple[tuple[str | int, ...], str]] = {
    TensorKind.TOKENS: (("B", "L"), "int64"),
    TensorKind.SEQUENCE: (("B", "L", _WIDTH), "float32"),
    TensorKind.SERIES: (("B", "L", 3), "float32"),
    TensorKind.IMAGE: (("B", 3, _SIDE, _SIDE), "float32"),
    TensorKind.VECTOR: (("B", _WIDTH), "float32"),
    TensorKind.LOGITS: (("B", "L", 10), "float32"),
}


@dataclass(frozen=True)
class ComponentCheck:
    """Whether a component built and ran forward and backward on a device, and how far it is from the CPU there.

    ``difference`` is the largest one of outputs and gradients, relative to the largest value; None on the CPU itself.
    """

    name: str
    ok: bool
    difference: float | None
    message: str


def facts(
    device: str = "auto",
    *,
    again: bool = False,
    on_progress: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Return this installation's facts as plain JSON; earlier measurements and checks are taken from the home folder.

    The CPU is measured with as many threads as a run gets.

    Raises:
        DeviceError: there is no such device.
        StoreError: the home folder or the store cannot be opened.
    """
    chosen = str(choose(device))
    place = home()
    on_progress("looking at runs and store")
    known = runs_facts()
    torch.set_num_threads(known["threads_per_run"])
    on_progress(f"measuring {chosen}")
    measured: Ceilings = ceilings(place, chosen, again=again)
    on_progress(f"checking components on {chosen}")
    checks = _kept_checks(place, chosen, again)
    on_progress(f"checking memory pools on {chosen}")
    pools = check_pools(torch.device(chosen))
    return {
        "hybridlab": hybridlab.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "torch_built_for": _built_for(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "scan": which_scan(),
        "linear_attention": fla_kernels.missing() or "fla's kernels run on the GPU",
        "gpu_kernels": {
            **gpu_kernels.told(),
            "fla, RWKV-7": fla_kernels.missing()
            or "fla's kernel of RWKV-7 runs on the GPU, in 16 bits",
        },
        "devices": [found.as_dict() for found in devices()],
        "device": chosen,
        "runs": known,
        "ceilings": measured.as_dict(),
        "caches": [asdict(cache) for cache in device_caches(torch.device(chosen))],
        "published": _published(measured.title),
        "meters": instruments(torch.device(chosen)).as_dict(),
        "checks": [asdict(check) for check in checks],
        "memory_pools": pools.as_dict(),
        "ok": all(check.ok for check in checks) and pools.ok is not False,
    }


def check_components(device: torch.device) -> list[ComponentCheck]:
    """Build every component with its default parameters and run it forward and backward on a device."""
    return [check_component(info, device) for info in palette().values()]


def check_component(info: ComponentInfo, device: torch.device) -> ComponentCheck:
    """Check one component: everything that goes wrong becomes the message."""
    try:
        here = _results(info, device)
        if not all(bool(torch.isfinite(tensor).all()) for tensor in here):
            return ComponentCheck(info.name, False, None, "gives values that are not finite")
        if device.type == "cpu":
            return ComponentCheck(info.name, True, None, "")
        there = _results(info, torch.device("cpu"))
        difference = max(_difference(a.cpu(), b) for a, b in zip(here, there, strict=True))
    except Exception as error:  # whatever a device does is what the user wants to be told
        reason = str(error).strip().splitlines()
        return ComponentCheck(
            info.name, False, None, f"{type(error).__name__}: {reason[0][:200] if reason else ''}"
        )
    close = difference <= _TOLERANCE
    return ComponentCheck(
        info.name, close, difference, "" if close else f"differs from the CPU by {difference:.1e}"
    )


def _results(info: ComponentInfo, device: torch.device) -> list[torch.Tensor]:
    """Return a component's output and the gradients of its floating inputs and weights, of equal draws everywhere."""
    kind = sorted(info.cls.accepts)[0]
    shape, dtype = _FORMS[kind]
    params = info.cls.Params()
    given = tuple(
        TensorType(kind, tuple(length if size == "L" else size for size in shape), dtype)
        for length in info.cls.input_lengths(params)
    )
    context = BuildContext(given, _WIDTH)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body: Component = info.cls(params, context).to(device)
    inputs = [_input(item, generator).to(device) for item in context.inputs]
    floating = [tensor.requires_grad_() for tensor in inputs if tensor.is_floating_point()]
    output = body(*inputs)
    weights = [*floating, *body.parameters()]
    if not weights:
        return [output.detach()]
    # A sum of squares, so that a constant factor in front of the output cannot hide.
    gradients = torch.autograd.grad(output.float().square().mean(), weights, materialize_grads=True)
    return [output.detach(), *gradients]


def _input(given: TensorType, generator: torch.Generator) -> torch.Tensor:
    shape = concrete_shape(given, _BATCH, _LENGTH)
    if given.dtype == "int64":
        return torch.randint(0, 8, shape, generator=generator)
    return torch.randn(shape, generator=generator)


def _difference(a: torch.Tensor, b: torch.Tensor) -> float:
    scale = max(float(b.abs().max()), 1e-6)
    return float((a.float() - b.float()).abs().max()) / scale


def _published(title: str) -> dict[str, Any]:
    """Return what the maker publishes of the device beside the whole table, labelled as such."""
    peak = published(title)
    return {
        "label": LABEL,
        "device": peak.as_dict() if peak is not None else None,
        "table": table(),
    }


def _built_for() -> str:
    for name in ("cuda", "hip", "xpu"):
        if version := getattr(torch.version, name, None):
            return f"{name} {version}"
    return "cpu"


def _kept_checks(place: Path, device: str, again: bool) -> list[ComponentCheck]:
    """Return the checks kept for this build, device and palette, or make them now and keep them."""
    file = place / "checks.json"
    key = f"{hybridlab.__version__} {fingerprint(device, torch.get_num_threads())} {','.join(palette())}"
    try:
        found = [ComponentCheck(**entry) for entry in entries(file).get(key, ())]
    except TypeError:
        found = []
    if found and not again:
        return found
    made = check_components(torch.device(device))
    if all(check.ok for check in made):
        put(file, key, [asdict(check) for check in made])
    return made
