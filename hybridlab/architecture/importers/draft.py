"""A model as a family reads it: parts with their weights, layer by layer; layers that repeat become groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from hybridlab.architecture.document import implied_id
from hybridlab.architecture.importers.weights import Take, Weights
from hybridlab.architecture.spec import Architecture, Node, Residual
from hybridlab.errors import SpecError
from hybridlab.validation import problems_from


@dataclass(frozen=True)
class Part:
    """A node to be: a component with parameters, or a group of parts; its weights are named as in its slot.

    Parts that refer to each other by ``inputs`` belong into a group of their own, with ids.
    """

    use: str | None = None
    params: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Take] = field(default_factory=dict)
    id: str | None = None
    inputs: tuple[str, ...] | None = None
    residual: Residual | None = None
    parts: tuple[Part, ...] = ()
    share: str | None = None
    """The path of the part whose weights this one uses; its own are those that it does not share."""
    lora: int | None = None

    def shape(self) -> tuple[Any, ...]:
        """Return what tells two nodes apart, weights aside."""
        params = tuple(sorted((key, repr(value)) for key, value in self.params.items()))
        inner = tuple(part.shape() for part in self.parts)
        own = (self.id, self.inputs, self.residual, self.share, self.lora)
        return (self.use, params, *own, inner)


Layer = Sequence[Part]


@dataclass
class Draft:
    """What a family makes of a config: width, the norm of residuals, and parts in their order."""

    width: int
    norm: str = "rms_norm"
    norm_eps: float | None = None
    before: list[Part] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    after: list[Part] = field(default_factory=list)
    unused: tuple[str, ...] = ()
    """Patterns of published names that stand for nothing here."""

    def finish(self, name: str, source: str, description: str) -> tuple[Architecture, Weights]:
        """Return the architecture and where its weights come from.

        Raises:
            SpecError: the name, the width or what describes it is out of range.
        """
        weights: dict[str, dict[str, Take]] = {}
        taken: set[str] = set()
        nodes = _placed(self.before, taken, "", weights)
        for block in blocks(self.layers):
            nodes += _placed_block(block, taken, weights)
        nodes += _placed(self.after, taken, "", weights)
        try:
            architecture = Architecture(
                name=name,
                source=source,
                description=description,
                width=self.width,
                norm=self.norm,
                norm_eps=self.norm_eps,
                nodes=tuple(nodes),
            )
        except ValidationError as error:
            raise SpecError(problems_from(error)) from None
        return architecture, weights


def blocks(layers: Sequence[Layer]) -> list[list[list[Part]]]:
    """Cut layers into blocks that repeat: one, where the whole is a pattern, else as few layers as can be written down.

    Returns each block as its repeats, each the parts of one or more layers; equal but for their weights.
    """
    shapes = [tuple(part.shape() for part in layer) for layer in layers]
    count = len(layers)
    for period in range(1, count // 2 + 1):
        if count % period == 0 and shapes[:period] * (count // period) == shapes:
            return [_repeats(layers, 0, period, count // period)]
    best: list[tuple[int, int, int]] = [(0, 0, 0)] * (len(layers) + 1)  # cost, period, repeats
    for start in reversed(range(len(layers))):
        choices = []
        for period in range(1, len(layers) - start + 1):
            repeats = 1
            while (
                shapes[start : start + period]
                == shapes[start + repeats * period : start + (repeats + 1) * period]
            ):
                repeats += 1
            if repeats > 1 or period == 1:
                rest = best[start + repeats * period][0]
                choices.append((period + rest, period, repeats))
        best[start] = min(choices)
    found, start = [], 0
    while start < count:
        _, period, repeats = best[start]
        found.append(_repeats(layers, start, period, repeats))
        start += period * repeats
    return found


def _repeats(layers: Sequence[Layer], start: int, period: int, repeats: int) -> list[list[Part]]:
    """Return the parts of each repeat of a block of ``period`` layers."""
    starts = [start + period * index for index in range(repeats)]
    return [[part for layer in layers[i : i + period] for part in layer] for i in starts]


def _placed_block(
    block: list[list[Part]], taken: set[str], weights: dict[str, dict[str, Take]]
) -> list[Node]:
    if len(block) == 1:
        return _placed(block[0], taken, "", weights)
    whole = block[0][0]
    if len(block[0]) == 1 and whole.parts and whole.residual is None and whole.inputs is None:
        block = [list(parts[0].parts) for parts in block]  # a layer that is a group repeats itself
    name = _fresh("layers", taken)
    repeats = [
        _placed(parts, set(), f"{name}.{index}.", weights) for index, parts in enumerate(block)
    ]
    return [Node(id=name, repeat=len(block), nodes=tuple(repeats[0]))]


def _placed(
    parts: Sequence[Part], taken: set[str], prefix: str, weights: dict[str, dict[str, Take]]
) -> list[Node]:
    nodes = []
    for part in parts:
        name = _fresh(part.id or implied_id(part.use or "layer"), taken)
        path = f"{prefix}{name}"
        if part.weights:
            weights[path] = part.weights
        nodes.append(
            Node(
                id=name,
                use=part.use,
                params=part.params,
                inputs=part.inputs,
                residual=part.residual,
                share=part.share,
                lora=part.lora,
                nodes=tuple(_placed(part.parts, set(), f"{path}.", weights)),
            )
        )
    return nodes


def _fresh(base: str, taken: set[str]) -> str:
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    taken.add(name)
    return name
