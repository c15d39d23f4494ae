"""The page on which a profile or a trace is looked at."""
