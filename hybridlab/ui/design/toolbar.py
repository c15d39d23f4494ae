"""The designer's head: name, undo and redo, save, copy, download, open another, train."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from hybridlab.architecture import edit, library
from hybridlab.errors import HybridLabError, Problem
from hybridlab.ui import shell, state
from hybridlab.ui.design import actions, keeping, merging
from hybridlab.ui.design.look import Look
from hybridlab.ui.design.share import share_menu
from hybridlab.ui.design.versions_menu import versions_menu
from hybridlab.ui.held import key_showing

_MENU, _NAME, _REPLACE = "design.save_menu", "design.name_to_save", "design.replace"
_NOTICE = "save_notice"


def toolbar(design: state.Design, known: Look) -> None:
    """Show the design's name and what can be done with it as a whole."""
    name = "An empty design" if known.empty else "This text cannot be read yet"
    name = known.architecture.name if known.architecture else name
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(horizontal=True, vertical_alignment="bottom", width="stretch"):
            st.subheader(shell.escaped(name), anchor=False, width="content")
            saved = ", not saved yet" if design.dirty else ""
            st.caption(f"from {shell.escaped(design.origin)}{saved}", width="content")
        _button("Undo", "undo", bool(design.past), design.undo, "Ctrl+Z")
        _button("Redo", "redo", bool(design.future), design.redo, "Ctrl+Y")
        menu = st.popover("Save", icon=":material/save:", key=_MENU, on_change="rerun")
        if menu.open:  # what nobody sees is not drawn: each edit draws the page
            with menu:
                _save(design, name)
        versions_menu(design)
        share_menu(design, known)
        st.button(
            "Open",
            key="design.open",
            icon=":material/folder_open:",
            on_click=_leave,
            help="Start from another preset, saved design or file",
        )
        if st.button(
            "Profile",
            key="design.profile",
            icon=":material/monitoring:",
            disabled=known.architecture is None or bool(known.errors),
            help="Measure a training step of this design, component by component",
        ):
            state.put("train_source", "current design")
            shell.go(shell.PROFILE)
        if st.button(
            "Train this",
            key="design.train",
            type="primary",
            icon=":material/play_arrow:",
            disabled=known.architecture is None or bool(known.errors),
        ):
            state.put("train_source", "current design")
            shell.go(shell.TRAIN)


def _button(label: str, icon: str, enabled: bool, click: object, keys: str) -> None:
    st.button(
        label,
        key=f"design.{icon}",
        icon=f":material/{icon}:",
        disabled=not enabled,
        on_click=click,  # type: ignore[arg-type]
        shortcut=keys,
    )


def _leave() -> None:
    """Show what to start from; the design stays at hand until another one is opened."""
    state.put("design_choosing", True)


def _save(design: state.Design, name: str) -> None:
    """Ask for a name, and whether a saved design of that name may be replaced."""
    given = st.text_input(
        "Name of the design", value=design.saved_as or name, max_chars=80, key=_NAME
    )
    st.checkbox("Replace a saved design of that name", value=given == design.saved_as, key=_REPLACE)
    with st.container(horizontal=True):
        st.button("Save", key="design.save", type="primary", on_click=_told, args=(_keep,))
        st.button(
            "Save a copy",
            key="design.copy",
            on_click=_told,
            args=(_keep_copy,),
            help="Save under this name with “copy” and go on with it",
        )
    said: tuple[Problem, ...] = state.keep(_NOTICE, ())
    shell.problems(said)
    merging.offer(design, told=bool(said))


def _told(save: Callable[[state.Design, str], None]) -> None:
    """Save, as a callback, and close the menu; what goes wrong is told in it."""
    design, given = state.design(), str(st.session_state.get(_NAME, ""))
    if design is None:
        return
    try:
        save(design, given)
    except HybridLabError as error:
        state.put(_NOTICE, error.problems)
    else:
        state.put(_NOTICE, ())
        st.session_state[_MENU] = False
        st.toast(f"Saved as {shell.escaped(design.saved_as or given)}", icon=":material/check:")


def _keep(design: state.Design, name: str) -> None:
    """Save the design under a name."""
    replace = bool(st.session_state.get(_REPLACE))
    expected = design.saved_text if name == design.saved_as else None
    entry = library.save_design(name, design.text, overwrite=replace, expected=expected)
    design.saved_as, design.saved_text = entry.name, design.text
    design.origin = f"design {entry.name}"
    keeping.saved(design)


def _keep_copy(design: state.Design, name: str) -> None:
    """Save the design as a copy under a name that is free, and go on with the copy."""
    for number in range(1, 100):
        title = f"{name} copy" if number == 1 else f"{name} copy {number}"
        text = edit.set_field(design.text, "name", title)
        try:
            entry = library.save_design(title, text)
        except HybridLabError:
            if number == 99:
                raise
            continue
        design.change(text)
        design.saved_as, design.saved_text, design.preset = entry.name, text, None
        design.origin = f"design {entry.name}"
        keeping.saved(design)
        return


def field(label: str, key: str, value: str | int) -> None:
    """Show a field of the architecture itself, such as its name or its width."""
    widget = key_showing(f"design.{key}", value)

    def changed() -> None:
        given = st.session_state[widget]
        if given and given != value:  # a browser may report what nobody touched
            actions.apply(lambda text: edit.set_field(text, key, given))

    if isinstance(value, int):
        st.number_input(label, 1, 65_536, value, step=1, key=widget, on_change=changed)
    else:
        st.text_input(label, value, max_chars=200, key=widget, on_change=changed)
