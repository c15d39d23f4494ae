"""The steps of a three-way merge."""
