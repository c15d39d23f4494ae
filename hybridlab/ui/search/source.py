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
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.search import kept
from hybridlab.ui.search.marks import marks
from hybridlab.ui.train import setup

SOURCE = "search.source"
_DESIGN, _TEXT = "design", "text"
_FIRST = "sample closed_form"


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
        options[_DESIGN] = f"the design on the Design page: {name}"
    options[_TEXT] = "a search file (YAML)"
    chosen = kept.choice("Search in", SOURCE, options, _FIRST)
    with shell.told():
        if chosen == _DESIGN and design is not None:
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
    first = state.shapes().task
    left, right = st.columns([2, 1])
    with left:
        task = kept.choice(
            "Task", "search.task", tasks, first if first in tasks else next(iter(tasks))
        )
    entry = predictions.task(task) or {}
    with right:
        usual = int(dict(entry.get("default_training") or {}).get("steps") or 300)
        steps = kept.number(
            "Steps of a trial",
            f"search.steps.{task}",
            max(10, usual // 4),
            1,
            100_000,
            "A trial need only tell good designs from bad ones; the best can be trained longer afterwards.",
        )
    found = marks(architecture, history)
    try:
        file = keep_design(text)
    except HybridLabError as error:
        shell.problems(error.problems)
        return None
    training = {**setup.kept_settings(entry)[0], "steps": steps}
    if params := setup.kept_params(entry):
        training["task_params"] = params
    if not found:
        st.info(
            "Nothing is marked yet: choose what may vary in a node, or the width.",
            icon=":material/lightbulb:",
        )
        return None
    name = "".join(c if c.isalnum() or c in "_-" else "-" for c in architecture.name)[:60]
    return Source(
        f"design.{history}",
        {
            "name": name.strip("-") or "search",
            "architecture": str(file),
            "task": task,
            "training": training,
            "search": found,
        },
    )
