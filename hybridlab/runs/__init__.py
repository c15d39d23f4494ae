"""Runs: records, store, supervisor, workers and leases; free of torch."""
