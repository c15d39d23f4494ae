"""Devices, their measured ceilings and meters."""
