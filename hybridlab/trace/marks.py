"""How components are marked in the traces that are recorded here."""

RANGE = "component: "
"""What the name of a component's range begins with; its path follows."""
