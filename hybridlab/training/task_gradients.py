"""The gradient of each task at the weights that several tasks share, and at those that are one task's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel, GroupModule, Slot
from hybridlab.architecture.reached import heads_reached, joined
from hybridlab.training.balancing import cosines
from hybridlab.training.component_metrics import over_repeats
from hybridlab.training.task_cosines import MOST_PLACES, WHOLE, cosine_name


class Trunk:
    """The weights that learn, told apart by how many tasks' heads they lead to."""

    def __init__(self, model: nn.Module, graph: GraphModel, heads: Sequence[str]) -> None:
        """Find them in a model whose frozen weights are frozen by now."""
        reached = heads_reached(graph.architecture, heads)
        users: dict[nn.Parameter, list[str]] = {}
        for module in graph.modules():
            if isinstance(module, Slot):
                for parameter in module.parameters():
                    users.setdefault(parameter, []).append(over_repeats(module.path))
            elif isinstance(module, GroupModule) and module.norm is not None:
                for parameter in module.norm.parameters():
                    users.setdefault(parameter, []).append(over_repeats(module.path))
        every = [parameter for parameter in model.parameters() if parameter.requires_grad]
        # What stands around the graph itself is on the way to every head.
        shared = [p for p in every if p not in users or len(joined(reached, users[p])) > 1]
        self.shared: list[nn.Parameter] = shared
        one = set(shared)
        self.private: list[nn.Parameter] = [p for p in every if p not in one]
        place = {parameter: index for index, parameter in enumerate(shared)}
        self.places: dict[str, list[int]] = {WHOLE: list(range(len(shared)))}
        owned = list(graph.owned())
        for path, parameters in owned:
            held = [place[p] for p in parameters if p in place]
            for address in dict.fromkeys((path, over_repeats(path))) if held else ():
                self.places.setdefault(address, []).extend(held)
        if len(self.places) * len(heads) * (len(heads) - 1) // 2 > MOST_PLACES:
            self.places = {a: h for a, h in self.places.items() if a == over_repeats(a)}
        self.last = self._last(graph, place)

    def _last(self, graph: GraphModel, place: dict[nn.Parameter, int]) -> list[int]:
        """Return the weights of the last component in running order that several tasks share."""
        for slot in reversed(list(graph.root.in_running_order())):
            held = [place[p] for p in slot.parameters() if p in place]
            if held:
                return held
        return []


class TaskGradients:
    """Gradients by task, added up over the parts of a batch; one gradient a task is in memory."""

    def __init__(self, trunk: Trunk, count: int, shared_only: bool = False) -> None:
        """Begin with none; ``shared_only`` leaves out weights that are one task's own."""
        self._trunk = trunk
        self._weights = trunk.shared if shared_only else [*trunk.shared, *trunk.private]
        self._held: list[list[Tensor | None]] = [[None] * len(self._weights) for _ in range(count)]
        self._grams: dict[int, Tensor] = {}

    def add(self, place: int, loss: Tensor, keep: bool) -> None:
        """Add the gradient of a task's loss; ``keep`` leaves the graph for another one."""
        if not self._weights:
            return
        found = torch.autograd.grad(loss, self._weights, retain_graph=keep, allow_unused=True)
        held = self._held[place]
        for index, gradient in enumerate(found):
            before = held[index]
            if gradient is not None:
                held[index] = gradient if before is None else before + gradient
        self._grams.clear()

    def gram(self) -> Tensor:
        """Return the inner products of the tasks' gradients over all shared weights (n, n), on the CPU."""
        return self._grams_at(range(len(self._trunk.shared))).sum(0)

    def last_gram(self) -> Tensor:
        """Return those over the last shared component (n, n): its weights are GradNorm's W."""
        return self._grams_at(self._trunk.last).sum(0)

    def cosines(self, names: Sequence[str]) -> dict[str, float]:
        """Return the cosine of each pair of tasks at each shared component and over the whole trunk, as metrics."""
        grams = self._grams_at(range(len(self._trunk.shared)))
        found: dict[str, float] = {}
        for address, held in self._trunk.places.items():
            near = cosines(grams[held].sum(0))
            for second in range(1, len(names)):
                for first in range(second):
                    value = float(near[first, second])
                    found[cosine_name(address, names[first], names[second])] = value
        return found

    @torch.no_grad()
    def write(self, together: Tensor, alone: Tensor) -> None:
        """Add the gradients to the weights' own: of shared ones each task's times ``together`` (n), else ``alone``."""
        count = len(self._trunk.shared)
        for index, parameter in enumerate(self._weights):
            factors = (together if index < count else alone).tolist()
            for factor, held in zip(factors, self._held, strict=True):
                gradient = held[index]
                if gradient is None:
                    continue
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.add_(gradient.to(parameter.dtype), alpha=factor)

    @torch.no_grad()
    def _grams_at(self, places: Sequence[int]) -> Tensor:
        """Return the inner products at some shared weights (weights, n, n), float64, on the CPU."""
        missing = [place for place in dict.fromkeys(places) if place not in self._grams]
        products = []
        for place in missing:
            zero = torch.zeros_like(self._trunk.shared[place])
            rows = [zero if held[place] is None else held[place] for held in self._held]
            flat = torch.stack([row.reshape(-1).float() for row in rows if row is not None])
            products.append(flat @ flat.T)
        if products:  # one copy from the device for all
            self._grams |= dict(
                zip(missing, torch.stack(products).cpu().double().unbind(), strict=True)
            )
        count = len(self._held)
        found = [self._grams[place] for place in places]
        return torch.stack(found) if found else torch.zeros(0, count, count, dtype=torch.float64)
