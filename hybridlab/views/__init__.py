"""Figures: each a record computed first and drawn after."""
