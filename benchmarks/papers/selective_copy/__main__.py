"""Selective copying, where the input says what to keep, beside the gradient.

python -m benchmarks.papers.selective_copy [--help]
"""

from benchmarks.papers.harness import main
from benchmarks.papers.harness.trial import attempt

if __name__ == "__main__":
    main(__file__, attempt)
