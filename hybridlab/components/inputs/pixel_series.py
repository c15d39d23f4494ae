"""Pixel series: raw values, one position at a time, projected to the model's width."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from hybridlab.components import base
from hybridlab.components.base import BuildContext, Component, State, component, field
from hybridlab.components.inputs.positions import LearnedPositions
from hybridlab.components.types import TensorKind
from hybridlab.errors import Problem


@component(
    "pixel_series",
    kind="input",
    title="Pixel or sensor series",
    summary="Projects the raw values of each position (pixels, sensor channels) to the width.",
    cost="linear",
    paper="https://arxiv.org/abs/1504.00941",
)
class PixelSeries(Component):
    """Raw values (B, L, C) to vectors (B, L, D) by one linear map, as in pixel-by-pixel digits.

    ``y_t = v_t W + b + p_t``, with p the positions, where there are some. Learned ones are off: attention
    has rotary positions, and scans know order by themselves.
    """

    class Params(base.Params):
        """Parameters of ``pixel_series``."""

        positions: bool = field(False, help="Add a learned vector for each position.")
        max_length: int = field(
            1024,
            help="Longest series that learned positions cover.",
            ge=1,
            le=1_048_576,
            unit="positions",
        )

    params: Params
    accepts = frozenset({TensorKind.SERIES})

    def __init__(self, params: Params, context: BuildContext) -> None:
        """Create the projection and, if wanted, the positions."""
        super().__init__(params, context)
        self.projection = nn.Linear(context.features, context.width)
        self.positions = (
            LearnedPositions(params.max_length, context.width) if params.positions else None
        )

    def forward(self, values_BLC: Tensor) -> Tensor:
        """Project values (B, L, C) to (B, L, D)."""
        x_BLD: Tensor = self.projection(values_BLC)
        return x_BLD if self.positions is None else self.positions(x_BLD)

    def start(self, batch: int) -> State:
        """Return the position, where positions are learned."""
        return () if self.positions is None else self.positions.start()

    def step(self, state: State, *inputs_BD: Tensor) -> tuple[Tensor, State]:
        """Project one position's values (B, C) to (B, D)."""
        x_BD: Tensor = self.projection(inputs_BD[0])
        return (x_BD, ()) if self.positions is None else self.positions.step(state, x_BD)

    @classmethod
    def check(cls, params: Params, context: BuildContext) -> Iterator[Problem]:
        """Yield a problem where the series is known to be longer than the positions."""
        if params.positions:
            yield from LearnedPositions.check(params.max_length, context.inputs[0].shape[1])
