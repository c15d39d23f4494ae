"""A new search in three steps, what it will take, and its start; what is wrong stands beside its step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import streamlit as st

from hybridlab.architecture.document import write_yaml
from hybridlab.errors import HybridLabError, Problem
from hybridlab.runs.slots import core_count
from hybridlab.search.spec import MAX_TRIALS
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.search import kept
from hybridlab.ui.search.matter import matter
from hybridlab.ui.search.opened import begun
from hybridlab.ui.search.source import source
from hybridlab.ui.search.space import space, wait_for_space
from hybridlab.ui.worker_pool import Answer
from hybridlab.units import format_seconds
from hybridlab.workflows.start_search import start_search

STUDY = "study"
"""The name in the address of the study that is looked at."""
MOST_WORKERS = 64
_WAIT_S = 0.25
SAMPLERS = {
    "cost_aware": "cost-aware evolution (ours)",
    "tpe": "TPE",
    "nsga2": "NSGA-II",
    "nsga3": "NSGA-III",
    "random": "random",
    "grid": "grid",
}
"""How samplers are called here; ``search.samplers`` makes them, with torch."""


def setup() -> None:
    """Show the three steps and the price tag; start the search when that is wanted."""
    with st.container(border=True):
        st.markdown("**1 · What may vary**")
        found = source()
        about_space = st.container()
    if found is None:
        return
    with st.container(border=True):
        st.markdown("**2 · What matters**")
        objectives, limits, wrong = matter(found.key, found.content)
        about_goals = st.container()
    with st.container(border=True):
        st.markdown("**3 · How long**")
        trials, workers, sampler = _effort(found.key, found.content)
        about_effort = st.container()
    content = {**found.content, "limits": limits, "trials": trials, "sampler": sampler}
    if objectives is not None:
        content["objectives"] = objectives
    text = write_yaml(content)
    answer = None
    if not wrong and (objectives is None or len(objectives) > 1):
        answer = predictions.survey_search(text, state.session_name(), _WAIT_S)
        if answer is None:
            with about_effort:
                wait_for_space(text)
        else:
            _problems(answer.problems, about_space, about_goals, about_effort)
    with about_space:
        space(answer)
    with about_effort:
        _price(answer, trials, workers)
        _start(content, text, answer, workers)


def _effort(key: str, content: Mapping[str, Any]) -> tuple[int, int, str]:
    left, middle, right = st.columns(3)
    told = content.get("trials")
    with left:
        trials = kept.number(
            "Trials", f"{key}.trials", told if isinstance(told, int) else 100, 1, MAX_TRIALS
        )
    with middle:
        workers = kept.number(
            "Workers",
            f"{key}.workers",
            min(2, core_count()),
            1,
            MOST_WORKERS,
            f"Trials at the same time; this machine has {core_count()} cores.",
        )
    wanted = str(content.get("sampler", "cost_aware"))
    with right:
        sampler = kept.choice(
            "Sampler",
            f"{key}.sampler",
            SAMPLERS,
            wanted if wanted in SAMPLERS else "cost_aware",
            "Cost-aware evolution knows every design's predicted cost before it is tried.",
        )
    return trials, workers, sampler


def _problems(problems: Iterable[Problem], space: Any, goals: Any, effort: Any) -> None:
    """Tell problems beside the step whose field they name."""
    for problem in problems:
        head = re.split(r"[.\[]", problem.path)[0]
        place = {"objectives": goals, "limits": goals}.get(head, space)
        with effort if head in ("trials", "sampler", "seed", "halving") else place:
            shell.problems([problem])


def _price(answer: Answer | None, trials: int, workers: int) -> None:
    """Say how many trials there will be, and how long they and the asking for them are predicted to take."""
    if answer is None or answer.problems:
        return
    told = answer.value
    low, high = (
        trials * (seconds / workers + timed)  # the others wait while one is timed
        for seconds, timed in zip(told["trial_s"], told["timed_s"], strict=True)
    )
    asking = told["ask_s"] * trials / (workers if told["asks_at_once"] else 1)
    asks = f"finding what to try {format_seconds(asking)}"
    if told["trained"]:
        time_said = f"{format_seconds(low + asking)} to {format_seconds(high + asking)}"
        parts = f"Training {format_seconds(low)} to {format_seconds(high)}, {asks}."
        help = (
            "Predicted: trials from their steps and a roofline of this machine, without the start of each run (the "
            "first where halving stops all but the best, the second where it stops none), and finding the next design "
            "from how long prices took just now. Steps count with their memory plan; of another precision, or fused, "
            "they are not predicted and count as plain ones."
        )
    else:
        time_said = format_seconds(low + asking)
        parts = f"Trials {format_seconds(low)}, {asks}."
        help = "Predicted from a few trials that were run just now, without the start of the search's processes."
    shell.facts({"Trials": f"{trials:,}", "Time, predicted": time_said}, {"Time, predicted": help})
    st.caption(parts)


def _start(
    content: Mapping[str, Any],
    text: str,
    answer: Answer | None,
    workers: int,
) -> None:
    with st.container(horizontal=True):
        pressed = st.button(
            "Start search",
            type="primary",
            icon=":material/play_arrow:",
            disabled=answer is None or bool(answer.problems),
            key="search.start",
        )
        st.download_button(
            "Search file (YAML)",
            text,
            f"{content.get('name', 'search')}.yaml",
            "application/yaml",
            key="search.file",
            icon=":material/download:",
            type="tertiary",
            on_click="ignore",
            help="The same search for the command line: `hybridlab search FILE`.",
        )
    if not pressed:
        return
    try:
        name = start_search(text, workers=workers)
        begun(name)
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    shell.go(shell.SEARCH, **{STUDY: name})
