"""The cascaded tanks of nonlinearbenchmark.org: many models, one protocol.

Needs cascaded_tanks/dataBenchmark.csv in the folder STEADYGRAD_DATA, and the row of sysidentpy that
package.

python -m benchmarks.papers.cascaded_tanks [--help]
"""

from benchmarks.papers import harness
from benchmarks.papers.identification import attempt

if __name__ == "__main__":
    harness.main(__file__, attempt)
