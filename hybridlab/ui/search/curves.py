"""How a trial's measured objective grew while it trained, beside its neighbours on the front."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from hybridlab.runs.home import home_id
from hybridlab.runs.store import open_store
from hybridlab.search.record import TrialRow
from hybridlab.search.state import ENDED, StudyState
from hybridlab.ui.profile.figure import figure
from hybridlab.ui.search.opened import shown
from hybridlab.views.curves import Curve, curves_info, curves_plot

_Points = tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]


def curves(study: StudyState, rows: Sequence[TrialRow]) -> None:
    """Draw the measured objective of trials by step; nothing of a search whose trials do not train."""
    metric = next(
        (one.name for one in study.objectives if not one.predicted and not one.formula), ""
    )
    if not metric:
        return
    found = [Curve(row.run, f"trial {row.number}", *_points(row, metric)) for row in rows]
    found = [one for one in found if one.steps]
    if not found:
        return
    info = curves_info(found, metric)
    title = f"{metric.replace('_', ' ')} by step, of this trial and those beside it on the front"
    figure(shown(study), "trial curves", title, curves_plot(info), info.table())


def _points(row: TrialRow, metric: str) -> _Points:
    """Return steps, seconds and values: of its run where that is here, else as the study noted them at the rungs."""
    points: _Points = ((), (), ())
    if row.run and row.home in ("", home_id()):
        points = _ended(row.run, metric) if row.state in ENDED else _read(row.run, metric)
    if points[0] or not row.rungs:
        return points
    steps = tuple(sorted(row.rungs))
    return steps, tuple(0.0 for _ in steps), tuple(row.rungs[step] for step in steps)


def _read(run: str, metric: str) -> _Points:
    columns = open_store().metrics(run, names=[metric])
    return tuple(columns.step), tuple(columns.seconds), tuple(columns.value)


@functools.lru_cache(maxsize=256)  # a run that has ended does not change
def _ended(run: str, metric: str) -> _Points:
    return _read(run, metric)
