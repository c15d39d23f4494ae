"""How measurements of plans, and of fusion, are known among runs."""

KIND = "plan"
FILE = "plan.json"
"""What such a run leaves in its folder: ``plan`` (with ``measured``) and ``plain_measured``."""
FUSE = "fuse"
FUSED_FILE = "fusion.json"
"""What a run of kind ``fuse`` leaves in its folder: what fused, what did not and why."""
