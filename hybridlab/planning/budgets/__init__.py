"""Plans of a compiled step in which PyTorch's memory budget divides what each component keeps."""
