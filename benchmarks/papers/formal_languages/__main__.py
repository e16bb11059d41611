"""Formal languages, trained on short strings and scored on longer ones, beside the gradient.

python -m benchmarks.papers.formal_languages [--help]
"""

from benchmarks.papers.harness import main
from benchmarks.papers.harness.trial import attempt

if __name__ == "__main__":
    main(__file__, attempt)
