"""The canvas: the architecture as a graph that is built by point and click. The text stays the truth."""
