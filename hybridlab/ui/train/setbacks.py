"""What went wrong in a training that goes on all the same: losses that shot up, and how often it went back."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from hybridlab.ui.live.reader import Reader


def setbacks(source: Reader, training: Mapping[str, object]) -> None:
    """Say how often a run went back to an earlier checkpoint, and that its loss shot up."""
    known = source.latest()
    if times := round(known.get("rollbacks", 0)):
        often = "once" if times == 1 else f"{times} times"
        st.warning(
            f"The training went back to an earlier checkpoint {often} of at most {training.get('rollbacks', times)}; "
            f"its learning rates are times {known.get('rate_factor', 1.0):.3g} since then. The log says why.",
            icon=":material/undo:",
        )
    if (rise := known.get("loss_spike")) is not None:
        st.warning(
            f"The loss shot up, to {rise:.3g} times what it was. If that comes again, lower the learning rate, "
            "lengthen the warm-up, or allow rollbacks under More settings.",
            icon=":material/trending_up:",
        )
