"""Data that a user brings: read, looked at, cut into splits and kept. Free of torch."""
