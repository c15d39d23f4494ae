"""Inputs: what turns a batch into a sequence of vectors."""
