"""Grids of runs, their executors, the tables of remedies and papers, and the demo."""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.bench.executors import Executor as Executor
from steadygrad.bench.executors import Local as Local
from steadygrad.bench.executors import OnRay as OnRay
from steadygrad.bench.grid import Grid as Grid
from steadygrad.bench.grid import Progress as Progress
from steadygrad.bench.grid import run_grid as run_grid
from steadygrad.bench.trial import Result as Result
from steadygrad.bench.trial import Trial as Trial
from steadygrad.bench.trial import run_trial as run_trial

if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
