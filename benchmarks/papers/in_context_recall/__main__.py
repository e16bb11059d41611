"""In-context recall, one of MAD's six tasks, beside the gradient.

python -m benchmarks.papers.in_context_recall [--help]
"""

from benchmarks.papers.harness import main
from benchmarks.papers.harness.trial import attempt

if __name__ == "__main__":
    main(__file__, attempt)
