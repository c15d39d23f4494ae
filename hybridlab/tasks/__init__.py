"""Data sets and synthetic tasks, one file each."""
