"""A training on several tasks: charts by task, what is shared, how gradients pull, and what learning together did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import streamlit as st

from hybridlab.architecture.heads import claimed
from hybridlab.architecture.reached import heads_reached
from hybridlab.architecture.spec import Architecture
from hybridlab.errors import HybridLabError
from hybridlab.runs.home import run_folder
from hybridlab.runs.record import Run, RunState
from hybridlab.runs.store import open_store
from hybridlab.training.task_cosines import CONFLICT, COSINE, LOSS, WEIGHT, conflicts, cosines_of
from hybridlab.training.transfer import transfer
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.diagram.component import MOST_BOXES, diagram
from hybridlab.ui.live.component import Panel
from hybridlab.ui.live.reader import reader
from hybridlab.ui.profile.figure import figure
from hybridlab.ui.profile.opened import Opened
from hybridlab.ui.train.whole import asked, called, kinds, parts_of, with_all_heads
from hybridlab.views.diagram import Box, DiagramInfo, diagram_info
from hybridlab.views.task_cosines import matrix_info, matrix_plot, pairs_info, pairs_plot
from hybridlab.workflows.alone import start_each_alone

_EVERY_S = 4.0
_MEASURES = (
    ("Accuracy", "accuracy", ""),
    ("Bits per byte", "bits_per_byte", ""),
    ("Mean absolute error", "mean_abs_error", ", each in its task's unit"),
)
"""Word, measure, and what the title adds to it."""


def panels_of(names: Sequence[str]) -> list[Panel]:
    """Return the charts of a training on several tasks: losses, weights and scores by task; none for others."""
    tasks = [name.removeprefix(LOSS) for name in names if name.startswith(LOSS)]
    if not tasks:
        return []
    weights = tuple(name for name in names if name.startswith(WEIGHT))
    cosines = tuple(name for name in names if name.startswith(f"{COSINE}*/"))
    losses = tuple(f"{LOSS}{task}" for task in tasks)
    found = [
        Panel("Loss by task", "loss", losses, loss_unit(names), names=tuple(tasks), smooth=True),
        Panel("Weight by task", "weight", weights, names=_last(weights), zero=True),
    ]
    for word, measure, addition in _MEASURES:
        scored = tuple(f"val_{measure}_{task}" for task in tasks)
        if there := tuple(name for name in scored if name in names):
            told = tuple(name.removeprefix(f"val_{measure}_") for name in there)
            title = f"{word} by task{addition}"
            found.append(Panel(title, word.lower(), there, names=told, points=True))
    if cosines:
        pairs = tuple(name.replace("~", " · ") for name in _last(cosines))
        title = "Cosine of tasks' gradients, in all they share"
        found.append(Panel(title, "cosine", cosines, names=pairs, points=True, range=(-1.02, 1.02)))
    return found


def loss_unit(names: Sequence[str]) -> str:
    """Return the unit of a training's losses by its metrics: none where an answer is a number, of any unit."""
    return "" if any("mean_abs_error" in name for name in names) else "nats"


def _last(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.rpartition("/")[2] for name in names)


def several_tasks(run: Run) -> None:
    """Offer what the tasks of a run share and how they pull; nothing for a run on one task."""
    parts = parts_of(run)
    if not parts:
        return
    place = st.expander(
        "Several tasks",
        icon=":material/account_tree:",
        key=f"train.several.{run.id}",
        on_change="rerun",
    )
    if not place.open:
        return
    with place:
        every = _EVERY_S if run.state.active else None
        st.fragment(_draw, run_every=every)(run, parts)


def _draw(run: Run, parts: list[dict[str, Any]]) -> None:
    """Draw what was measured so far."""
    source = reader(run.id)
    try:
        source.look()
    except HybridLabError:  # the rest of the page says why
        return
    _transfer(run)
    architecture = state.parsed(str(run.spec.get("architecture", "")))[0]
    if architecture is not None and (shown := _shared(architecture, parts)) is not None:
        st.caption("Parts that several tasks share, and those that learn from one alone.")
        height_px = min(640, 120 + 72 * len(shown.boxes))
        diagram(f"train.several.diagram.{run.id}", shown, height_px=height_px)
    found = cosines_of(
        called(parts), {n: source.curve(n) for n in source.names() if n.startswith(COSINE)}
    )
    steps = found.steps()
    if not steps:
        st.caption(
            "Whether the tasks' gradients pull the same way has not been measured yet; that comes some steps after the "
            "training has begun."
            if run.state.active
            else "The training ended before it was measured whether the tasks' gradients pull the same way."
        )
        return
    against = conflicts(found)
    if against:
        address, one, other, mean = against[0]
        where = "all they share" if address == "*" else address
        st.markdown(
            f"**{shell.escaped(one)} and {shell.escaped(other)} pull against each other most in "
            f"{shell.escaped(where)}: cosine {mean:.2f}, mean of {len(steps)} measurements.**"
        )
    else:
        st.markdown(
            f"Over the training, no two tasks pull against each other: in the mean of {len(steps)} measurements all "
            f"cosines are above {CONFLICT}; single ones scatter more."
        )
    opened = Opened(f"train.several.{run.id}", run.name, "profile", run_folder(run.id), {})
    matrix = matrix_info(found)
    words = "Cosine of tasks' gradients, task by task"
    figure(opened, "cosines", words, matrix_plot(matrix), matrix.table())
    whole = None if architecture is None else with_all_heads(architecture, parts)
    leaves = () if whole is None else [ids for _, ids, node in whole.walk() if not node.is_group]
    pairs = pairs_info(found, leaves)
    words = "Cosine of tasks' gradients by component"
    figure(opened, "pairs", words, pairs_plot(pairs), pairs.table())


def _shared(architecture: Architecture, parts: Sequence[Mapping[str, Any]]) -> DiagramInfo | None:
    """Return the diagram with what is shared marked, or None where it cannot be drawn."""
    if sum(1 for _ in architecture.walk()) > MOST_BOXES:
        return None
    whole = with_all_heads(architecture, parts)
    if whole is None:
        return None
    known = predictions.components()
    heads, _ = claimed(whole, asked(parts), kinds().get)
    reached = heads_reached(whole, list(heads.values()))
    tasks = {head: name for name, head in heads.items()}
    own = {node.id for node in architecture.nodes}
    supplied = [node.id for node in whole.nodes if node.id not in own]
    info = diagram_info(whole, catalogue=known, supplied=supplied)
    ids = {f"task.{name}": name for name in supplied} | {
        path: names for path, names, _ in architecture.walk()
    }

    def marked(box: Box) -> Box:
        names = [tasks[head] for head in sorted(reached.get(ids.get(box.path, ""), ()))]
        if box.kind == "group" or not names:
            return box
        words, told, tint = f"only {names[0]}", f"learns from {names[0]} alone", 0.1
        if len(names) > 1:
            words, told, tint = f"shared by {len(names)}", f"shared by {', '.join(names)}", 1.0
        return replace(box, detail=words, told=told, tint=tint, supplied=False)

    return replace(info, boxes=tuple(map(marked, info.boxes)))


def _transfer(run: Run) -> None:
    """Say what learning together did for each task, against runs on it alone."""
    if run.state is not RunState.DONE:
        return
    try:
        rows = transfer(run, open_store().list(states=[RunState.DONE], kind="train"))
    except HybridLabError:  # the store cannot be read now; the rest of the page says why
        return
    if not rows:
        return
    st.markdown("**Learnt together and alone**")
    for row in rows:
        st.markdown(f"- {shell.escaped(row.sentence())}")
    columns = {
        "Task": [row.task for row in rows],
        "Metric": [row.metric.replace("_", " ") for row in rows],
        "With others": [row.together for row in rows],
        "Alone, mean": [row.mean_alone for row in rows],
        "Runs alone": [len(row.alone) for row in rows],
        "Gain": [row.gain for row in rows],
    }
    st.dataframe(columns, hide_index=True)
    st.caption(
        "Alone are finished runs of the same architecture with as many steps, samples and the same rate; seeds differ."
    )
    _offer_alone(run, [row.task for row in rows if not row.alone])


def _offer_alone(run: Run, missing: Sequence[str]) -> None:
    """Offer the runs that a training on several tasks is to be judged beside, where there are none."""
    if not missing or any(part.get("head") for part in parts_of(run)):
        return
    if st.button(
        "Train each task alone",
        icon=":material/call_split:",
        key=f"train.alone.{run.id}",
        help=f"The same training on {' and on '.join(map(shell.escaped, missing))} by itself: the same steps, samples, "
        "rate and seed.",
    ):
        try:
            started = start_each_alone(run, missing)
        except HybridLabError as error:
            shell.problems(error.problems)
            return
        shell.go(shell.TRAIN, run=started[0].id)
