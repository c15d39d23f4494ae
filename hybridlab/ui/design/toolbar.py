"""The designer's head: name, undo and redo, save, copy, download, open another, train."""

from __future__ import annotations

import streamlit as st

from hybridlab.architecture import edit, library
from hybridlab.errors import HybridLabError
from hybridlab.ui import shell, state
from hybridlab.ui.design import actions
from hybridlab.ui.design.look import Look, wait_for


def toolbar(design: state.Design, known: Look) -> None:
    """Show the design's name and what can be done with it as a whole."""
    name = known.architecture.name if known.architecture else "This text cannot be read yet"
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(horizontal=True, vertical_alignment="bottom", width="stretch"):
            st.subheader(shell.escaped(name), anchor=False, width="content")
            saved = ", not saved yet" if design.dirty else ""
            st.caption(f"from {shell.escaped(design.origin)}{saved}", width="content")
            if known.pending:
                wait_for(known.pending)
        _button("Undo", "undo", bool(design.past), design.undo, "Ctrl+Z")
        _button("Redo", "redo", bool(design.future), design.redo, "Ctrl+Y")
        with st.popover("Save", icon=":material/save:"):
            _save(design, name)
        st.download_button(
            "YAML",
            design.text,
            f"{name}.yaml",
            "application/yaml",
            icon=":material/download:",
            on_click="ignore",
            help="Download the architecture as a YAML file",
        )
        st.button(
            "Open",
            key="design.open",
            icon=":material/folder_open:",
            on_click=_leave,
            help="Start from another preset, saved design or file",
        )
        if st.button(
            "Train this",
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
    """Save under a name; a saved design of that name is replaced only when asked to."""
    given = st.text_input(
        "Name of the design",
        value=design.saved_as or name,
        max_chars=80,
        key="design.name_to_save",
    )
    replace = st.checkbox("Replace a saved design of that name", value=given == design.saved_as)
    with st.container(horizontal=True):
        if st.button("Save", key="design.save", type="primary"):
            with shell.told():
                entry = library.save_design(given, design.text, overwrite=replace)
                design.saved_as, design.saved_text = entry.name, design.text
                design.origin = f"design {entry.name}"
                st.toast(f"Saved as {shell.escaped(entry.name)}", icon=":material/check:")
        if st.button(
            "Save a copy",
            key="design.copy",
            help="Save under this name with “copy” and go on with it",
        ):
            with shell.told():
                _duplicate(design, given)


def _duplicate(design: state.Design, name: str) -> None:
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
        st.rerun()


def field(label: str, key: str, value: str | int) -> None:
    """Show a field of the architecture itself, such as its name or its width."""
    widget = f"design.{key}"
    if st.session_state.get(widget) != value:
        st.session_state[widget] = value

    def changed() -> None:
        given = st.session_state[widget]
        if given:
            actions.apply(lambda text: edit.set_field(text, key, given))

    if isinstance(value, int):
        st.number_input(label, min_value=1, max_value=65_536, step=1, key=widget, on_change=changed)
    else:
        st.text_input(label, max_chars=200, key=widget, on_change=changed)
