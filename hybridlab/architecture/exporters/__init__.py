"""Writes architectures in other forms: so far one Python file that needs nothing but torch."""
