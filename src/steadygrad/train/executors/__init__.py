"""Where the runs of a grid are done: in processes of this machine, or on a Ray cluster."""

from steadygrad.train.executors.base import Done as Done
from steadygrad.train.executors.base import Executor as Executor
from steadygrad.train.executors.base import Work as Work
from steadygrad.train.executors.local import Local as Local
from steadygrad.train.executors.on_ray import OnRay as OnRay
