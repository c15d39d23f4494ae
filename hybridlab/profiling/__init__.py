"""Profiler sessions and the reading of traces."""
