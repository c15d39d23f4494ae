"""Batches sorted by length against batches padded to the longest sample there is: positions, bytes and time."""
