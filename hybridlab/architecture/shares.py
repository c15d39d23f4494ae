"""Weights that belong to one place and are used at another too: a table by a head, a block's by another block."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.plan import SlotPlan
from hybridlab.components.base import BuildContext
from hybridlab.components.registry import palette
from hybridlab.errors import Problem


@dataclass(frozen=True)
class Share:
    """A weight of a place that is another's: paths of both, and of the weight in each, such as ``body.map.weight``."""

    borrower: str
    weight: str
    lender: str
    lent: str


def find_shares(slots: Mapping[str, SlotPlan], problems: list[Problem]) -> tuple[Share, ...]:
    """Pair every weight that a component borrows with the first one lent under its name; add what cannot be paired."""
    lent: dict[str, tuple[str, str]] = {}
    for path, plan in slots.items():
        for name, weight in plan.info.cls.lends(plan.params).items():
            lent.setdefault(name, (path, weight))
    found = []
    for path, plan in slots.items():
        for weight, name in plan.info.cls.borrows(plan.params).items():
            lender, other = lent.get(name, ("", ""))
            share = Share(path, f"body.{weight}", lender, f"body.{other}")
            wrong = list(_problems(share, name, slots))
            problems.extend(wrong)
            if not wrong:
                found.append(share)
    return tuple(found)


def _problems(share: Share, name: str, slots: Mapping[str, SlotPlan]) -> Iterator[Problem]:
    where, what = slots[share.borrower].file_path, name.replace("_", " ")
    if not share.lender:
        yield Problem(
            where,
            f"shares a {what}, but no node has one to share",
            f"a node that lends its {what}",
            fix="add one, such as token_embedding, or let this node have its own",
        )
        return
    own, other = (
        _weights(slots[path])[weight.removeprefix("body.")]
        for path, weight in ((share.borrower, share.weight), (share.lender, share.lent))
    )
    if own != other:
        yield Problem(
            where,
            f"cannot share the {what} of {share.lender!r}, which has another shape",
            " x ".join(map(str, other)),
            " x ".join(map(str, own)),
            "give both the same sizes",
        )


def share_places(
    lenders: Mapping[str, str],
    slots: Mapping[str, SlotPlan],
    group_norms: Mapping[str, SlotPlan],
    problems: list[Problem],
) -> tuple[Share, ...]:
    """Return every weight of the places that use another's weights, low-rank pairs left out; add what does not fit."""
    found: list[Share] = []
    for path, lender in lenders.items():
        for plans, at in ((slots, "body."), (group_norms, "norm.")):
            if path not in plans or lender not in plans:
                continue  # a group without a norm, or a component that has errors
            own, other = plans[path], plans[lender]
            problem = _unlike(own, other, lender)
            if problem is not None:
                problems.append(problem)
                continue
            names = [f"{at}{name}" for name in _weights(own)]
            if own.norm is not None:
                names += [f"norm.{name}" for name in _weights(own.norm)]
            found += [Share(path, name, lender, name) for name in names]
    return tuple(found)


def lone_pairs(
    lenders: Mapping[str, str], shares: Iterable[Share], slots: Mapping[str, SlotPlan]
) -> Iterator[Problem]:
    """Warn of every low-rank pair beside weights that no other place uses: it adds weights and nothing else."""
    used = {*lenders, *lenders.values()}
    used |= {path for share in shares for path in (share.borrower, share.lender)}
    written = {slots[path].file_path for path in used if path in slots}
    for plan in slots.values():
        if plan.lora and plan.file_path not in written:
            yield Problem(
                f"{plan.file_path}.lora",
                "a low-rank pair beside weights that no other place uses only adds weights",
                "a node that shares weights, or one in a tied group that repeats",
                str(plan.lora),
                "remove lora, or let the node share another's weights",
                "warning",
            )


def _unlike(own: SlotPlan, other: SlotPlan, lender: str) -> Problem | None:
    """Return what keeps two components of one kind from having the same weights."""
    wanted, given = other.params.model_dump(), own.params.model_dump()
    unlike = [key for key in wanted if wanted[key] != given[key]]
    if unlike:
        return Problem(
            f"{own.file_path}.{unlike[0]}",
            f"cannot share the weights of {lender!r}, whose parameters are others",
            ", ".join(f"{key} {wanted[key]}" for key in unlike),
            ", ".join(f"{key} {given[key]}" for key in unlike),
            "write the same parameters at both places",
        )
    for name, shape in _weights(other).items():
        if _weights(own)[name] != shape:
            return Problem(
                own.file_path,
                f"cannot share the weights of {lender!r}, whose {name} has another shape",
                " x ".join(map(str, shape)),
                " x ".join(map(str, _weights(own)[name])),
                "let both read as many features",
            )
    return None


def _weights(plan: SlotPlan) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of all that a component keeps, by name."""
    return _probed(plan.info.name, plan.params.model_dump_json(), plan.context)[0]


def adaptable(name: str, params_json: str, context: BuildContext) -> bool:
    """Say whether a component has linear maps beside which a low-rank pair can stand."""
    return bool(_probed(name, params_json, context)[1])


@functools.lru_cache(maxsize=1024)
def _probed(
    name: str, params_json: str, context: BuildContext
) -> tuple[Mapping[str, tuple[int, ...]], Mapping[str, tuple[int, ...]]]:
    """Build one component on fake tensors; return the shapes of its weights, and the maps that a pair can adapt."""
    info = palette()[name]
    with QuickFakeMode():
        module = info.cls(info.cls.Params.model_validate_json(params_json), context)
        kept = {weight: tuple(tensor.shape) for weight, tensor in module.state_dict().items()}
        return kept, module.adapts()
