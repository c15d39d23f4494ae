"""Searching architectures: spaces, exact prices, samplers on Optuna studies, and Pareto fronts of what was found."""
