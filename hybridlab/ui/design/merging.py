"""Two versions of one design become one: what comes from the other, and a choice wherever both changed the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import streamlit as st

from hybridlab.architecture import library, versions
from hybridlab.architecture.compare import compare
from hybridlab.architecture.merge import Conflict, Merged, Side, merge
from hybridlab.architecture.versions import Version
from hybridlab.errors import HybridLabError, Problem, SpecError
from hybridlab.ui import shell, state
from hybridlab.ui.design import comparison, keeping
from hybridlab.ui.design.totals import ready
from hybridlab.ui.state import Design

_OPEN = "merging"


@dataclass
class Merging:
    """A merge that is being looked at; nothing of the design has changed yet."""

    design: Design
    base: str
    theirs: str
    name: str
    """What the other version is called."""
    saved: bool = False
    """Whether the other version is what is saved under the design's name."""
    choices: dict[str, Side] = field(default_factory=dict)


def saved_elsewhere(design: Design) -> str | None:
    """Return what somebody else saved under the design's name; None where nobody did."""
    if design.saved_as is None or design.saved_text is None:
        return None
    for entry in library.designs():
        if entry.name == design.saved_as:
            with shell.told():
                text = _content(entry)
                return None if text in (design.saved_text, design.text) else text
    return None


def offer(design: Design, *, told: bool) -> None:
    """Offer to merge where another tab has saved this design; say so first where nobody has been told yet."""
    theirs = saved_elsewhere(design)
    if theirs is None:
        return
    if not told:
        said = "This design was saved elsewhere since you opened it."
        st.warning(said, icon=":material/call_merge:")
    st.button(
        "Merge with it",
        key="design.merge",
        icon=":material/call_merge:",
        on_click=with_saved,
        args=(design, theirs),
        help="See what both changed, choose where they differ, and lose nothing",
    )


def with_saved(design: Design, theirs: str) -> None:
    """Look at a merge with what was saved elsewhere; for callbacks."""
    name = f"what was saved as {design.saved_as}"
    state.put(_OPEN, Merging(design, design.saved_text or "", theirs, name, saved=True))


def with_version(design: Design, version: Version, name: str) -> None:
    """Look at a merge with a version; for callbacks.

    Raises:
        SpecError: what both began with is not kept any more.
    """
    keeping.settle(design)
    base = versions.common(design.history, versions.version_id(design.text), version.id)
    if base is None:
        raise SpecError(
            Problem("version", "what it and the design both began with is not kept any more")
        )
    state.put(_OPEN, Merging(design, base.text, version.text, name))


def present(design: Design) -> Merging | None:
    """Return the merge that is being looked at; another design has none."""
    merging: Merging | None = state.keep(_OPEN, None)
    return merging if merging is not None and merging.design is design else None


def page(merging: Merging) -> None:
    """Show what merging would give, with a choice for each conflict."""
    if not ready():
        return
    st.title("Merge two versions", anchor=False)
    st.markdown(
        f"Your design, and {shell.escaped(merging.name)}: both began with the same text. What only one of them changed "
        "is taken. Your design stays as it is until you take the merged one, and undo goes back."
    )
    try:
        merged = merge(merging.base, merging.design.text, merging.theirs, merging.choices)
    except HybridLabError as error:
        shell.problems(error.problems)
        st.button("Back, change nothing", key="merge.back", on_click=_close)
        return
    left, right = st.columns([1, 1.25], gap="medium")
    with left:
        _conflicts(merging, merged.conflicts)
        _buttons(merging, merged)
    with right:
        _comes(merging, merged)


def _conflicts(merging: Merging, conflicts: tuple[Conflict, ...]) -> None:
    if not conflicts:
        st.success("Nothing was changed by both in different ways.", icon=":material/check:")
        return
    count = len(conflicts)
    st.markdown(f"**{count} thing{'s' if count > 1 else ''} to choose**: both changed them.")
    for conflict in conflicts:
        key = f"merge.{hashlib.sha256(repr(conflict).encode()).hexdigest()[:12]}"
        chosen = merging.choices.get(conflict.key)
        words: Mapping[str, str] = {
            "mine": f"Mine: {shell.escaped(conflict.mine)}",
            "theirs": f"The other's: {shell.escaped(conflict.theirs)}",
        }
        st.radio(
            shell.escaped(conflict.sentence),
            list(words),
            index=list(words).index(chosen) if chosen else None,
            format_func=lambda side, words=words: words.get(side, side),
            key=key,
            on_change=_choose,
            args=(merging, conflict.key, key),
        )
    with st.container(horizontal=True):
        for side, label in (("mine", "Mine for all"), ("theirs", "The other's for all")):
            keys = [conflict.key for conflict in conflicts]
            st.button(
                label, key=f"merge.all.{side}", on_click=_choose_all, args=(merging, keys, side)
            )


def _buttons(merging: Merging, merged: Merged) -> None:
    open_ones = sum(conflict.key not in merging.choices for conflict in merged.conflicts)
    with st.container(horizontal=True):
        st.button(
            "Take the merged design",
            key="merge.take",
            type="primary",
            icon=":material/call_merge:",
            disabled=open_ones > 0,
            on_click=_take,
            args=(merging, merged.text),
            help="Choose first, above"
            if open_ones
            else "One step of undo; save it when it looks right",
        )
        st.button("Back, change nothing", key="merge.back", on_click=_close)


def _comes(merging: Merging, merged: Merged) -> None:
    """Show what taking the merge would change in the design."""
    mine = state.parsed(merging.design.text)[0]
    if mine is None:
        return
    difference = compare(mine, merged.architecture)
    st.markdown("**What comes into your design**")
    if difference.empty:
        st.markdown("Nothing: your design has it all.")
    else:
        st.code(difference.text(), language=None, wrap_lines=True)
        comparison.drawn(difference, mine, merged.architecture, "merge.difference")
    for note in merged.notes:
        st.info(shell.escaped(note), icon=":material/info:")


def _choose(merging: Merging, conflict: str, key: str) -> None:
    side = st.session_state.get(key)
    if side in ("mine", "theirs"):
        merging.choices[conflict] = side


def _choose_all(merging: Merging, conflicts: list[str], side: Side) -> None:
    merging.choices.update(dict.fromkeys(conflicts, side))


def _take(merging: Merging, text: str) -> None:
    """Make the merged text the design, as a callback; both versions stay among the design's versions."""
    design = merging.design
    try:
        keeping.keep_now(design)
        if merging.saved:
            keeping.keep_other(design, merging.theirs, merging.base)
    except HybridLabError as error:
        state.put("design_notice", list(error.problems))
    design.change(text)
    if merging.saved:
        design.saved_text = merging.theirs
    _close()
    st.toast("Merged. Save it when it looks right.", icon=":material/call_merge:")


def _close() -> None:
    state.put(_OPEN, None)


def _content(entry: library.Entry) -> str:
    """Return a saved design's text.

    Raises:
        SpecError: it cannot be read.
    """
    try:
        return entry.text()
    except (OSError, UnicodeDecodeError):
        raise SpecError(Problem(entry.name, "this saved design cannot be read")) from None
