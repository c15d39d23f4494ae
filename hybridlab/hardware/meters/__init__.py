"""Meters of what a process uses of the machine; a quantity without a meter is told as not measured."""
