"""What a model does and costs, predicted on fake tensors."""
