"""A task's data card on the Train page: what it asks, examples, sizes, source, and what is reached without learning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.ui import predictions, shell
from hybridlab.ui.again import page_again


def data_card(task: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Show the card of a task as it is set, once it is asked for."""
    if st.toggle("Show the data", key="train.card", help="Examples, sizes, source and baselines."):
        params = dict(settings.get("task_params") or {})
        answer = predictions.data_card(task["name"], params, wait_s=0.3)
        if answer is None:
            _wait_for(task["name"], params)
        elif answer.problems:
            shell.problems(answer.problems)
        else:
            _card(answer.value)


@st.fragment(run_every=0.5)
def _wait_for(task: str, params: Mapping[str, Any]) -> None:
    if predictions.data_card(task, params) is not None:
        page_again()
    st.caption(":material/hourglass_top: Reading the data …")


def _card(card: Mapping[str, Any]) -> None:
    st.markdown(f"**{shell.escaped(card['title'])}.** {shell.escaped(card['tests'])}")
    for number, example in enumerate(card["examples"], 1):
        st.caption(f"Training sample {number}, and its answer")
        st.code(example["inputs"], language=None, wrap_lines="\n" not in example["inputs"])
        st.code(example["answer"], language=None, wrap_lines=True)
    train = card["train_samples"]
    told = {
        "To train": f"{train:,} samples" if train is not None else "drawn anew at each step",
        **{
            split.replace("_", " "): f"{n:,} scored answers"
            for split, n in card["evaluated"].items()
        },
        "Reads": card["inputs"],
        "Answers": card["answers"],
        "Metric": " in ".join(filter(None, (card["metric"].replace("_", " "), card["unit"]))),
        **{
            f"Without learning, {name}": f"{value:.3g} {card['unit']}".rstrip()
            for name, value in card["baselines"].items()
        },
        "Source": card["source"],
    }
    st.table({shell.escaped(name): shell.escaped(value) for name, value in told.items()})
