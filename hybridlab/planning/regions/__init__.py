"""Regions: components whose chains of element-wise work PyTorch's compiler makes into few kernels."""
