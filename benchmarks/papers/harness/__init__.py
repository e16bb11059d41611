"""What every paper's folder shares; its docstring is that of `benchmarks.papers`."""

from benchmarks.papers.harness.command import main as main
from benchmarks.papers.harness.command import progress as progress
from benchmarks.papers.harness.config import Settings as Settings
