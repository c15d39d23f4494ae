"""What is fused by a training's settings: how much, whether it fits the design, and how to take it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.errors import HybridLabError
from hybridlab.planning.fusion.record import Fusion
from hybridlab.ui import shell
from hybridlab.ui.train.measured import made_for, remove


def fusion_panel(text: str, task: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Show what is fused by the settings, where something is."""
    if not settings.get("fusion"):
        return
    with st.container(border=True):
        st.markdown("**Fused**")
        try:
            fusion = Fusion.read(settings["fusion"])
        except HybridLabError as error:
            shell.problems(error.problems)
        else:
            _told(fusion)
            made_for(fusion.fingerprint, text, task)
        st.button(
            "Train without fusion",
            icon=":material/close:",
            key="train.fusion.remove",
            on_click=remove,
            args=(task, "fusion"),
        )


def _told(fusion: Fusion) -> None:
    said = []
    if fusion.products:
        maps = sum(len(names) for names in fusion.products)
        products = "product" if len(fusion.products) == 1 else "products"
        said.append(f"{maps} linear maps run as {len(fusion.products)} {products}.")
    if fusion.tables:
        said.append("Each table of turns by positions is made once.")
    said.append(
        "Weights keep their names, so what is saved is as without it; what is learnt is the same but for rounding."
    )
    st.markdown(" ".join(said))
