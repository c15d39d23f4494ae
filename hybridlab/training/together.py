"""Several optimisers as one to the loop, checkpoints and the profiler; some learn at one point, are scored at another.

Schedule-free optimisers (https://arxiv.org/abs/2405.15682) learn at a point between a fast one and the average of
where that has been; the average is what is scored and kept.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import schedulefree
import torch


class Together(torch.optim.Optimizer):
    """Several optimisers as one: one step, one state; the groups are those of the parts, in order."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        """Join optimisers, at least one, that share no weight."""
        self.parts = list(parts)
        super().__init__([p for part in parts for g in part.param_groups for p in g["params"]], {})
        self._join()

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all weights; there is no closure."""
        assert closure is None
        for part in self.parts:
            part.step()
        if len(self.state) != sum(len(part.state) for part in self.parts):
            self._gather()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all parts, numbered through."""
        state: dict[int, Any] = {}
        groups: list[dict[str, Any]] = []
        for part in self.parts:
            one = part.state_dict()
            begun = sum(len(group["params"]) for group in groups)
            state |= {begun + number: value for number, value in one["state"].items()}
            groups += [
                {**group, "params": [begun + number for number in group["params"]]}
                for group in one["param_groups"]
            ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Put back what ``state_dict`` returned.

        Raises:
            ValueError: it is of other groups.
        """
        groups = list(state_dict["param_groups"])
        if len(groups) != len(self.param_groups):
            raise ValueError(f"{len(groups)} groups were saved, there are {len(self.param_groups)}")
        begun = 0
        for part in self.parts:
            mine, groups = groups[: len(part.param_groups)], groups[len(part.param_groups) :]
            count = sum(len(group["params"]) for group in mine)
            state = {
                n - begun: v for n, v in state_dict["state"].items() if begun <= n < begun + count
            }
            moved = [{**g, "params": [n - begun for n in g["params"]]} for g in mine]
            part.load_state_dict({"state": state, "param_groups": moved})
            begun += count
        self._join()

    def gather(self) -> None:
        """Take up the groups and the state of the parts, after these were changed."""
        self._join()

    def _join(self) -> None:
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self._gather()

    def _gather(self) -> None:
        self.state.clear()
        for part in self.parts:
            self.state.update(part.state)

    def forget(self) -> None:
        """Let the state of all parts go."""
        for each in (self, *self.parts):
            each.state.clear()

    def to_averages(self) -> None:
        """Put schedule-free weights to the average that is scored and kept; the training is over then."""
        for part in self.parts:
            if isinstance(part, schedulefree.AdamWScheduleFree):
                part.eval()

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Have schedule-free weights at their average inside, and exactly where they learn afterwards."""
        averaging = [p for p in self.parts if isinstance(p, schedulefree.AdamWScheduleFree)]
        groups = [group for part in averaging for group in part.param_groups]
        learning = [weight.detach().clone() for group in groups for weight in group["params"]]
        self.to_averages()
        try:
            yield
        finally:
            with torch.no_grad():
                weights = [weight for group in groups for weight in group["params"]]
                for weight, there in zip(weights, learning, strict=True):
                    weight.copy_(there)
            for group in groups:
                group["train_mode"] = True


@contextlib.contextmanager
def averaged(found: torch.optim.Optimizer) -> Iterator[None]:
    """Have the weights inside as they are to be scored and kept, and exactly where they learn afterwards."""
    with found.averaged() if isinstance(found, Together) else contextlib.nullcontext():
        yield


def to_averages(found: torch.optim.Optimizer) -> None:
    """Put the weights to where they are scored and kept, for good."""
    if isinstance(found, Together):
        found.to_averages()
