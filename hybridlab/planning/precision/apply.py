"""Lets components of a model compute in a number format of their own, and as they did again.

By autocast around a component's own forward (https://docs.pytorch.org/docs/stable/amp.html): its products run in the
format, what would lose too much runs in float32 all the same. Numbers are float32 at its border, on both sides, and
its weights stay as they are. It is part of the forward, so that a plan which computes it again does the same again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from hybridlab.architecture.model import GraphModel, Slot
from hybridlab.components.base import Component, float_dtype
from hybridlab.errors import Problem, RunError
from hybridlab.planning.precision.record import Format, Precisions
from hybridlab.training.precision import has_bfloat16


class Mixed:
    """Formats of one model's components, on or off."""

    def __init__(
        self, model: GraphModel, precisions: Precisions, device: torch.device | None = None
    ) -> None:
        """Check them; nothing changes yet. ``device`` is where the model will run, if that is not where it lies.

        Raises:
            RunError: they were made for another architecture or kind of device, name what is no component, or a format
                that cannot be had; all of it.
        """
        precisions.check_design(model.architecture.fingerprint)
        first = next(model.parameters(), None)
        where = device or (torch.device("cpu") if first is None else first.device)
        bodies = {path: slot.body for path, slot in model.slots()}
        if problems := list(_problems(precisions, bodies, where)):
            raise RunError(problems)
        self.precisions = precisions
        self._bodies = [(bodies[path], name) for path, name in precisions.formats.items()]
        self._on = False

    def on(self) -> None:
        """Let them compute so from now on.

        Raises:
            RunError: other formats are on.
        """
        if self._on:
            return
        if any("forward" in body.__dict__ for body, _ in self._bodies):
            fix = "turn them off first"
            raise RunError(Problem("precisions", "others are applied to this model", fix=fix))
        for body, name in self._bodies:
            body.__dict__["forward"] = functools.partial(_at, getattr(torch, name), body)
        self._on = True

    def off(self) -> None:
        """Let them compute as the step does."""
        if self._on:
            for body, _ in self._bodies:
                body.__dict__.pop("forward", None)
        self._on = False


def mix(
    model: GraphModel,
    precisions: Precisions,
    *,
    within: str = "float32",
    device: torch.device | None = None,
) -> Mixed:
    """Let components of a model that trains in the format ``within`` compute in theirs from now on.

    Raises:
        RunError: they were measured for inference, within another format, or do not fit the model or the device.
    """
    precisions.check_training()
    if precisions.within != within:
        raise RunError(
            Problem(
                "precisions",
                "go with a training in another format",
                precisions.within,
                within,
                f"set precision to {precisions.within}, or measure them anew",
            )
        )
    made = Mixed(model, precisions, device)
    made.on()
    return made


def check_products(
    model: GraphModel, precisions: Precisions, products: Iterable[tuple[str, ...]]
) -> None:
    """Refuse maps that a fusion computes as one product where their components compute in different formats.

    Raises:
        RunError: there are such; it names them.
    """
    owners = {name: m.path for name, m in model.named_modules() if isinstance(m, Slot)}
    problems = []
    for names in products:
        paths = {path for own, path in owners.items() for n in names if n.startswith(f"{own}.")}
        if len({precisions.formats.get(path) for path in paths}) > 1:
            some = ", ".join(sorted(paths))
            what = f"tell apart what the fusion computes as one product: {some}"
            fix = "take out fusion, or name all of them or none"
            problems.append(Problem("precisions.formats", what, fix=fix))
    if problems:
        raise RunError(problems)


def unable(device: torch.device, name: Format, *, training: bool) -> str:
    """Say why a device cannot compute in a format by component; nothing where it can."""
    if name == "float32":
        return ""
    if not torch.amp.is_autocast_available(device.type):
        return f"PyTorch has no formats of its own for {device.type}"
    if name == "float16" and training:
        return "gradients of single components would be lost in float16; bfloat16 holds them"
    if name == "bfloat16" and device.type != "cpu" and not has_bfloat16(device):
        return f"{device} does not have bfloat16"
    return ""


def odd(component: Component) -> str:
    """Say why a component cannot have a format of its own; nothing where it can."""
    if type(component).exit is not Component.exit:
        return "hands on scores beside its output"
    return ""


def _problems(
    precisions: Precisions, bodies: Mapping[str, Component], device: torch.device
) -> Iterable[Problem]:
    if device.type != precisions.device:
        what = "were measured on another kind of device"
        fix = "measure them on this one"
        yield Problem("precisions", what, precisions.device, device.type, fix)
        return
    for path, name in precisions.formats.items():
        where = f"precisions.formats.{path}"
        if path not in bodies:
            yield Problem(where, "is no component of this model")
        elif why := odd(bodies[path]):
            yield Problem(where, f"has no format of its own: it {why}", fix="leave it out")
        elif why := unable(device, name, training=precisions.training):
            yield Problem(where, why, got=name)


def _at(dtype: torch.dtype, body: Component, *inputs: Tensor) -> Tensor:
    """Run a component in a format; numbers come in and go out in float32."""
    kind = inputs[0].device.type
    given = [_wide(x) for x in inputs]
    with _context(kind, dtype):
        output: Tensor = type(body).forward(body, *given)
    return _wide(output)


def _context(kind: str, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Return the context for a format; casts of weights are kept in it, but not beside those of another format."""
    if dtype is torch.float32:
        return torch.autocast(kind, enabled=False)
    return torch.autocast(kind, dtype, cache_enabled=not torch.is_autocast_enabled(kind))


def _wide(x: Tensor) -> Tensor:
    return x.to(float_dtype(x)) if x.is_floating_point() else x
