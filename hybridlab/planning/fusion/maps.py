"""Linear maps computed together: one product for all that read a tensor, their weights staying what they are.

Each map keeps its own parameters under their names. State dicts and the states of optimisers are therefore those of
the model as it was, and nothing has to be mapped back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hybridlab.architecture.written import marks, version
from hybridlab.planning.fusion.norms import affine_of


class Shared:
    """Values that several places ask for in turn, each once, made when the first of them asks.

    They hold for one tensor, known by identity and version; whoever comes with another one makes them anew.
    """

    def __init__(self, places: int) -> None:
        """Know how many places ask."""
        self._values: list[Tensor | None] = [None] * places
        self._of: Tensor | None = None
        self._state: tuple[int, bool] = (0, False)
        self.wasted = 0
        """How often values were made that nobody asked for."""

    def __len__(self) -> int:
        """How many places ask."""
        return len(self._values)

    def take(self, place: int, x: Tensor) -> Tensor | None:
        """Return what is ready for a place that reads ``x``; None where it has to be made."""
        if x is not self._of or _state(x) != self._state:
            return None
        value, self._values[place] = self._values[place], None
        if all(other is None for other in self._values):
            self._of = None
        return value

    def put(self, place: int, x: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Keep what was made of ``x`` for the other places; return that of this one."""
        self.forget()
        if len(values) > 1:
            self._of, self._state = x, _state(x)
            self._values = [None if at == place else value for at, value in enumerate(values)]
        return values[place]

    def forget(self) -> None:
        """Drop what nobody asked for."""
        if self._of is not None:
            self.wasted += 1
            self._of = None
            self._values = [None] * len(self._values)


def _state(x: Tensor) -> tuple[int, bool]:
    return version(x), torch.is_grad_enabled()


class Together:
    """Some linear maps of one tensor as one product; a norm before a map gives it its scale and its shift.

    In training their weights are joined in each forward, so that each gets its gradient; for inference once, and
    again when one of them has changed.
    """

    def __init__(
        self, maps: Sequence[nn.Linear], norms: Sequence[nn.Module | None], *, training: bool
    ) -> None:
        """Know the maps and, for each, the norm that is folded into it."""
        self.maps = tuple(maps)
        self.norms = tuple(norms)
        self.training = training
        self.sizes = [one.out_features for one in maps]
        self.shared = Shared(len(self.maps))
        owners = [one for one in (*self.maps, *self.norms) if one is not None]
        self._places = [(one._parameters, name) for one in owners for name in one._parameters]
        self._stamp: tuple[object, ...] = ()
        self._made: tuple[Tensor, Tensor | None] | None = None

    def __call__(self, place: int, x: Tensor) -> Tensor:
        """Return (..., out) of the map at a place for (..., in)."""
        if (
            torch.compiler.is_compiling()
        ):  # what is kept between calls is nothing for a traced program
            return F.linear(x, *_folded(self.maps[place], self.norms[place]))
        ready = self.shared.take(place, x)
        if ready is not None:
            return ready
        made = F.linear(x, *self.weights())
        if len(self.sizes) == 1:
            return made
        return self.shared.put(place, x, torch.split(made, self.sizes, dim=-1))

    def weights(self) -> tuple[Tensor, Tensor | None]:
        """Return the weights (sum of out, in), one below the other, and the biases (sum of out) or None."""
        if self.training:
            return self._joined()
        held = [tensor for own, name in self._places if (tensor := own[name]) is not None]
        stamp = marks(held)
        if self._made is None or stamp != self._stamp:
            with torch.no_grad():
                self._made, self._stamp = self._joined(), stamp
        return self._made

    def _joined(self) -> tuple[Tensor, Tensor | None]:
        weights, biases = zip(*map(_folded, self.maps, self.norms), strict=True)
        if len(weights) == 1:
            return weights[0], biases[0]
        bias = None
        if any(one is not None for one in biases):
            pairs = zip(weights, biases, strict=True)
            bias = torch.cat([w.new_zeros(len(w)) if b is None else b for w, b in pairs])
        return torch.cat(weights), bias


class FusedLinear(nn.Linear):
    """A linear map that is computed together with others; ``fuse`` makes it of an ``nn.Linear``, and back."""

    _together: Together
    _place: int

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        return self._together(self._place, input)


def join(together: Together) -> None:
    """Let the maps be computed together from now on."""
    for place, one in enumerate(together.maps):
        one.__class__ = FusedLinear
        one.__dict__.update(_together=together, _place=place)


def part(together: Together) -> None:
    """Let the maps be computed each by itself again."""
    for one in together.maps:
        one.__class__ = nn.Linear
        for name in ("_together", "_place"):
            one.__dict__.pop(name, None)


def _folded(linear: nn.Linear, norm: nn.Module | None) -> tuple[Tensor, Tensor | None]:
    """Return W diag(scale) and b + W shift, which give of the bare norm what W and b give of the norm."""
    weight: Tensor = linear.weight
    bias: Tensor | None = linear.bias
    if norm is None:
        return weight, bias
    scale, shift = affine_of(norm)
    if shift is not None:
        moved = weight @ shift.to(weight.dtype)
        bias = moved if bias is None else bias + moved
    return weight if scale is None else weight * scale.to(weight.dtype), bias
