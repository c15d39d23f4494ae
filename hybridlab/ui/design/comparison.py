"""The open design beside another architecture: one diagram with the difference, predicted totals, and the texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.architecture import library, versions
from hybridlab.architecture.compare import Difference, compare, text_difference
from hybridlab.architecture.spec import Architecture
from hybridlab.ui import clock, predictions, shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.design import actions, keeping
from hybridlab.ui.design.look import Look
from hybridlab.ui.diagram.component import MOST_BOXES, diagram
from hybridlab.ui.held import key_showing, renew
from hybridlab.ui.labels import distinct
from hybridlab.ui.state import Design
from hybridlab.units import format_bytes, format_count, format_flops, format_seconds
from hybridlab.views import style
from hybridlab.views.difference import difference_info

_CHOICE, _WITH = "design.compare_with", "compare_with"
_PATIENCE_S = 0.12
_MOST_VERSIONS = 20
_NO_BREAK = "\u00a0"
_ROWS = (
    ("Parameters", "params", format_count, 1.0),
    ("FLOPs per sample", "flops_per_sample", format_flops, 1.0),
    ("Peak memory", "peak_bytes", format_bytes, 1.0),
    ("Step time", "step_ms", format_seconds, 1e-3),
)


def show_against(choice: str) -> None:
    """Compare with a version, preset or design when the page is drawn again; for callbacks."""
    state.put(_WITH, choice)
    state.put("design_first_view", "Compare")
    renew("design.view")


def comparison(design: Design, known: Look) -> None:
    """Let the user choose what to compare with, and show what differs from it."""
    choices = _choices(design)
    wanted = state.keep(_WITH, "")
    chosen = wanted if wanted in choices else _usual(design, choices)
    labels = distinct(choices)
    key = key_showing(_CHOICE, chosen)
    picked = st.selectbox(
        "Compare the design with",
        list(choices),
        index=list(choices).index(chosen),
        format_func=lambda choice: labels.get(choice, choice),
        key=key,
        on_change=lambda: state.put(_WITH, st.session_state[key]),
    )
    with shell.told():
        text = _text(design, str(picked))
        before, problems = state.parsed(text)
        if before is None:
            shell.problems(problems, "What you compare with cannot be read.")
        elif known.architecture is None:
            st.info("The design cannot be compared until it can be read.", icon=":material/info:")
        else:
            name = choices[str(picked)]
            difference(design, known, text, before, known.architecture, name)


def _choices(design: Design) -> dict[str, str]:
    """Return what the design can be compared with, by a short code: kind and name."""
    keeping.settle(design, 0.5)
    found = {}
    if design.saved_as and design.saved_text is not None:
        found["saved "] = f"what was saved last as {design.saved_as}"
    listed = versions.versions(design.history)
    present = versions.version_id(design.text)
    for version in [v for v in listed if v.id != present][:_MOST_VERSIONS]:
        name = f"{version.name}, " if version.name else ""
        found[f"version {version.id}"] = f"version: {name}{clock.moment(version.time)}"
    found |= {f"preset {entry.name}": f"preset: {entry.name}" for entry in library.presets()}
    found |= {
        f"design {entry.name}": f"design: {entry.name}"
        for entry in library.designs()
        if entry.name != design.saved_as
    }
    return found


def _usual(design: Design, choices: Mapping[str, str]) -> str:
    """Return what to compare with at first: where the design came from, else what was there first."""
    named = [version for version in choices if version.startswith("version ")]
    for choice in ("saved ", f"preset {design.preset}", *named[-1:]):
        if choice in choices:
            return choice
    return next(iter(choices))


def _text(design: Design, choice: str) -> str:
    kind, _, name = choice.partition(" ")
    if kind == "saved":
        return design.saved_text or ""
    if kind == "version":
        version = versions.read(design.history, name)
        return version.text if version else ""
    entries = library.presets() if kind == "preset" else library.designs()
    return next((entry.text() for entry in entries if entry.name == name), "")


def difference(
    design: Design,
    known: Look,
    text: str,
    before: Architecture,
    after: Architecture,
    name: str,
    key: str = "design.difference",
) -> None:
    """Show what a design has changed of an architecture and its ``text``: drawn, as totals, in words, line by line."""
    found = compare(before, after)
    texts = text_difference(text, design.text, name, "the design")
    wide, narrow = st.columns([1.25, 1], gap="medium")
    with wide:
        drawn(found, before, after, key)
    with narrow:
        _totals(known, text)
        st.markdown("**What changed**")
        if found.empty:
            words = "Nothing: both describe the same architecture."
            st.markdown(words + (" Only their texts differ." if texts else ""))
        else:
            st.code(found.text(), language=None, wrap_lines=True)
        st.download_button(
            "Text difference",
            texts,
            "changes.diff",
            "text/x-diff",
            icon=":material/download:",
            on_click="ignore",
            disabled=not texts,
        )
    if texts:
        st.markdown("**The texts, line by line**")
        st.code(texts, language="diff")


def drawn(
    difference: Difference,
    before: Architecture,
    after: Architecture,
    key: str = "design.difference",
) -> None:
    """Draw both on one diagram, with a mark at every part that differs; a legend says what the marks mean."""
    boxes = sum(1 for architecture in (before, after) for _ in architecture.walk())
    if boxes > 2 * MOST_BOXES:
        st.info(f"{boxes:,} nodes are too many to draw; at most {2 * MOST_BOXES} of both.")
        return
    info = difference_info(before, after, difference, predictions.components())
    choose = actions.select if key == "design.difference" else None
    diagram(key, info, actions.selected() if choose else None, choose, height_px=520)
    words = {"added": "added", "removed": "removed", "changed": "changed, before → after"}
    words["moved"] = "moved"
    st.caption(
        " ".join(f"**{style.MARK_SIGNS[mark]}** {said} ·" for mark, said in words.items())[:-2]
    )


def _totals(known: Look, text: str) -> None:
    """Show the predicted totals of both, for the task and batch chosen above."""
    owner = f"{state.session_name()}.before"
    asked = predictions.predict(text, state.shapes(), owner, _PATIENCE_S)
    now = known.prediction if not known.pending and not known.errors else None
    before = asked.value if asked is not None and not asked.problems else None
    st.markdown(_table(before, now))
    if asked is None:
        _wait_for(text, owner)


def _table(before: Mapping[str, Any] | None, now: Mapping[str, Any] | None) -> str:
    """Return the totals as a table; what is not known is a dash."""
    lines = ["| Predicted | before | now | change |", "|:--|--:|--:|--:|"]
    for name, key, write, scale in _ROWS:
        a, b = (None if side is None else float(side[key]) * scale for side in (before, now))
        words = ["–" if value is None else write(value) for value in (a, b)]
        change = "–"
        if a is not None and b is not None:
            share = 100 * (b - a) / a if a else 0.0
            change = "none" if a == b else f"{share:+.1f} %".replace("-", "−")
        cells = (*words, change.replace(" ", _NO_BREAK))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


@st.fragment(run_every=0.5)
def _wait_for(text: str, owner: str) -> None:
    """Draw the page again as soon as the other architecture's cost is known."""
    if predictions.predict(text, state.shapes(), owner) is not None:
        page_again()
    st.caption(":material/hourglass_top: Working out the other one's cost …")
