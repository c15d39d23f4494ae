"""Routers: what chooses a way through the graph."""
