"""A section of what may make a step faster: measured by a run of its own, shown as what is kept, before and after."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from hybridlab.runs.home import run_folder
from hybridlab.runs.record import Run
from hybridlab.ui import shell
from hybridlab.ui.memory.measuring import ended_well, newest, queue
from hybridlab.ui.memory.train import train_with_choice
from hybridlab.ui.memory.work import Work
from hybridlab.ui.profile.figure import file_name
from hybridlab.ui.profile.opened import figures
from hybridlab.units import format_bytes, format_seconds

PURPOSES = {"inference": "passes forward", "training": "training steps"}


def faster(found: Mapping[str, Any]) -> str:
    """Say how much less time what was chosen takes, and how far it is from the step without."""
    ratio = found["ratio"]
    return (
        f"{100 * (1 - ratio['value']):.1f} % less time (between {100 * (1 - ratio['high']):.1f} and "
        f"{100 * (1 - ratio['low']):.1f} %, in turns that had no part in choosing); outputs differ by "
        f"{found['error']:.0e} of the largest at most."
    )


def _no_options(work: Work, key: str, given: Mapping[str, Any]) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Choice:
    """What is chosen by measuring, and the words for it."""

    kind: str
    """Of its runs."""
    file: str
    """What they leave in their folder."""
    name: str
    """Of the setting that holds what is chosen, of its file and of keys."""
    title: str
    icon: str
    caption: str
    button: str
    done: str
    """What has been done with the step, such as ``fused``."""
    after: str
    """Where the report has the step with what was chosen."""
    plain: str
    """The step without it, such as ``as it is``."""
    nothing: str
    """Where nothing is chosen, such as ``Nothing is fused``."""
    doing: tuple[str, ...]
    """What the worker is at, part by part."""
    verb: str
    """Of the command line."""
    question: str = "What is to be faster"
    purposes: Mapping[str, str] = field(default_factory=lambda: PURPOSES)
    told: Callable[[Mapping[str, Any]], str] = faster
    """What the step takes with what was chosen, after the words ``it takes``."""
    learnt: str = "What is learnt is the same but for rounding."
    options: Callable[[Work, str, Mapping[str, Any]], dict[str, Any]] = _no_options
    """Draws what else may be asked, by the step, the beginning of keys and what was asked; the run's ``options``."""
    operators: str = "Operators"
    """What is counted, for the first figure."""
    moved: str = "Read and written"
    """What the second figure is called."""
    telling: Callable[[int, int], str] | None = None
    """Says what the worker is at, part by part of how many, where that depends on the design."""


Details = Callable[[Work, Run, Mapping[str, Any]], None]


def choice_section(choice: Choice, work: Work, details: Details) -> None:
    """Let the user measure it, and show what was found last for this very design, batch and purpose."""
    opened = work.run is not None and work.run.kind == choice.kind
    key = f"{work.key}.{choice.name}"
    with st.expander(choice.title, icon=choice.icon, key=key, expanded=opened):
        st.caption(choice.caption)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            purpose = st.segmented_control(
                choice.question,
                list(choice.purposes),
                default=str(work.run.spec["for"]) if opened and work.run else "inference",
                required=True,
                format_func=lambda name: choice.purposes[name],
                key=f"{key}.for",
            )
            asked = choice.options(
                work, key, work.run.spec.get("options") or {} if opened and work.run else {}
            )
            start = st.button(choice.button, icon=":material/timer:", key=f"{key}.start")
        spec: dict[str, Any] = {"for": str(purpose), "options": asked}
        with shell.told():
            if start:
                words = f"{choice.done} for {purpose}"
                queue(work, choice.kind, words, **spec)
            run = newest(work, choice.kind, **spec)
            if run is not None:
                _shown(choice, work, run, details)


def _shown(choice: Choice, work: Work, run: Run, details: Details) -> None:
    def doing(done: int, parts: int) -> str:
        at = min(done, len(choice.doing) - 1)
        return choice.telling(done, parts) if choice.telling else choice.doing[at]

    key = f"{work.key}.{choice.name}"
    if not ended_well(run, key, doing, "Ends the measurement; nothing of it is kept."):
        return
    found = figures(run_folder(run.id) / choice.file)
    _headline(choice, found)
    details(work, run, found)
    if found["applied"]:
        _taken(choice, work, found[choice.name])


def _taken(choice: Choice, work: Work, chosen: Mapping[str, Any]) -> None:
    """Offer to train with what was chosen, and its file."""
    key = f"{work.key}.{choice.name}"
    with st.container(horizontal=True):
        if chosen["training"] and st.button(
            f"Train {choice.done}",
            icon=":material/model_training:",
            key=f"{key}.train",
            help=f"Puts the {choice.name} into the training's settings. {choice.learnt}",
        ):
            train_with_choice(work, choice.name, chosen)
        st.download_button(
            f"{choice.name.capitalize()} (JSON)",
            json.dumps(chosen, indent=2) + "\n",
            file_name(work.opened, choice.name, "json"),
            "application/json",
            icon=":material/download:",
            on_click="ignore",
            key=f"{key}.download",
            help=f"As `hybridlab {choice.verb} --output` writes it.",
        )


def _headline(choice: Choice, found: Mapping[str, Any]) -> None:
    """Show operators, bytes and time before and after, and whether anything is applied."""
    plain, after = found["plain"], found[choice.after]
    for column, name, before, now in zip(
        st.columns(4),
        (choice.operators, choice.moved, "Peak", "Time, measured"),
        _figures(plain, found["plain_ms"]),
        _figures(after, found[f"{choice.after}_ms"]),
        strict=True,
    ):
        column.metric(
            name,
            now if found["applied"] else before,
            f"{before} {choice.plain}" if found["applied"] else choice.plain,
            delta_color="off",
            delta_arrow="off",
            border=True,
        )
    if found["applied"]:
        st.success(
            f"{choice.done.capitalize()}, it takes {choice.told(found)}",
            icon=":material/check:",
        )
    else:
        st.info(
            shell.escaped(f"{choice.nothing}: {found['why']}."),
            icon=":material/do_not_disturb_on:",
        )
    if found["busy"] or found.get("beside"):
        st.warning(
            f"Others used {found['others_cores']:.1f} cores meanwhile. Milliseconds are therefore no timings; measure "
            "again when the machine is free.",
            icon=":material/speed:",
        )


def _figures(work: Mapping[str, Any], ms: Mapping[str, float]) -> tuple[str, ...]:
    return (
        f"{work['operators']:,}",
        format_bytes(work["moved_bytes"]),
        format_bytes(work["peak_bytes"]),
        format_seconds(ms["value"] / 1e3),
    )
