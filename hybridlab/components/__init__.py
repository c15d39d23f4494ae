"""The palette: one file a component, found by its registration, known to nobody by name."""
