"""What to start from: a preset, a saved design, a file, or nothing."""

from __future__ import annotations

import streamlit as st

from hybridlab.architecture import edit, library, versions
from hybridlab.architecture.carried import from_picture
from hybridlab.errors import HybridLabError
from hybridlab.ui import preset_costs, shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.design.card import face
from hybridlab.ui.design.go_on import offers
from hybridlab.ui.design.published import published

MAX_UPLOAD_BYTES = 512 * 1024


def chooser() -> None:
    """Offer presets, saved designs, a file and an empty design."""
    st.title("Design a hybrid")
    st.markdown("Start from a preset and change it, open what you saved, or start empty.")
    if state.design() is not None:
        st.button(
            "Back to the open design",
            icon=":material/arrow_back:",
            on_click=lambda: state.put("design_choosing", False),
        )
    offers()
    gallery()
    saved, other = st.columns(2, gap="medium")
    with saved:
        _saved()
    with other:
        _other()


def gallery(columns: int = 3) -> None:
    """Show the presets as cards."""
    entries = library.presets()
    if not entries:
        st.info("No presets were found beside the program.", icon=":material/info:")
    costs, coming = preset_costs.known(entries)
    places = st.columns(columns)
    for index, entry in enumerate(entries):
        with places[index % columns].container(border=True, height="stretch"):
            st.html(face(entry, costs.get(entry.name), coming))
            with st.container(horizontal=True, vertical_alignment="center"):
                if st.button(
                    "Open",
                    key=f"preset.{entry.name}",
                    help=f"Open {shell.escaped(entry.name)} in the designer",
                ):
                    open_preset(entry)
                if entry.source.startswith("https://"):
                    st.link_button(
                        "Paper", entry.source, type="tertiary", icon=":material/article:"
                    )
    with (
        st.container()
    ):  # always there, so that what stands below does not move when the costs have come
        if coming:
            _wait_for_costs()


@st.fragment(run_every=1.0)
def _wait_for_costs() -> None:
    """Draw the cards again once their costs are known."""
    if not preset_costs.known(library.presets())[1]:
        page_again()


def open_preset(entry: library.Entry) -> None:
    """Open a preset in the designer."""
    with shell.told():
        state.open_design(entry.text(), f"preset {entry.name}", preset=entry.name)
        shell.go(shell.DESIGN)


def _saved() -> None:
    with st.container(border=True, height="stretch"):
        st.markdown("**Saved designs**")
        entries = library.designs()
        if not entries:
            st.caption("Nothing saved yet. Save a design and it appears here.")
        for entry in entries[:20]:
            with st.container(horizontal=True, vertical_alignment="center"):
                if st.button(
                    shell.escaped(entry.title), key=f"saved.{entry.name}", icon=":material/draft:"
                ):
                    with shell.told():
                        state.open_design(entry.text(), f"design {entry.name}", saved_as=entry.name)
                        st.rerun()
                if st.button(
                    "Delete",
                    key=f"drop.{entry.name}",
                    type="tertiary",
                    icon=":material/delete:",
                    help=f"Delete the saved design {shell.escaped(entry.name)}",
                ):
                    confirm_delete(entry.name)


@st.dialog("Delete a saved design?")
def confirm_delete(name: str) -> None:
    """Ask before a saved design is deleted."""
    st.markdown(f"**{shell.escaped(name)}** will be removed from this machine.")
    with st.container(horizontal=True):
        if st.button("Delete", type="primary"):
            with shell.told():
                library.delete_design(name)
                versions.forget(versions.history_of(name))
                st.rerun()
        if st.button("Keep it"):
            st.rerun()


def _other() -> None:
    with st.container(border=True, height="stretch"):
        st.markdown("**From a file, or from nothing**")
        file = st.file_uploader(
            "Architecture file: YAML (at most 512 KiB), or a picture saved here (SVG, PNG)",
            type=["yaml", "yml", "svg", "png"],
            max_upload_size=5,
        )
        if file is not None:
            _take(file.name, file.getvalue())
        published()
        if st.button("Start empty", key="start.empty", icon=":material/add:"):
            state.open_design(edit.EMPTY, "an empty design")
            st.rerun()


def _take(name: str, content: bytes) -> None:
    """Open an uploaded file; its size is checked here again, since a browser's limit is only a courtesy."""
    if name.lower().endswith((".svg", ".png")):
        try:
            content = from_picture(content).encode()
        except HybridLabError as error:
            shell.problems(error.problems, shell.escaped(name))
            return
    if len(content) > MAX_UPLOAD_BYTES:
        st.error(f"The file is too large: {len(content) / 1024:,.0f} KiB, at most 512 KiB.")
        return
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        st.error("The file is not text in UTF-8, so it cannot be an architecture.")
        return
    try:
        architecture, problems = state.parsed(text)
    except HybridLabError as error:
        architecture, problems = None, error.problems
    if architecture is None:
        shell.problems(problems, shell.escaped(name))
        return
    state.open_design(text, f"file {name}")
    st.rerun()
