"""Ways to choose a point of the front: the knee, the one-standard-error rule, and the best within budgets."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from functools import partial

import numpy as np
import streamlit as st

from hybridlab.search import pareto
from hybridlab.search.insight import standard_errors
from hybridlab.search.landscape import Array
from hybridlab.search.state import StudyState
from hybridlab.ui import shell, state
from hybridlab.ui.held import key_showing
from hybridlab.ui.labels import distinct
from hybridlab.ui.search.chosen import take
from hybridlab.views.search_axes import title_of, written

SURE = 1.96
"""Standard errors of a normal value's 95 % interval, to each side."""
_MOST_STEPS = 200
_TOLERANCE_PERCENT = 1.0


def rules(study: StudyState) -> None:
    """Offer the points that rules choose; each button names its point."""
    if not study.front:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        knee = study.rows[study.front[pareto.knee(study.small)]].number
        st.button(
            f"Knee: trial {knee}",
            icon=":material/moving:",
            key="search.knee",
            on_click=partial(take, study.name, knee),
            help="Beyond it, a little more of one objective costs much of the others.",
        )
        _tolerance(study)
        _one_error(study)


def band(study: StudyState) -> tuple[int, float, float] | None:
    """Return the objective that is held to a tolerance, its best value, and the worst that is as good as that."""
    columns = _metric_and_price(study)
    if columns is None or not study.front:
        return None
    metric, _ = columns
    best = float(study.small[:, metric].min())
    sign = study.objectives[metric].sign
    return metric, sign * best, sign * (best + _slack(study, best))


def _tolerance(study: StudyState) -> None:
    """Offer the cheapest point that is as good as the best but for a share that the user gives up."""
    columns = _metric_and_price(study)
    if columns is None:
        return
    metric, price = columns
    name = _tolerance_name(study)
    kept = float(state.keep(name, _TOLERANCE_PERCENT))
    key = key_showing(f"widget.{name}", kept)
    st.number_input(
        "Tolerance (%)",
        0.0,
        100.0,
        kept,
        step=0.5,
        key=key,
        width=140,
        on_change=partial(_keep, name, key),
        help=f"What you would give up of the best {title_of(study.objectives[metric].name)}: the picture's band.",
    )
    best = float(study.small[:, metric].min())
    at = pareto.cheapest_within(study.small, _slack(study, best), metric, price)
    number = study.rows[study.front[at]].number
    st.button(
        f"Within it: trial {number}",
        icon=":material/width_normal:",
        key="search.tolerance",
        on_click=partial(take, study.name, number),
        help=f"The least {title_of(study.objectives[price].name)} in the band.",
    )


def _metric_and_price(study: StudyState) -> tuple[int, int] | None:
    """Return what a trial measures first, and the first of what is predicted, or else timed."""
    measured = [at for at, one in enumerate(study.objectives) if not one.predicted]
    prices = [at for at, one in enumerate(study.objectives) if one.predicted]
    prices += measured[1:]
    return (measured[0], prices[0]) if measured and prices else None


def _slack(study: StudyState, best: float) -> float:
    return float(state.keep(_tolerance_name(study), _TOLERANCE_PERCENT)) / 100 * abs(best)


def _tolerance_name(study: StudyState) -> str:
    return f"search.{study.name}.tolerance"


def _one_error(study: StudyState) -> None:
    """Offer the cheapest point that is as good as the best by what is known, where repeats say how sure values are."""
    columns = _metric_and_price(study)
    if columns is None:
        return
    metric, price = columns
    errors = errors_of(study, metric)
    if errors is None:
        st.caption(
            "No design was tried twice, so nothing tells how much a value varies by chance: the one-standard-error "
            "rule, and which points cannot be told apart, need repeats of a point."
        )
        return
    if not errors[0].any():
        st.caption(
            f"Designs that were tried again ({errors[1]} times) gave the very same values: nothing varies by chance "
            "here, and the best needs no error allowed for."
        )
        return
    place = {at: k for k, at in enumerate(study.done)}
    of_front = errors[0][[place[at] for at in study.front]]
    at = pareto.one_standard_error(study.small, of_front, metric, price)
    number = study.rows[study.front[at]].number
    st.button(
        f"One standard error: trial {number}",
        icon=":material/straighten:",
        key="search.one_error",
        on_click=partial(take, study.name, number),
        help=(
            f"The least {title_of(study.objectives[price].name)} whose {title_of(study.objectives[metric].name)} is "
            f"within one standard error of the best; repeats that tell the error: {errors[1]}."
        ),
    )
    best = int(study.small[:, metric].argmin())
    gap = study.small[:, metric] - study.small[best, metric]
    alike = int((gap <= SURE * (of_front + of_front[best])).sum()) - 1
    if alike:
        st.caption(
            f"{alike} other point{'s' if alike > 1 else ''} of the front cannot be told from the best by "
            f"{title_of(study.objectives[metric].name)}: their 95 % intervals overlap."
        )


@functools.lru_cache(maxsize=8)  # a study that has not changed is the same object
def errors_of(study: StudyState, metric: int) -> tuple[Array, int] | None:
    """Return the standard error of each ended trial by repeats of designs, and of how many; None without any."""
    designs = [study.rows[at].design for at in study.done]
    return standard_errors(designs, study.values[:, metric])


def budget(study: StudyState) -> None:
    """Answer "the best under …" from sliders, one for each other objective."""
    if not study.front:
        return
    with st.container(border=True):
        _budget(study)


def _budget(study: StudyState) -> None:
    names = [one.name for one in study.objectives]
    labels = distinct({name: title_of(name) for name in names})
    wanted = st.selectbox(
        "The best",
        names,
        format_func=lambda name: labels[name],
        key=f"search.{study.name}.wanted",
    )
    column = names.index(str(wanted))
    limits: dict[int, float] = {}
    places = st.columns(max(1, len(names) - 1))
    others = [at for at in range(len(names)) if at != column]
    for place, at in zip(places, others, strict=False):
        objective = study.objectives[at]
        steps = np.unique(study.small[:, at])[::-1]  # from the loosest limit on
        if len(steps) > _MOST_STEPS:
            steps = steps[np.linspace(0, len(steps) - 1, _MOST_STEPS).round().astype(int)]
        options = [float(one) for one in steps][::-1]
        said = distinct({one: written(objective, objective.sign * one) for one in options})
        word = "at most" if objective.direction == "minimize" else "at least"
        title = f"with {title_of(objective.name)} {word}"
        if len(options) < 2:
            place.caption(f"{title} {said[options[0]]}")
            continue
        key = f"search.{study.name}.budget.{objective.name}"
        kept = state.keep(key, options[-1])
        nearest = min(options, key=lambda one: abs(one - kept))
        limits[at] = float(
            place.select_slider(
                title,
                options,
                value=nearest,
                format_func=partial(_said, said),
                key=f"{key}.{len(study.done)}",
                on_change=partial(_keep, key, f"{key}.{len(study.done)}"),
            )
        )
    best = pareto.best_within(study.small, column, limits)
    if best is None:
        nearest_at, missed = pareto.nearest_miss(study.small, limits)
        row = study.rows[study.front[nearest_at]]
        objective = study.objectives[missed]
        st.warning(
            f"No point of the front keeps all of these. The nearest is trial {row.number}, with "
            f"{title_of(objective.name)} {shell.escaped(written(objective, row.values[missed]))}.",
            icon=":material/warning:",
        )
        return
    row = study.rows[study.front[best]]
    values = ", ".join(
        f"{title_of(one.name)} {written(one, value)}"
        for one, value in zip(study.objectives, row.values, strict=True)
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"Trial **{row.number}**: {shell.escaped(values)}", width="stretch")
        st.button(
            "Choose it",
            icon=":material/check:",
            key="search.budget.take",
            on_click=partial(take, study.name, row.number),
        )


def _said(labels: Mapping[float, str], one: float) -> str:
    return labels.get(one, f"{one:g}")


def _keep(name: str, key: str) -> None:
    if key in st.session_state:
        state.put(name, st.session_state[key])
