"""Adding, the form of Le et al.: a tanh RNN that answers one, and cells that add.

python -m benchmarks.papers.adding [--help]
"""

from benchmarks.papers.harness import main
from benchmarks.papers.harness.trial import attempt

if __name__ == "__main__":
    main(__file__, attempt)
