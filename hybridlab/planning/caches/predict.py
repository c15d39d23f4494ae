"""Predicts what components keep between two positions, from what each says of itself; nothing is run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch

from hybridlab.architecture.fake_mode import QuickFakeMode
from hybridlab.architecture.infer import infer
from hybridlab.architecture.plan import SlotPlan
from hybridlab.architecture.spec import Architecture
from hybridlab.components.base import BuildContext
from hybridlab.components.growing import Growth, PolicyName
from hybridlab.components.types import TensorKind, TensorType
from hybridlab.errors import Problem, SpecError, StepError
from hybridlab.planning.caches.record import (
    MOST_POSITIONS,
    POSITIONS,
    CacheReport,
    CacheRow,
    form_of,
)
from hybridlab.trace.predict import runs_of

_MOST_BATCH = 1 << 16


def predict_caches(
    architecture: Architecture,
    input_type: TensorType | None = None,
    *,
    positions: Sequence[int] = POSITIONS,
    batch: int = 1,
    growth: PolicyName = "exact",
) -> CacheReport:
    """Return what every component keeps after each of ``positions``, in float32.

    Args:
        architecture: what is read one position at a time.
        input_type: what it reads; None as ``infer`` takes it.
        positions: numbers of positions read, in any order.
        batch: sequences read side by side.
        growth: how caches that grow get their room; ``reserved`` takes room for the last of the positions.

    Raises:
        SpecError: the architecture has errors, or a number is out of range; it holds all of them.
    """
    places = checked(positions, batch)
    inference = infer(architecture, input_type)
    if inference.errors:
        raise SpecError(inference.errors)
    uses = runs_of(architecture, inference.slots)
    policy = Growth(growth, places[-1])
    known: dict[tuple[str, str, BuildContext], tuple[int, str]] = {}
    rows = []
    for path, plan in inference.slots.items():
        key = plan.info.name, plan.params.model_dump_json(), plan.context
        if key not in known:
            known[key] = _tried(plan)
        rows.append(_row(path, plan, uses[path], places, batch, policy, *known[key]))
    moved = (policy.moved_rows(count) for count in places)
    copied = tuple(round(count * sum(row.grows_bytes for row in rows)) for count in moved)
    return CacheReport(places, batch, tuple(rows), growth=growth, copied_bytes=copied)


def checked(positions: Iterable[int], batch: int) -> tuple[int, ...]:
    """Return numbers of positions in rising order, each once.

    Raises:
        SpecError: one of them, or the batch, is out of range.
    """
    places = tuple(sorted(set(positions)))
    problems = []
    if not places or places[0] < 1 or places[-1] > MOST_POSITIONS:
        got = ", ".join(map(str, places[:8])) or "none"
        wanted = f"from 1 to {MOST_POSITIONS:,}"
        problems.append(Problem("positions", "is out of range", wanted, got))
    if not 1 <= batch <= _MOST_BATCH:
        problems.append(
            Problem("batch", "is out of range", f"from 1 to {_MOST_BATCH:,}", str(batch))
        )
    if problems:
        raise SpecError(problems)
    return places


def _row(
    path: str,
    plan: SlotPlan,
    uses: int,
    positions: tuple[int, ...],
    batch: int,
    policy: Growth,
    counts_bytes: int,
    no_step: str,
) -> CacheRow:
    cls, params, context = plan.info.cls, plan.params, plan.context

    def after(count: int) -> float:
        return uses * (batch * cls.state_bytes_after(params, context, count) + counts_bytes)

    if no_step:
        nothing = (0,) * len(positions)
        return CacheRow(path, plan.info.name, "nothing", uses, 0.0, None, nothing, (), no_step)
    form, full_at = form_of(after)
    growing = uses * batch * cls.state_bytes_per_token(params, context)
    room = policy.rows if form == "grows" else int
    predicted = tuple(round(after(room(count))) for count in positions)
    return CacheRow(path, plan.info.name, form, uses, growing, full_at, predicted)


def _tried(plan: SlotPlan) -> tuple[int, str]:
    """Return the bytes of a component's counts of positions, and why it cannot run one position at a time.

    It is started and stepped once on fake tensors. What fake tensors cannot do for want of values is no refusal.
    """
    if any(given.kind is TensorKind.IMAGE for given in plan.context.inputs):
        return 0, f"{plan.info.title} reads whole images"
    counts_bytes = 0
    with QuickFakeMode(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body = plan.info.cls(plan.params, plan.context).eval()
        try:
            state = body.start(1)
            counts_bytes = sum(part.nbytes for part in state if not part.is_floating_point())
            body.step(state, *(_one(given) for given in plan.context.inputs))
        except StepError as error:
            return counts_bytes, error.problems[0].message
        except RuntimeError:
            pass
    return counts_bytes, ""


def _one(given: TensorType) -> torch.Tensor:
    """Return one position of one sequence: a token (1), or values (1, D)."""
    if given.kind is TensorKind.TOKENS:
        return torch.zeros(1, dtype=torch.int64)
    return torch.empty(1, given.features)
