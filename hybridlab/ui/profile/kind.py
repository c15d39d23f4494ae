"""How profiles are known among runs."""

KIND = "profile"
STEPS = 10
"""Steps that are timed, and as many that are profiled, where nobody says otherwise."""
MOST_STEPS = 200
