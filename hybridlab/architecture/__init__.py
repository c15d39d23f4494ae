"""Architectures as data: spec, text, checks, types on edges, and the one model that runs them."""
