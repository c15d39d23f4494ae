"""HybridLab: design, predict, train, measure, optimise and search hybrid neural architectures on one graph."""

from __future__ import annotations

__version__ = "0.1.0"
