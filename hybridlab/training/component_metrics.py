"""What each component does while it learns: its gradient, its weights and their updates, and what it gives.

The names of the metrics are ``grad_norm/<address>`` (before clipping), ``weight_norm/<address>``,
``update_ratio/<address>`` (norm of the change that one update makes, over the norm of the weights before it), what
``activation_metrics`` sees of the forward (``activation_mean``, ``activation_variance``, ``dead_share``,
``saturated_share``, ``attention_entropy``), ``router_entropy/<address>`` (over that of equal shares, 0 to 1) and
``expert_load/<address>/<expert>`` (share of the positions). An address is a component's path, such as
``stage.0.mamba2``; that of a group, ``stage`` or ``stage.0``, over all its weights; and that of a component over all
repeats of its group, ``stage.mamba2``.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from hybridlab.training.activation_metrics import Look
from hybridlab.training.spec import TrainSpec

MOST_TIMES = 200
LEAST_STEPS = 20
"""A measured step takes about a fifth longer than another: of all steps together that is a hundredth."""
MOST_ADDRESSES = 400
"""Beyond it, repeats are told together only."""


def interval(spec: TrainSpec) -> int:
    """Return the steps from one measurement to the next, 0 for never; about 200 in a training where nothing is said."""
    if spec.component_metrics_every is not None:
        return spec.component_metrics_every
    return max(LEAST_STEPS, math.ceil(spec.steps / MOST_TIMES))


def addresses(path: str) -> list[str]:
    """Return under which addresses a component's weights count: its path, the groups around it, and over repeats."""
    steps = path.split(".")
    apart = [".".join(steps[: depth + 1]) for depth in range(len(steps))]
    return list(dict.fromkeys([*apart, *map(over_repeats, apart)]))


def over_repeats(path: str) -> str:
    """Return the address of a component over all repeats of the groups around it: ``stage.mamba2``."""
    return ".".join(step for step in path.split(".") if not step.isdigit())


class ComponentMetrics:
    """Measures one update of the weights now and then, in a few passes over them; a copy lives for one update."""

    def __init__(self, model: nn.Module, spec: TrainSpec) -> None:
        """Find the components; a model that does not name them (``owned``) has none."""
        self._model = model
        self._every = interval(spec)
        owned = getattr(model, "owned", None)
        listed: list[tuple[str, list[nn.Parameter]]] = list(owned()) if owned is not None else []
        index: dict[nn.Parameter, int] = {}
        places: dict[str, dict[int, None]] = {}
        for path, parameters in listed:
            for parameter in parameters:
                if parameter.requires_grad:
                    place = index.setdefault(parameter, len(index))
                    for address in addresses(path):
                        places.setdefault(address, {})[place] = None
        self._together = len(places) > MOST_ADDRESSES
        if self._together:
            places = {name: held for name, held in places.items() if name == over_repeats(name)}
        self._places = {address: tuple(held) for address, held in places.items()}
        self._parameters = list(index)
        self._before: list[Tensor] = []
        self._norms: list[Tensor] = []
        slots = getattr(model, "slots", None)
        self._bodies = {path: slot.body for path, slot in slots()} if slots is not None else {}
        self._look: Look | None = None

    def begin(self, step: int) -> bool:
        """Say whether the update that makes this the number of updates is measured, and be ready to look at it."""
        self._look = Look(self._bodies) if self.due(step) else None
        return self._look is not None

    def looking(self) -> contextlib.AbstractContextManager[None]:
        """Look at the forward that runs in here, where its update is measured."""
        return contextlib.nullcontext() if self._look is None else self._look.active()

    def due(self, step: int) -> bool:
        """Say whether the update that makes this the number of updates is to be measured; the first one always is."""
        return bool(self._every and self._places) and (step == 1 or step % self._every == 0)

    def before_update(self) -> None:
        """Note gradients (not clipped yet) and weights."""
        self._norms = [_norms([p.grad for p in self._parameters])]
        self._before = [parameter.detach().clone() for parameter in self._parameters]

    def after_update(self) -> dict[str, float]:
        """Return the metrics of the update that was made since; values that are not finite are left out."""
        changes = [p.detach() - old for p, old in zip(self._parameters, self._before, strict=True)]
        norms = torch.stack([*self._norms, _norms(changes), _norms(self._before)])
        self._before, self._norms = [], []
        gradients, updates, weights = norms.tolist()
        found: dict[str, float] = {}
        for address, held in self._places.items():
            found[f"grad_norm/{address}"] = math.hypot(*(gradients[place] for place in held))
            weight = math.hypot(*(weights[place] for place in held))
            found[f"weight_norm/{address}"] = weight
            if weight:
                update = math.hypot(*(updates[place] for place in held))
                found[f"update_ratio/{address}"] = update / weight
        found |= self._seen()
        found |= self._reported()
        self._look = None
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _seen(self) -> dict[str, float]:
        """Return what was seen of the forward; over repeats, its mean."""
        told = self._look.told() if self._look is not None else {}
        every = [(path, name, value) for path, seen in told.items() for name, value in seen.items()]
        if not every:
            return {}
        values = torch.stack([value for _, _, value in every]).tolist()
        return self._averaged(
            (path, name, value) for (path, name, _), value in zip(every, values, strict=True)
        )

    def _reported(self) -> dict[str, float]:
        """Return the load of experts and the entropy of routers in the last forward."""
        reports = getattr(self._model, "reports", None)
        every: list[tuple[str, str, float]] = []
        for path, told in (reports() if reports is not None else {}).items():
            load, entropy = told.get("load"), told.get("router_entropy")
            if not isinstance(load, list):
                continue
            every += [(path, f"expert_load/{expert}", share) for expert, share in enumerate(load)]
            if isinstance(entropy, float) and len(load) > 1:
                every.append((path, "router_entropy", entropy / math.log(len(load))))
        return self._averaged(every)

    def _averaged(self, every: Iterable[tuple[str, str, float]]) -> dict[str, float]:
        """Return metrics of paths, and their means over repeats; of ``name/part`` the part stands last."""
        sums: dict[str, list[float]] = {}
        for path, name, value in every:
            for address in dict.fromkeys((path, over_repeats(path))):
                if not self._together or address == over_repeats(address):
                    first, _, part = name.partition("/")
                    whole = f"{first}/{address}/{part}" if part else f"{first}/{address}"
                    sums.setdefault(whole, []).append(value)
        return {name: math.fsum(values) / len(values) for name, values in sums.items()}


def _norms(tensors: Sequence[Tensor | None]) -> Tensor:
    """Return each tensor's norm as one vector on the device; where there is none, 0."""
    zero = torch.zeros((), device=next((t.device for t in tensors if t is not None), None))
    return torch.stack(
        [zero if t is None else torch.linalg.vector_norm(t).float() for t in tensors]
    )
