"""How measurements of plans, of fusion and of tuning are known among runs."""

KIND = "plan"
FILE = "plan.json"
"""What such a run leaves in its folder: ``plan`` (with ``measured``) and ``plain_measured``."""
FUSE = "fuse"
FUSED_FILE = "fusion.json"
"""What a run of kind ``fuse`` leaves in its folder: what fused, what did not and why."""
TUNE = "tune"
TUNED_FILE = "tuning.json"
"""What a run of kind ``tune`` leaves in its folder: what is faster in another way, what was tried."""
CHOICES = (FUSE, TUNE)
"""Measurements of what makes a step faster; each has a section of its own on the page."""
