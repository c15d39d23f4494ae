"""One buffer for all tensors of a pass: their lifetimes, their offsets, and running a model inside it."""
