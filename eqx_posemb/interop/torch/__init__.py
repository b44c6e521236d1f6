"""Positional embeddings for PyTorch, with nothing of JAX at run time."""
