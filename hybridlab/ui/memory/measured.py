"""Plans that were applied and measured, on this machine: read from the runs that measured them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hybridlab.errors import HybridLabError
from hybridlab.planning.record import Figures, Plan
from hybridlab.planning.trade_off import TradeOff
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.ui.memory.kind import FILE, KIND
from hybridlab.ui.profile.opened import figures

_MOST = 40


@dataclass(frozen=True)
class Measured:
    """A plan with what was measured of it, and of the plain step in turn with it; ``run`` is the run's id.

    ``beside`` is how many other runs were under way.
    """

    run: str
    plan: Plan
    plain: Figures
    beside: int = 0


def measured_plans(found: TradeOff, settings: Mapping[str, Any]) -> list[Measured]:
    """Return what was measured of this very step, the newest first; a damaged file is left out.

    ``settings`` are those of the step, whose fusion and tuning were the same.

    Raises:
        StoreError: the store cannot be read.
    """
    runs = open_store().list(kind=KIND, states=[RunState.DONE], limit=_MOST)
    some = (read(run.id) for run in runs if _alike(run, settings))
    return [one for one in some if one is not None and _same(one.plan, found.plain)]


def last_measured() -> str:
    """Return the id of the newest measurement: it may have taught this machine's times; empty where there is none.

    Raises:
        StoreError: the store cannot be read.
    """
    runs = open_store().list(kind=KIND, states=[RunState.DONE], limit=1)
    return runs[0].id if runs else ""


def read(run_id: str) -> Measured | None:
    """Return what a run measured; None where it left nothing that can be read."""
    try:
        content = figures(run_folder(run_id) / FILE)
        plan = Plan.read(content["plan"])
        plain = Figures.model_validate(content["plain_measured"])
        beside = int(content.get("beside", 0))
    except (HybridLabError, KeyError, ValueError, TypeError):
        return None
    return None if plan.measured is None else Measured(run_id, plan, plain, beside)


def _alike(run: Run, settings: Mapping[str, Any]) -> bool:
    """Say whether a run measured a step with the same fusion and tuning; plans do not tell."""
    training = run.spec.get("training")
    theirs = training if isinstance(training, Mapping) else {}
    return all((theirs.get(n) or None) == (settings.get(n) or None) for n in ("fusion", "tuning"))


def _same(plan: Plan, plain: Plan) -> bool:
    """Say whether a plan is of the same step: the same design, task, batch, kind of device, and predicted memory."""
    mine, other = (
        (p.fingerprint, p.components, p.batch, p.length, p.task, p.device, p.plain.peak_bytes)
        for p in (plan, plain)
    )
    return mine == other
