"""Permuted MNIST in small: pooled images, a fifth of them, two epochs."""
