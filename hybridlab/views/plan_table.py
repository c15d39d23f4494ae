"""What a plan does with each component, as a table."""

from __future__ import annotations

import pandas as pd

from hybridlab.planning.record import Plan
from hybridlab.planning.trade_off import TradeOff
from hybridlab.views.plan_diagram import told_apart


def plan_table(found: TradeOff, plan: Plan) -> pd.DataFrame:
    """Return a row for each component in running order: what is done with it, and what it takes, predicted."""
    does = told_apart(plan)
    return pd.DataFrame(
        {
            "component": [part.name for part in found.parts],
            "plan": [does.get(part.name, "kept") for part in found.parts],
            "kept_bytes": [part.saved_bytes for part in found.parts],
            "forward_ms": [part.forward_ms for part in found.parts],
            "again_ms": [part.again_ms for part in found.parts],
            "peak_forward_bytes": [part.forward_peak_bytes for part in found.parts],
            "peak_backward_bytes": [part.backward_peak_bytes for part in found.parts],
            "why": [part.kept_because for part in found.parts],
        }
    )
