"""An optimiser made anew for a model that has grown, in which what was remembered of the old weights goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import schedulefree
import torch
from torch import nn

from hybridlab.training.together import Together


def parts(optimiser: torch.optim.Optimizer) -> list[torch.optim.Optimizer]:
    """Return the optimisers that one is made of; itself where it is one."""
    return list(optimiser.parts) if isinstance(optimiser, Together) else [optimiser]


def survive(
    before: torch.optim.Optimizer,
    after: torch.optim.Optimizer,
    generations: Sequence[Sequence[nn.Parameter]],
) -> None:
    """Give a fresh optimiser what another one remembers of the weights that both have; new weights begin without.

    ``generations`` are the weights that each growth brought. Schedule-free optimisers count steps by group, so weights
    that came later stand in groups of their own there, which begin to count when they come.
    """
    separate(after, generations)
    donors: dict[int, dict[str, Any]] = {
        id(weight): group for group in before.param_groups for weight in group["params"]
    }
    for part in parts(after):
        for group in part.param_groups:
            old = [weight for weight in group["params"] if id(weight) in donors]
            if old:
                donor = donors[id(old[0])]
                group.update({name: value for name, value in donor.items() if name != "params"})
            for weight in old:
                if weight in before.state:
                    part.state[weight] = before.state[weight]
    if isinstance(after, Together):
        after.gather()


def separate(
    optimiser: torch.optim.Optimizer, generations: Sequence[Sequence[nn.Parameter]]
) -> None:
    """Put weights that came with a growth into groups of their own, where groups count steps."""
    born = {id(weight): number for number, new in enumerate(generations, 1) for weight in new}
    for part in parts(optimiser):
        if not isinstance(part, schedulefree.AdamWScheduleFree):
            continue
        part.param_groups[:] = [
            {**group, "params": mine}
            for group in part.param_groups
            for number in range(len(generations) + 1)
            if (mine := [w for w in group["params"] if born.get(id(w), 0) == number])
        ]
    if isinstance(optimiser, Together):
        optimiser.gather()
