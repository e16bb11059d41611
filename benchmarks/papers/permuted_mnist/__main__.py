"""Permuted MNIST scaled down: pooled to 196 steps, 10,000 images, two epochs.

python -m benchmarks.papers.permuted_mnist [--help]
"""

from benchmarks.papers.harness import main
from benchmarks.papers.harness.trial import attempt

if __name__ == "__main__":
    main(__file__, attempt)
