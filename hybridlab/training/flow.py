"""How gradients flow through a run: what was measured of each component, in running order, and over steps.

Free of torch: it reads the metrics that ``component_metrics`` wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hybridlab.architecture.spec import Architecture, Node

Curve = tuple[Sequence[int], Sequence[float | None]]
"""Steps, and the values at them."""
Kinds = Callable[[str], str | None]
"""The family of a component by its name; None for one that is not known."""


class Quantity(NamedTuple):
    """Something that is measured of components: its title, its unit, what it tells, and how it is drawn."""

    title: str
    unit: str
    help: str
    logarithmic: bool


QUANTITIES: Mapping[str, Quantity] = {
    "grad_norm": Quantity(
        "Gradient norm",
        "norm",
        "The norm of the gradient of a part's weights, before clipping.",
        True,
    ),
    "update_ratio": Quantity(
        "Update ratio",
        "norm of one update ÷ norm of the weights",
        "How far an update moves a part's weights, as a share of them; about 0.001 is usual.",
        True,
    ),
    "weight_norm": Quantity("Weight norm", "norm", "The norm of a part's weights.", True),
    "activation_mean": Quantity(
        "Activation mean", "mean", "The mean of what a part gives, before its residual.", False
    ),
    "activation_variance": Quantity(
        "Activation variance",
        "variance",
        "The variance of what a part gives, before its residual.",
        True,
    ),
    "dead_share": Quantity(
        "Dead units",
        "share of units",
        "Units that give the same at every position of a batch, in what a part gives or behind its activation "
        "function, whichever share is larger.",
        False,
    ),
    "saturated_share": Quantity(
        "Saturation",
        "share of gate values",
        "Values of sigmoids and tanhs whose slope is below a twentieth of its largest. Gates inside kernels (LSTM, "
        "GRU, fused scans) are not seen.",
        False,
    ),
    "router_entropy": Quantity(
        "Router entropy",
        "share of that of equal chances",
        "How undecided a router is at each position: 1 takes all experts alike, 0 is sure of one.",
        False,
    ),
    "attention_entropy": Quantity(
        "Attention entropy",
        "share of that of equal weights",
        "How spread attention is: 1 looks at all visible positions alike, 0 at one. It is computed beside the fast "
        "path, for up to 32 queries of one sample; attention with soft caps, sinks, slopes or sparse choices is not "
        "seen.",
        False,
    ),
}
"""What is measured of components, by the name that metrics begin with."""


@dataclass(frozen=True)
class Part:
    """A component in its place: its path, the path of ids in its file, its component's name and its family."""

    path: str
    ids: str
    use: str
    kind: str
    node: Node


@dataclass(frozen=True)
class Flow:
    """What a run measured of its components: parts in running order, and curves by quantity and path."""

    parts: tuple[Part, ...]
    curves: Mapping[str, Mapping[str, Mapping[int, float]]]
    """Values by quantity, path and step; values that are not finite are left out."""
    loads: Mapping[str, Mapping[int, tuple[float, ...]]]
    """Each expert's share by path and step."""

    def steps(self, quantity: str) -> list[int]:
        """Return the steps at which a quantity was measured, in order."""
        every = self.curves.get(quantity, {})
        return sorted({step for curve in every.values() for step in curve})

    def ratios(self) -> dict[int, float]:
        """Return the largest over the smallest gradient norm of single components by step; zeros do not count."""
        found: dict[int, list[float]] = {}
        for curve in self.curves.get("grad_norm", {}).values():
            for step, value in curve.items():
                if value > 0:
                    found.setdefault(step, []).append(value)
        return {step: max(every) / min(every) for step, every in sorted(found.items())}


def flow(architecture: Architecture, kinds: Kinds, curves: Mapping[str, Curve]) -> Flow:
    """Return what was measured of the components of an architecture, which has its input and its head.

    Args:
        architecture: what was trained, with what the task supplied.
        kinds: the family of a component by its name.
        curves: every metric of the run by name.
    """
    measured: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        quantity, _, address = name.partition("/")
        measured.setdefault(quantity, {})[address] = curve
    known = set().union(*(measured.get(quantity, {}) for quantity in QUANTITIES))
    parts = _known(tuple(parts_of(architecture, kinds)), known)
    paths = [part.path for part in parts]
    return Flow(
        parts,
        {
            quantity: {
                path: finite(measured[quantity][path])
                for path in paths
                if path in measured.get(quantity, {})
            }
            for quantity in QUANTITIES
        },
        {path: load for path in paths if (load := _load(path, measured.get("expert_load", {})))},
    )


def finite(curve: Curve) -> dict[int, float]:
    """Return a curve's values by step; where a step was made again after a resume, the later one."""
    return {step: value for step, value in zip(*curve, strict=True) if value is not None}


def parts_of(architecture: Architecture, kinds: Kinds) -> Iterator[Part]:
    """Yield every component in running order; the repeats of a tied group are one."""
    yield from _parts(architecture.nodes, "", "", kinds)


def _parts(nodes: Sequence[Node], path: str, ids: str, kinds: Kinds) -> Iterator[Part]:
    for node in nodes:
        here, named = f"{path}{node.id}", f"{ids}{node.id}"
        if node.use is not None:
            yield Part(here, named, node.use, kinds(node.use) or "", node)
        elif node.repeat == 1 or node.runs_again:
            yield from _parts(node.nodes, f"{here}.", f"{named}.", kinds)
        else:
            for number in range(node.repeat):
                yield from _parts(node.nodes, f"{here}.{number}.", f"{named}.", kinds)


def _known(parts: tuple[Part, ...], measured: set[str]) -> tuple[Part, ...]:
    """Return the parts that were measured; of a run that measured repeats together only, each once for all."""
    found: dict[str, Part] = {}
    for part in parts:
        if part.path in measured:
            found.setdefault(part.path, part)
        elif part.ids in measured:
            found.setdefault(part.ids, Part(part.ids, part.ids, part.use, part.kind, part.node))
    return tuple(found.values())


def _load(path: str, curves: Mapping[str, Curve]) -> dict[int, tuple[float, ...]]:
    """Return a router's load by step, as far as every expert's share is known there."""
    experts = {
        int(last): finite(curve)
        for address, curve in curves.items()
        if (last := address.rpartition("/")[2]).isdigit() and address.rpartition("/")[0] == path
    }
    if not experts:
        return {}
    steps = set.intersection(*(set(curve) for curve in experts.values()))
    return {
        step: tuple(experts[expert][step] for expert in sorted(experts)) for step in sorted(steps)
    }


def branches(architecture: Architecture, join: str) -> dict[str, set[str]]:
    """Return the components of each branch that meets at a join, by the name that the join reads it under.

    A branch is what stands before the join and before none of its other branches; both are paths of ids.
    """
    nodes, prefix = architecture.nodes, ""
    for step in join.split(".")[:-1]:
        nodes = next(node for node in nodes if node.id == step).nodes
        prefix += f"{step}."
    places = {node.id: place for place, node in enumerate(nodes)}

    def before(name: str) -> set[str]:
        found: set[str] = set()
        waiting = [name]
        while waiting:
            here = waiting.pop()
            if here in places and here not in found:
                found.add(here)
                waiting += _reads(nodes, places[here])
        return found

    whole = {name: before(name) for name in _reads(nodes, places[join.rpartition(".")[2]])}
    found = {}
    for name, held in whole.items():
        others = set().union(*(other for key, other in whole.items() if key != name))
        mine = [nodes[places[each]] for each in held - others]
        found[name] = {ids for node in mine for ids in _components(node, prefix)}
    return found


def _reads(nodes: Sequence[Node], place: int) -> list[str]:
    if nodes[place].inputs is not None:
        return list(nodes[place].inputs or ())
    return [nodes[place - 1].id] if place else []


def _components(node: Node, prefix: str) -> Iterator[str]:
    if node.use is not None:
        yield f"{prefix}{node.id}"
    for child in node.nodes:
        yield from _components(child, f"{prefix}{node.id}.")
