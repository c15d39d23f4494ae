"""What a search's space comes to: how large it is, how much of it can be built, and what it spans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from hybridlab.search.landscape import Objective
from hybridlab.ui import predictions, shell, state
from hybridlab.ui.again import page_again
from hybridlab.ui.worker_pool import Answer
from hybridlab.units import format_count
from hybridlab.views.search_axes import title_of, written


def space(answer: Answer | None) -> None:
    """Say how large the space is, and how much of a random sample of it can be built."""
    if answer is None or answer.problems:
        return
    told = answer.value
    size(told)
    for objective in told["objectives"]:
        if objective["name"] in told["ranges"]:
            low, middle, high = told["ranges"][objective["name"]]
            one = Objective(**objective)
            st.caption(
                f"{title_of(one.name).capitalize()}, predicted: {written(one, low)} to {written(one, high)}, "
                f"half of them below {written(one, middle)}."
            )
    if told["within"] < told["built"]:
        st.caption(
            f"{told['within']:,} of the {told['built']:,} keep the limits on what is predicted."
        )
    with st.expander("What varies", icon=":material/tune:", key="search.choices"):
        lines = [
            f"- **{shell.escaped(choice['name'])}** {shell.escaped(', '.join(map(str, choice['values'])))}"
            for choice in told["choices"]
        ]
        st.markdown("\n".join(lines))


def size(told: Mapping[str, Any]) -> None:
    """Say how many designs there are, and which share of them can be built."""
    sampled, built = int(told["sampled"]), int(told["built"])
    facts = {
        "Designs": format_count(told["size"]),
        "Choices": f"{sum(len(choice['values']) > 1 for choice in told['choices'])}",
        "Can be built": f"{built / max(1, sampled):.0%} of {sampled:,} drawn",
    }
    shell.facts(
        facts,
        {
            "Can be built": "Of designs drawn at random. What does not fit together is mended or never proposed."
        },
    )


def size_line(told: Mapping[str, Any]) -> None:
    """Say the same in a line, where there is little room."""
    choices = sum(len(choice["values"]) > 1 for choice in told["choices"])
    sampled, built = int(told["sampled"]), int(told["built"])
    st.markdown(
        f"**{format_count(told['size'])} designs** by {choices} choices; {built / max(1, sampled):.0%} of {sampled:,} "
        "drawn at random can be built."
    )


def wait_for_space(text: str) -> None:
    """Draw the page again as soon as a search's text has been looked at."""
    st.fragment(_wait, run_every=0.5)(text)


def _wait(text: str) -> None:
    if predictions.survey_search(text, state.session_name()) is not None:
        page_again()
    st.caption(":material/hourglass_top: Looking at the space …")
