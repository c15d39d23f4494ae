"""Budget to plan: what to keep, recompute, place and fuse."""
