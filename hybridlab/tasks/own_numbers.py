"""Rows, series or images of one's own, with a number each."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from hybridlab.components.base import field
from hybridlab.tasks.base import task
from hybridlab.tasks.numbers import Numbers
from hybridlab.tasks.own_data import EXAMPLE, OwnData, OwnDataParams, scaled

_MOST_FITTED = 256
"""Values of a sample up to which the baseline of a plane is fitted: it takes the square of them for each sample."""


class OwnNumbersParams(OwnDataParams):
    """What can be set about data of one's own whose answers are numbers."""

    data: str = field(
        EXAMPLE,
        help="Id of the data, as `hybridlab data add FILE` tells it; example is a table of diabetes patients.",
    )


@task(
    "own_numbers",
    title="Your own data, numbers",
    summary="Say a number for a row, a series or an image from a CSV, Parquet or npz file of yours.",
    source="A file of yours, kept in the HybridLab folder; the example is scikit-learn's copy of the diabetes data of "
    "https://doi.org/10.1214/009053604000000067",
    tests="How near a model comes to the numbers in your data; equal samples never stand in two splits.",
)
class OwnNumbers(Numbers, OwnData):
    """Numbers of samples from a file; rows of a table are read as a series, a column at each position."""

    Params = OwnNumbersParams

    @property
    def unit(self) -> str:  # type: ignore[override]
        """What the numbers are counted in, as whoever brought them says."""
        return self.about.schema.unit

    def answers(self, split: str) -> Tensor:
        """Return the numbers of a split (n,) float32."""
        return scaled(self.name, self.params.data)[split][1]

    def scale(self) -> tuple[float, float]:
        """Return mean and standard deviation of the training answers, which are looked at once."""
        return _scale(self.name, self.params.data)

    def baselines(self) -> dict[str, float]:
        """Return the test errors of the training median and mean, and of a plane through the training samples.

        The plane has the least squares; there is none where a sample has more than 256 values, or where there are
        fewer samples than that.
        """
        parts = scaled(self.name, self.params.data)
        (seen, answers), (tested, wanted) = parts["train"], parts["test"]
        found = super().baselines()
        inputs = [
            torch.nn.functional.pad(x.flatten(1).double(), (0, 1), value=1.0)
            for x in (seen, tested)
        ]
        if len(seen) > inputs[0].shape[1] <= _MOST_FITTED:
            plane = torch.linalg.lstsq(
                inputs[0], answers.double()[:, None], driver="gelsd"
            ).solution
            found["plane"] = float((inputs[1] @ plane - wanted[:, None]).abs().mean())
        return found


@functools.lru_cache(maxsize=2)
def _scale(name: str, data: str) -> tuple[float, float]:
    answers = scaled(name, data)["train"][1].double()
    return float(answers.mean()), max(float(answers.std(correction=0)), 1e-12)
