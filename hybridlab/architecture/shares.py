"""Weights that belong to one component and are used by another too, such as a head that scores by the embedding."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch._subclasses.fake_tensor import FakeTensorMode

from hybridlab.components.base import BuildContext
from hybridlab.components.registry import palette
from hybridlab.errors import Problem

if TYPE_CHECKING:
    from hybridlab.architecture.infer import SlotPlan


@dataclass(frozen=True)
class Share:
    """A weight of a component that is another's: paths of both components, and of the weight in each."""

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
            share = Share(path, weight, *lent.get(name, ("", "")))
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
        _shapes(plan.info.name, plan.params.model_dump_json(), plan.context)[weight]
        for plan, weight in (
            (slots[share.borrower], share.weight),
            (slots[share.lender], share.lent),
        )
    )
    if own != other:
        yield Problem(
            where,
            f"cannot share the {what} of {share.lender!r}, which has another shape",
            " x ".join(map(str, other)),
            " x ".join(map(str, own)),
            "give both the same sizes",
        )


@functools.lru_cache(maxsize=1024)
def _shapes(name: str, params_json: str, context: BuildContext) -> Mapping[str, tuple[int, ...]]:
    """Build one component on fake tensors and return the shapes of its weights by name."""
    info = palette()[name]
    with FakeTensorMode():
        module = info.cls(info.cls.Params.model_validate_json(params_json), context)
    return {weight: tuple(tensor.shape) for weight, tensor in module.named_parameters()}
