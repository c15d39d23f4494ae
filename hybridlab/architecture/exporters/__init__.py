"""Writes architectures in other forms: one Python file that needs torch alone, ONNX, a folder for transformers."""
