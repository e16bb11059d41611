"""Models of a measured system, fitted and scored in one way; shared by two papers' folders.

A model is fitted on the training part, chosen by the validation part, and simulates the test part:
it is shown the inputs, and the outputs of the first ``begin`` steps alone.
"""

from benchmarks.papers.identification.protocol import Fit as Fit
from benchmarks.papers.identification.protocol import Simulate as Simulate
from benchmarks.papers.identification.protocol import attempt as attempt
