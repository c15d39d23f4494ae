"""How measurements of plans are known among runs."""

KIND = "plan"
FILE = "plan.json"
"""What such a run leaves in its folder: ``plan`` (with ``measured``) and ``plain_measured``."""
