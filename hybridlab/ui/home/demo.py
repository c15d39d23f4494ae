"""See why hybrids: a hybrid and its two parents learn side by side, live."""

from __future__ import annotations

import streamlit as st

from hybridlab.architecture import library
from hybridlab.errors import HybridLabError
from hybridlab.runs.launcher import cancel
from hybridlab.runs.record import ACTIVE
from hybridlab.runs.store import open_store
from hybridlab.ui import shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.live import pump
from hybridlab.ui.live.component import Panel, chart
from hybridlab.ui.live.reader import reader
from hybridlab.workflows import demo

CHANNEL = "demo"
OWNER = "demo"
_NAMES = {"hybrid": "hybrid", "lstm": "LSTM", "attention": "attention"}
_DOTS = {"hybrid": ":blue[●]", "lstm": ":orange[●]", "attention": ":green[●]"}
_TASKS = {
    "parity": (
        "Parity",
        "Is the number of ones so far odd? Trained on 32 bits, scored on 96: it takes memory.",
    ),
    "mqar": (
        "Recall of 8 pairs",
        "Which value stood behind this key? It takes a look back at what was read.",
    ),
}
Ids = dict[str, dict[str, str]]


def ids_from(text: str) -> Ids | None:
    """Return the demonstration's runs from the page's address; None where they are not all there."""
    known = [(planned.task, planned.model) for planned in demo.plan()]
    runs = text.split(",") if text else []
    if len(runs) != len(known):
        return None
    ids: Ids = {}
    for (task, model), run_id in zip(known, runs, strict=True):
        ids.setdefault(task, {})[model] = run_id
    return ids


def written(ids: Ids) -> str:
    """Write the runs for the page's address."""
    return ",".join(ids[planned.task][planned.model] for planned in demo.plan())


def start() -> None:
    """Start the six runs, or go back to those that are under way, and show them."""
    with shell.told():
        ids = _under_way() or demo.submit(owner=OWNER)
        st.query_params["demo"] = written(ids)
        st.rerun()


def _under_way() -> Ids | None:
    """Return the runs of a demonstration that has not ended, if all six are known."""
    if not open_store().list(states=ACTIVE, owner=OWNER, limit=1):
        return None
    ids: Ids = {}
    for run in open_store().list(owner=OWNER, limit=6):
        training = run.spec.get("training") or {}
        model = {preset: name for name, preset in demo.MODELS.items()}.get(
            str(run.spec.get("preset"))
        )
        if model:
            ids.setdefault(str(training.get("task")), {})[model] = run.id
    whole = set(ids) == set(demo.TASKS) and all(set(of) == set(demo.MODELS) for of in ids.values())
    return ids if whole else None


def show(ids: Ids) -> None:
    """Show the six curves as they grow, what each came to, and where to go from here."""
    every = [run_id for of in ids.values() for run_id in of.values()]
    try:
        looked = [reader(run_id).look() for run_id in every]
    except HybridLabError as error:
        shell.problems(error.problems)
        st.button("Start anew", on_click=_forget)
        return
    active = any(run.state.active for run in looked)
    panels = _panels(ids)
    places = {model: place for place, model in enumerate(demo.MODELS)}
    runs = [
        {"id": run_id, "name": _NAMES[model], "colour": places[model]}
        for of in ids.values()
        for model, run_id in of.items()
    ]
    pump.begin(CHANNEL)
    chart(CHANNEL, panels, runs)
    if active:
        st.fragment(_refresh, run_every=1.0)(ids, every, panels)
    else:
        _refresh(ids, every, panels, ended=True)
        _next_step()


def _panels(ids: Ids) -> list[Panel]:
    panels = []
    for task, metric in demo.TASKS.items():
        name = metric.replace("test_", "val_", 1)
        title = _TASKS[task][0] + (", at length 96" if task == "parity" else "")
        runs = tuple(ids[task].values())
        panels.append(
            Panel(title, "accuracy", (name,), height=250, points=True, range=(0.0, 1.02), runs=runs)
        )
    return panels


def _refresh(ids: Ids, every: list[str], panels: list[Panel], ended: bool = False) -> None:
    """Send new points and say how each run stands; draw the page anew when all have ended."""
    try:
        looked = [reader(run_id).look() for run_id in every]
        found = demo.summary(open_store(), ids)
    except HybridLabError as error:
        shell.problems(error.problems)
        return
    active = any(run.state.active for run in looked)
    if not active and not ended:
        page_again()
    pump.send(CHANNEL, panels, every)
    for column, task in zip(st.columns(len(ids)), ids, strict=True):
        lines = [
            f"{_DOTS[model]} **{_NAMES[model]}** {shell.escaped(found['captions'][task][model])}"
            for model in demo.MODELS
        ]
        column.markdown("  \n".join(lines))
        column.caption(_TASKS[task][1])
    if active:
        st.button("Stop", icon=":material/stop:", on_click=_stop, args=(every,), key="demo.stop")


def _stop(every: list[str]) -> None:
    for run_id in every:
        with shell.told():
            cancel(run_id)


def _forget() -> None:
    st.query_params.clear()


def _next_step() -> None:
    """Offer to open the hybrid."""
    st.markdown(
        "The hybrid is one LSTM layer, then one attention layer. "
        "It shows what these settings reach within their budget of steps, no more."
    )
    with st.container(horizontal=True):
        if st.button("Open the hybrid and change it", type="primary", icon=":material/schema:"):
            with shell.told():
                path = library.find(demo.MODELS["hybrid"])
                state.open_design(
                    path.read_text(encoding="utf-8"),
                    f"preset {path.stem}",
                    preset=path.stem,
                )
                shell.go(shell.DESIGN)
        st.button("Close", icon=":material/close:", on_click=_forget)
