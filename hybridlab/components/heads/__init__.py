"""Heads: what turns a sequence into an answer."""
