"""The Silverbox of nonlinearbenchmark.org: many models, one protocol.

Needs silverbox/SNLS80mV.csv in the folder STEADYGRAD_DATA, and the row of sysidentpy that
package.

python -m benchmarks.papers.silverbox [--help]
"""

from benchmarks.papers import harness
from benchmarks.papers.identification import attempt

if __name__ == "__main__":
    harness.main(__file__, attempt)
