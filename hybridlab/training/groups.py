"""Weights of different components optimised differently: who belongs where, and one optimiser over all of them.

Muon: https://kellerjordan.github.io/posts/muon/ with the update's size matched to AdamW's
(https://arxiv.org/abs/2502.16982); Adafactor: https://arxiv.org/abs/1804.04235; Lion: https://arxiv.org/abs/2302.06675;
schedule-free AdamW, which learns at one point and is scored at an average: https://arxiv.org/abs/2405.15682.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import schedulefree
import torch
from torch import Tensor, nn

from hybridlab.architecture.model import GraphModel
from hybridlab.errors import Problem, SpecError
from hybridlab.training import lion
from hybridlab.training.group_spec import OTHERS, GroupSpec
from hybridlab.training.optimiser import adamw, clip, fused_or_foreach, gradient_norm, spared
from hybridlab.training.schedule import learning_rate
from hybridlab.training.spec import TrainSpec
from hybridlab.training.together import Together

GROUP = "hybridlab_group"
"""The key under which an optimiser's own group knows ours."""


@dataclass(frozen=True)
class Member:
    """One weight in its component: where it stands in the network, 0 the first component and 1 the last."""

    parameter: nn.Parameter
    path: str
    use: str
    kind: str
    weight: str
    depth: float


def members(model: nn.Module) -> list[Member]:
    """Return every weight of a model once, in the model's order; a shared one is its lender's.

    A module that does not name its components has one, with an empty path.
    """
    graph = model if isinstance(model, GraphModel) else None
    slots = {} if graph is None else dict(graph.slots())
    owned = [("", list(model.parameters()))] if graph is None else list(graph.owned())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for slot in slots.values():
        names |= {id(p): name.removeprefix("body.") for name, p in slot.named_parameters()}
    order = {path: place for place, path in enumerate(dict.fromkeys(path for path, _ in owned))}
    last = max(1, len(order) - 1)
    found: dict[int, Member] = {}
    for path, parameters in owned:
        info = slots[path].body.info if path in slots else None
        for parameter in parameters:
            name = names[id(parameter)]
            if path and info is None:  # the norm around a group
                name = f"norm.{name.rpartition('.')[2]}"
            found.setdefault(
                id(parameter),
                Member(
                    parameter,
                    path,
                    info.name if info else "",
                    str(info.kind) if info else "",
                    name,
                    order[path] / last,
                ),
            )
    return list(found.values())


def assigned(model: nn.Module, groups: Sequence[GroupSpec]) -> dict[str, list[Member]]:
    """Return the weights of each group by its name, and those that no group takes under ``others``.

    Raises:
        SpecError: a group takes nothing, or two have one name.
    """
    found: dict[str, list[Member]] = {group.name: [] for group in groups}
    problems = [
        Problem(f"groups[{place}].name", "is the name of another group too", got=repr(group.name))
        for place, group in enumerate(groups)
        if group.name in [other.name for other in groups[:place]]
    ]
    every = members(model)
    others: list[Member] = []
    for one in every:
        given = (one.path, one.use, one.kind, one.weight, one.depth)
        mine = next((group for group in groups if group.takes(*given)), None)
        (others if mine is None else found[mine.name]).append(one)
    for place, group in enumerate(groups):
        if not found[group.name] and not problems:
            problems.append(_takes_nothing(place, group, every))
    if problems:
        raise SpecError(problems)
    return found | {OTHERS: others}


def _takes_nothing(place: int, group: GroupSpec, every: Sequence[Member]) -> Problem:
    """Say why: nothing fits it, or earlier groups have taken what does."""
    given = [(one.path, one.use, one.kind, one.weight, one.depth) for one in every]
    if any(group.takes(*one) for one in given):
        return Problem(
            f"groups[{place}]",
            f"{group.name!r} is left with no weights, as earlier groups take them",
            fix="put it before them: the first group that fits takes a weight",
        )
    paths = ", ".join(list(dict.fromkeys(one.path for one in every if one.path))[:8])
    asked = group.model_dump(
        include={"match", "use", "kind", "weights", "depth"}, exclude_defaults=True
    )
    words = ", ".join(f"{key}: {value}" for key, value in asked.items())
    return Problem(
        f"groups[{place}]", f"{group.name!r} fits no weights", f"components such as {paths}", words
    )


def optimiser(
    model: nn.Module, spec: TrainSpec, beside: Sequence[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """Return what updates a model's weights: AdamW over all where no groups are asked for; frozen ones are let alone.

    ``beside`` are weights that are learnt beside the model: AdamW, the settings' own rate, no decay.

    Raises:
        SpecError: a group takes nothing, or two have one name, or all weights are frozen.
    """
    if not spec.groups:
        return adamw(model, spec, beside)
    found = assigned(model, spec.groups)
    parts: list[torch.optim.Optimizer] = []
    for group in (*spec.groups, None):
        mine = found[group.name if group else OTHERS]
        if group is not None and group.frozen:
            for one in mine:
                one.parameter.requires_grad_(False)
            continue
        trained = [one.parameter for one in mine if one.parameter.requires_grad]
        parts += _parts(trained, group, spec, spared(model))
    if not parts:
        raise SpecError(Problem("groups", "freeze every weight", fix="leave one group to learn"))
    if beside:
        alone = {"params": list(beside), "weight_decay": 0.0, GROUP: OTHERS}
        parts.append(_adamw([alone], None, spec))
    return Together(parts)


def _parts(
    trained: Sequence[nn.Parameter],
    group: GroupSpec | None,
    spec: TrainSpec,
    without_decay: Callable[[nn.Parameter], bool],
) -> list[torch.optim.Optimizer]:
    """Return the optimisers of one group, decayed weights apart from others, Muon's matrices apart from the rest."""
    decay = spec.weight_decay if group is None or group.weight_decay is None else group.weight_decay
    sorted_in: dict[tuple[str, float], list[nn.Parameter]] = {}
    for parameter in trained:
        own = group is not None and group.weight_decay is not None
        mine = 0.0 if without_decay(parameter) and not own else decay
        what = updated_by(parameter, group, without_decay)
        sorted_in.setdefault((what, mine), []).append(parameter)
    name = OTHERS if group is None else group.name
    return [
        _MAKERS[what]([{"params": mine, "weight_decay": value, GROUP: name}], group, spec)
        for (what, value), mine in sorted_in.items()
    ]


def updated_by(
    parameter: nn.Parameter,
    group: GroupSpec | None,
    without_decay: Callable[[nn.Parameter], bool],
) -> str:
    """Return which optimiser a weight of a group goes to: Muon's are matrices, and AdamW takes what is not."""
    kind = "adamw" if group is None else group.optimiser
    matrix = parameter.ndim == 2 and not without_decay(parameter)
    return "adamw" if kind == "muon" and not matrix else kind


def _adamw(
    groups: list[dict[str, Any]], group: GroupSpec | None, spec: TrainSpec
) -> torch.optim.Optimizer:
    betas = group.betas if group is not None and group.betas is not None else spec.betas
    how = fused_or_foreach([p for g in groups for p in g["params"]])
    return torch.optim.AdamW(
        groups, lr=spec.learning_rate, betas=betas, fused=how[0], foreach=how[1]
    )


def _sgd(
    groups: list[dict[str, Any]], group: GroupSpec | None, spec: TrainSpec
) -> torch.optim.Optimizer:
    assert group is not None
    nesterov = group.momentum > 0
    return torch.optim.SGD(
        groups, lr=spec.learning_rate, momentum=group.momentum, nesterov=nesterov
    )


def _muon(
    groups: list[dict[str, Any]], group: GroupSpec | None, spec: TrainSpec
) -> torch.optim.Optimizer:
    assert group is not None
    return torch.optim.Muon(
        groups, lr=spec.learning_rate, momentum=group.momentum, adjust_lr_fn="match_rms_adamw"
    )


def _adafactor(
    groups: list[dict[str, Any]], group: GroupSpec | None, spec: TrainSpec
) -> torch.optim.Optimizer:
    return torch.optim.Adafactor(groups, lr=spec.learning_rate)


def _lion(
    groups: list[dict[str, Any]], group: GroupSpec | None, spec: TrainSpec
) -> torch.optim.Optimizer:
    betas = group.betas if group is not None and group.betas is not None else lion.BETAS
    return lion.Lion(groups, lr=spec.learning_rate, betas=betas)


def _schedule_free(
    groups: list[dict[str, Any]], group: GroupSpec | None, spec: TrainSpec
) -> torch.optim.Optimizer:
    """Return the library's own, ready to learn; warm-up is ours (``set_rates``), by the same formula."""
    betas = group.betas if group is not None and group.betas is not None else spec.betas
    found = schedulefree.AdamWScheduleFree(groups, lr=spec.learning_rate, betas=betas)
    found.train()
    made: torch.optim.Optimizer = found
    return made


_MAKERS = {
    "adamw": _adamw,
    "sgd": _sgd,
    "muon": _muon,
    "lion": _lion,
    "adafactor": _adafactor,
    "schedule_free": _schedule_free,
}


def of_group(spec: TrainSpec, name: str) -> TrainSpec:
    """Return the settings by which a group's rate goes."""
    group = next((group for group in spec.groups if group.name == name), None)
    if group is None:
        return spec
    changed: dict[str, Any] = {
        "learning_rate": group.rate
        * (spec.learning_rate if group.learning_rate is None else group.learning_rate)
    }
    changed |= {} if group.schedule is None else {"schedule": group.schedule}
    changed |= {"schedule": "constant"} if group.optimiser == "schedule_free" else {}
    changed |= {} if group.warmup_steps is None else {"warmup_steps": group.warmup_steps}
    return spec.model_copy(update=changed)


def set_rates(
    found: torch.optim.Optimizer, spec: TrainSpec, step: int, factor: float = 1.0
) -> dict[str, float]:
    """Give every group its rate, times a factor, for the update that follows ``step`` updates; return them by name."""
    names = dict.fromkeys(str(group.get(GROUP, OTHERS)) for group in found.param_groups)
    rates = {name: learning_rate(of_group(spec, name), step) * factor for name in names}
    for group in found.param_groups:
        group["lr"] = rates[str(group.get(GROUP, OTHERS))]
    return rates


def clip_groups(found: torch.optim.Optimizer, spec: TrainSpec) -> list[Tensor]:
    """Clip the gradients of groups with a bound of their own; return the weights of all others."""
    own = {group.name: group.clip_norm for group in spec.groups if group.clip_norm is not None}
    mine: dict[str, list[Tensor]] = {}
    rest: list[Tensor] = []
    for group in found.param_groups:
        name = str(group.get(GROUP, OTHERS))
        (mine.setdefault(name, []) if name in own else rest).extend(group["params"])
    for name, parameters in mine.items():
        clip(parameters, gradient_norm(parameters), own[name] or 0.0)
    return rest


def clip_all(
    found: torch.optim.Optimizer, parameters: Sequence[Tensor], norm: Tensor, spec: TrainSpec
) -> None:
    """Bound the gradients, whose common norm is given: together, but for groups that have a bound of their own."""
    if all(group.clip_norm is None for group in spec.groups):
        clip(parameters, norm, spec.clip_norm)
        return
    rest = clip_groups(found, spec)
    clip(rest, gradient_norm(rest), spec.clip_norm)
