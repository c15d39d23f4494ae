"""How what components hand over lies in memory: chosen over the whole graph at least measured cost."""
