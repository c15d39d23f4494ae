"""Joins: what makes one sequence out of several branches."""
