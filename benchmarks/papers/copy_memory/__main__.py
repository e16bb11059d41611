"""Copy memory: an LSTM that answers blanks, and orthogonal recurrences that remember.

python -m benchmarks.papers.copy_memory [--help]
"""

from benchmarks.papers.harness import main
from benchmarks.papers.harness.trial import attempt

if __name__ == "__main__":
    main(__file__, attempt)
