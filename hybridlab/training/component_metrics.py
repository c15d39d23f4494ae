"""What each component does while it learns: norm of its gradient, size of its update, load of its experts.

The names of the metrics are ``grad_norm/<address>`` (before clipping), ``update_ratio/<address>`` (norm of the change
that one update makes, over the norm of the weights before it) and ``expert_load/<address>/<expert>`` (share of the
positions). An address is a component's path, such as ``stage.0.mamba2``; that of a group, ``stage`` or ``stage.0``,
over all its weights; and that of a component over all repeats of its group, ``stage.mamba2``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hybridlab.training.spec import TrainSpec

MOST_TIMES = 200
LEAST_STEPS = 10
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
        if len(places) > MOST_ADDRESSES:
            places = {name: held for name, held in places.items() if name == over_repeats(name)}
        self._places = {address: tuple(held) for address, held in places.items()}
        self._parameters = list(index)
        self._before: list[Tensor] = []
        self._norms: list[Tensor] = []

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
            if weight := math.hypot(*(weights[place] for place in held)):
                update = math.hypot(*(updates[place] for place in held))
                found[f"update_ratio/{address}"] = update / weight
        found |= self._loads()
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _loads(self) -> dict[str, float]:
        """Return each expert's share of the positions of the last forward, and the mean over repeats."""
        reports = getattr(self._model, "reports", None)
        loads: dict[str, list[list[float]]] = {}
        for path, told in (reports() if reports is not None else {}).items():
            if isinstance(load := told.get("load"), list):
                for address in dict.fromkeys((path, over_repeats(path))):
                    if address in self._places:
                        loads.setdefault(address, []).append(load)
        return {
            f"expert_load/{address}/{expert}": math.fsum(shares) / len(shares)
            for address, listed in loads.items()
            for expert, shares in enumerate(zip(*listed, strict=True))
        }


def _norms(tensors: Sequence[Tensor | None]) -> Tensor:
    """Return each tensor's norm as one vector on the device; where there is none, 0."""
    zero = torch.zeros((), device=next((t.device for t in tensors if t is not None), None))
    return torch.stack(
        [zero if t is None else torch.linalg.vector_norm(t).float() for t in tensors]
    )
