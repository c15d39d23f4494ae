"""Fusion: linear maps that read one tensor become one product, norms' scales go into the maps behind them."""
