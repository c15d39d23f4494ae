"""Curves that grow while a run is under way: only new points travel to the browser."""
