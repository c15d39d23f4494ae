"""Sections of the Design page."""
