"""Memory pools of an accelerator, one for each group of components."""
