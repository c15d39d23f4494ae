"""The versions of the open design: a list to name, restore and compare."""

from __future__ import annotations

import hashlib

import streamlit as st

from hybridlab.architecture import versions
from hybridlab.architecture.versions import MAX_NAME, Version, version_id
from hybridlab.errors import HybridLabError
from hybridlab.ui import clock, shell, state
from hybridlab.ui.design import comparison, keeping, merging
from hybridlab.ui.labels import distinct
from hybridlab.ui.state import Design

_MENU, _NAME, _CHOSEN, _NOTICE = (
    "design.versions_menu",
    "design.version_name",
    "version_chosen",
    "version_notice",
)


def versions_menu(design: Design) -> None:
    """Show a button that opens the list; what nobody sees is not drawn."""
    menu = st.popover("Versions", icon=":material/history:", key=_MENU, on_change="rerun")
    if menu.open:
        with menu:
            _panel(design)


def _panel(design: Design) -> None:
    keeping.settle(design)
    with shell.told():
        found = {version.id: version for version in versions.versions(design.history)}
        present = version_id(design.text)
        st.caption(
            "Edits are kept by themselves, the last 50. A version with a name is kept for good."
        )
        chosen = _list(found, present)
        _naming(chosen)
        _actions(chosen, present)
    shell.problems(state.keep(_NOTICE, ()))


def _list(found: dict[str, Version], present: str) -> Version | None:
    """Show the versions, newest first, and return the chosen one; None where the present text is not kept yet."""
    if not found:
        st.markdown("No versions yet: this design has not been edited.")
        return None
    labels = distinct({id: _label(version, id == present) for id, version in found.items()})
    seen, wanted = state.keep(_CHOSEN, ("", ""))  # a choice holds until the design changes
    wanted = wanted if seen == present else present
    chosen = wanted if wanted in found else present if present in found else next(iter(found))
    digest = hashlib.sha256(repr([chosen, labels]).encode()).hexdigest()[:12]
    key = f"design.versions.{digest}"
    with st.container(height=min(300, 60 + 52 * len(found)), border=True):
        st.radio(
            "Versions, newest first",
            list(found),
            index=list(found).index(chosen),
            format_func=lambda id: labels.get(id, id),
            captions=[
                shell.escaped(version.change) or "as it was opened" for version in found.values()
            ],
            key=key,
            on_change=lambda: state.put(_CHOSEN, (present, st.session_state[key])),
            label_visibility="collapsed",
        )
    return found[chosen]


def _label(version: Version, present: bool) -> str:
    name = f"**{shell.escaped(version.name)}** · " if version.name else ""
    return f"{name}{clock.moment(version.time)}{' · what you see' if present else ''}"


def _naming(chosen: Version | None) -> None:
    st.text_input(
        "Name of this version",
        chosen.name if chosen else "",
        max_chars=MAX_NAME,
        key=f"{_NAME}.{chosen.id if chosen else ''}",
        placeholder="such as: before the experts",
    )


def _actions(chosen: Version | None, present: str) -> None:
    with st.container(horizontal=True):
        id = chosen.id if chosen else ""
        st.button("Keep under this name", key="version.name", on_click=_told, args=("name", id))
        other = chosen is not None and chosen.id != present
        st.button(
            "Restore",
            key="version.restore",
            on_click=_told,
            args=("restore", id),
            disabled=not other,
            help="Make this version the design; undo goes back",
        )
        st.button(
            "Compare",
            key="version.compare",
            on_click=_told,
            args=("compare", id),
            disabled=not other,
            help="See what differs between this version and the design",
        )
        st.button(
            "Merge",
            key="version.merge",
            on_click=_told,
            args=("merge", id),
            disabled=not other,
            help="Put what this version changed and what the design changed into one",
        )


def _told(what: str, id: str) -> None:
    """Do what a button says, as its callback; what goes wrong is told in the menu."""
    design = state.design()
    if design is None:
        return
    try:
        _do(design, what, id)
    except HybridLabError as error:
        state.put(_NOTICE, error.problems)
    else:
        state.put(_NOTICE, ())


def _do(design: Design, what: str, id: str) -> None:
    if what == "name":
        name = str(st.session_state.get(f"{_NAME}.{id}", "")).strip()
        if id:
            versions.name_version(design.history, id, name)
        else:
            keeping.keep_now(design, name)
        return
    version = versions.read(design.history, id)
    if version is None:
        return
    if what == "merge":
        merging.with_version(design, version, f"the version of {clock.moment(version.time)}")
    st.session_state[_MENU] = False
    if what == "restore":
        keeping.restore(design, version)
        st.toast(
            f"Restored what was there at {clock.moment(version.time)}", icon=":material/history:"
        )
    elif what == "compare":
        comparison.show_against(f"version {version.id}")
