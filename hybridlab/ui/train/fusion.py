"""What is fused by a training's settings: how much, whether it fits the design, and how to take it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.architecture.complete import complete
from hybridlab.errors import HybridLabError
from hybridlab.planning.fusion.record import Fusion
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.train import setup


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
            _told(fusion, text, task)
        st.button(
            "Train without fusion",
            icon=":material/close:",
            key="train.fusion.remove",
            on_click=_remove,
            args=(task,),
        )


def _told(fusion: Fusion, text: str, task: Mapping[str, Any]) -> None:
    maps = sum(len(names) for names in fusion.products)
    products = "product" if len(fusion.products) == 1 else "products"
    st.markdown(
        f"{maps} linear maps run as {len(fusion.products)} {products}. Weights keep their names, so what is saved is "
        "as without it; what is learnt is the same but for rounding."
    )
    architecture = state.parsed(text)[0]
    if architecture is None:
        return
    kinds = {entry["name"]: str(entry["kind"]) for entry in predictions.components()}
    whole = complete(architecture, task["input_node"], task["head_node"], kinds.get)
    if whole.fingerprint != fusion.fingerprint:
        st.error(
            "This was measured for another architecture or task; measure this design on the Memory page, or train "
            "without it.",
            icon=":material/error:",
        )


def _remove(task: Mapping[str, Any]) -> None:
    name = f"settings.{task['name']}"
    kept, _ = setup.kept_settings(task)
    state.put(name, {key: value for key, value in kept.items() if key != "fusion"})
