"""Executors of the runs of a grid: processes of this machine, or a Ray cluster."""

from steadygrad.bench.executors.base import Done as Done
from steadygrad.bench.executors.base import Executor as Executor
from steadygrad.bench.executors.base import Work as Work
from steadygrad.bench.executors.local import Local as Local
from steadygrad.bench.executors.on_ray import OnRay as OnRay
