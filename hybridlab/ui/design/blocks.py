"""Groups to use again: the selected one is kept under a name, and kept ones are put into the design."""

from __future__ import annotations

import streamlit as st

from hybridlab.architecture import blocks
from hybridlab.architecture.spec import Node
from hybridlab.errors import HybridLabError
from hybridlab.ui import shell, state
from hybridlab.ui.canvas.changes import Paste
from hybridlab.ui.design import actions

_NAME, _MENU = "block.name", "block.menu"
_MOST = 20


def block_list(path: str | None, node: Node | None) -> None:
    """Offer to keep the selected group as a block, and to insert those that were kept."""
    place = st.expander("Blocks to use again", key=_MENU, on_change="rerun")
    if not place.open:
        return
    with place:
        if path and node is not None and node.is_group:
            key = f"{_NAME}.{node.id}"
            st.text_input("Name of the block", node.id, max_chars=60, key=key)
            st.button(
                "Save this group as a block", key="block.save", on_click=_keep, args=(path, key)
            )
        found = blocks.blocks()
        if not found:
            st.caption("None yet. Select a group, and save it here under a name.")
        for entry in found[:_MOST]:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.button(
                    shell.escaped(entry.title),
                    key=f"block.add.{entry.name}",
                    icon=":material/add:",
                    on_click=_add,
                    args=(entry.name, path),
                    help="Insert it behind the selected node, or at the end",
                )
                st.button(
                    ":material/delete:",
                    key=f"block.drop.{entry.name}",
                    type="tertiary",
                    on_click=blocks.delete_block,
                    args=(entry.name,),
                    help=f"Delete the block {shell.escaped(entry.name)} from this machine",
                )


def _keep(path: str, key: str) -> None:
    design, name = state.design(), str(st.session_state.get(key, ""))
    if design is None:
        return
    try:
        entry = blocks.save_block(design.text, path, name)
    except HybridLabError as error:
        state.put("design_notice", list(error.problems))
    else:
        st.toast(f"Saved as the block {shell.escaped(entry.title)}", icon=":material/check:")


def _add(name: str, path: str | None) -> None:
    """Insert a block behind a node, or at the end; ids that are taken are numbered on."""
    entry = next((entry for entry in blocks.blocks() if entry.name == name), None)
    if entry is None:
        return
    tops = sum("." not in address for address in actions.nodes())
    at = actions.sibling(path, actions.index_of(path) + 1) if path else f"nodes[{tops}]"
    actions.apply(lambda text: Paste(do="paste", at=at, yaml=entry.text()).make(text), at)
