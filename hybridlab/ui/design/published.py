"""The door for published models: a Hugging Face config.json, or a layer pattern as Megatron-LM writes it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from hybridlab.ui import predictions, shell, state
from hybridlab.units import format_count

_SMALL = "published.small"
_PATTERN = "published.pattern"
_MOST_KIB = 512


def published() -> None:
    """Offer to read a published model; nothing is downloaded, and no code of it is run."""
    place = st.expander(
        "A published model", icon=":material/public:", key="published", on_change="rerun"
    )
    if not place.open:
        return
    with place:
        known = ", ".join(predictions.families())
        st.checkbox(
            "Shrink it to a size that trains here",
            value=True,
            key=_SMALL,
            help="The same pattern with a width of 64, two repeats, few heads and experts; off: its own size",
        )
        file = st.file_uploader(
            "config.json of a model on Hugging Face",
            type=["json"],
            max_upload_size=1,
            key="published.config",
            help=f"Families that are read: {known}" if known else None,
        )
        if file is not None:
            _take_config(file.name, file.getvalue())
        st.text_input(
            "Layer pattern of a Megatron-LM hybrid",
            placeholder="M-M*-M-E",
            max_chars=1_000,
            key=_PATTERN,
            help="M Mamba-2, G gated DeltaNet, * attention, D sparse attention, + latent attention, - MLP, E experts",
        )
        if st.button("Read the pattern", key="published.read", icon=":material/input:"):
            pattern = str(st.session_state.get(_PATTERN, "")).strip()
            if pattern:
                _open({"pattern": pattern}, f"the pattern {pattern[:40]}")
            else:
                st.error("Type a pattern first, such as M-M*-M-E.")


def _take_config(name: str, content: bytes) -> None:
    if len(content) > _MOST_KIB * 1024:
        st.error(f"The file is too large: {len(content) / 1024:,.0f} KiB, at most {_MOST_KIB} KiB.")
        return
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        st.error("The file is not text in UTF-8, so it cannot be a config.json.")
        return
    _open({"config": text}, f"file {name}")


def _open(source: dict[str, Any], origin: str) -> None:
    with st.spinner("Reading …"):
        answer = predictions.published(
            {**source, "small": bool(st.session_state.get(_SMALL, True))}
        )
    if answer.problems:
        shell.problems(answer.problems, shell.escaped(origin))
        return
    found = answer.value
    state.open_design(found["text"], origin)
    size = f"{format_count(found['params'])} parameters"
    if found["params"] != found["params_published"]:
        size += f", shrunk from {format_count(found['params_published'])} as published"
    st.toast(f"{shell.escaped(found['name'])}: {size}", icon=":material/check:")
    for note in found["notes"][:3]:
        st.toast(shell.escaped(note), icon=":material/info:")
    st.rerun()
