"""The first step of a search: what may vary, by a sample, by a text, or by marks on the session's own design."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from hybridlab.architecture import document
from hybridlab.errors import HybridLabError, Problem
from hybridlab.places import sample_configs
from hybridlab.search.designs import keep_design
from hybridlab.search.spec import MAX_BYTES
from hybridlab.training.spec import MEASURED
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.search import kept
from hybridlab.ui.search.marking import search_of
from hybridlab.ui.search.marks import marks
from hybridlab.ui.train import setup

SOURCE = "search.source"
DESIGN, _TEXT = "design", "text"
_FIRST = "sample closed_form"
_TASK, _STEPS = "search.task", "search.steps"


@dataclass(frozen=True)
class Source:
    """A search file's content before the other steps change it; ``key`` tells one source's fields from another's."""

    key: str
    content: dict[str, Any]


def source() -> Source | None:
    """Let the user say what may vary; None where there is nothing to search yet, which is told."""
    options = {
        f"sample {file.stem}": f"sample {file.stem.replace('_', ' ')}" for file in _samples()
    }
    design = state.design()
    if design is not None:
        architecture = state.parsed(design.text)[0]
        name = architecture.name if architecture else "not readable"
        options[DESIGN] = f"the design on the Design page: {name}"
    options[_TEXT] = "a search file (YAML)"
    chosen = kept.choice("Search in", SOURCE, options, _FIRST)
    with shell.told():
        if chosen == DESIGN and design is not None:
            return _of_design(design.text, design.history)
        if chosen == _TEXT:
            return _of_text()
        return _read(chosen, _sample(chosen.removeprefix("sample ")))
    return None


def _samples() -> list[Path]:
    return sorted((sample_configs() / "searches").glob("*.yaml"))


def _sample(name: str) -> str:
    return (sample_configs() / "searches" / f"{name}.yaml").read_text(encoding="utf-8")


def _of_text() -> Source | None:
    """Take a file or a text that was pasted."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        file = st.file_uploader(
            "Search file", type=["yaml", "yml"], key="search.upload", max_upload_size=1
        )
    if file is not None:
        given = file.getvalue()
        digest = hashlib.sha256(given).hexdigest()
        if state.keep("search.uploaded", "") != digest:
            state.put("search.uploaded", digest)
            state.put("search.text", given[:MAX_BYTES].decode("utf-8", errors="replace"))
    shell.monospace("widget.search.text")
    text = kept.area(
        "Search (YAML)",
        "search.text",
        "",
        height=280,
        placeholder="name: my-search\narchitecture: jamba_mini\ntask: mqar\nsearch:\n  width: [32, 64]",
    )
    if not text.strip():
        st.caption("Choose a file or write one; the samples of `sample_configs/searches` show how.")
        return None
    return _read(f"text.{hashlib.sha256(text.encode()).hexdigest()[:8]}", text)


def _read(key: str, text: str) -> Source | None:
    """Read a search file's text; what is wrong with it as YAML is told, the rest when it is looked at whole."""
    content, problems = document.contents(text)
    if not problems and not isinstance(content, dict):
        problems = [Problem("", "this is not a search", "a mapping with name and search")]
    if problems:
        shell.problems(problems)
        return None
    if content.get("description"):
        st.caption(shell.escaped(str(content["description"])))
    return Source(key, dict(content))


def _of_design(text: str, history: str) -> Source | None:
    """Mark the session's design, and say on which task it is tried."""
    architecture, problems = state.parsed(text)
    if architecture is None:
        shell.problems(problems)
        return None
    tasks = {str(entry["name"]): str(entry["title"]) for entry in predictions.tasks()}
    left, right = st.columns([2, 1])
    with left:
        task = kept.choice("Task", _TASK, tasks, _first_task())
    with right:
        kept.number(
            "Steps of a trial",
            f"{_STEPS}.{task}",
            _usual_steps(task),
            1,
            100_000,
            "A trial need only tell good designs from bad ones; the best can be trained longer afterwards.",
        )
    marks(architecture, history)
    try:
        content = content_of_design(text, history)
    except HybridLabError as error:
        shell.problems(error.problems)
        return None
    if content is None:
        st.info(
            "Nothing is marked yet: choose what may vary in a node, or the width.",
            icon=":material/lightbulb:",
        )
        return None
    return Source(f"design.{history}", content)


def content_of_design(text: str, history: str) -> dict[str, Any] | None:
    """Return the search that the marks on a design describe; None where nothing is marked, or the text is no design.

    Raises:
        HybridLabError: the design cannot be kept in a file for the search.
    """
    architecture = state.parsed(text)[0]
    found = search_of(architecture, history) if architecture is not None else {}
    if architecture is None or not found:
        return None
    task = str(state.keep(_TASK, _first_task()))
    entry = predictions.task(task) or {}
    steps = int(state.keep(f"{_STEPS}.{task}", _usual_steps(task)))
    settings = setup.kept_settings(entry)[0]
    training = {name: one for name, one in settings.items() if name not in MEASURED}
    training["steps"] = steps
    if params := setup.kept_params(entry):
        training["task_params"] = params
    name = "".join(c if c.isalnum() or c in "_-" else "-" for c in architecture.name)[:60]
    return {
        "name": name.strip("-") or "search",
        "architecture": str(keep_design(text)),
        "task": task,
        "training": training,
        "search": found,
    }


def _first_task() -> str:
    names = [str(entry["name"]) for entry in predictions.tasks()]
    first = state.shapes().task
    return first if first is not None and first in names else names[0]


def _usual_steps(task: str) -> int:
    entry = predictions.task(task) or {}
    usual = int(dict(entry.get("default_training") or {}).get("steps") or 300)
    return max(10, usual // 4)
