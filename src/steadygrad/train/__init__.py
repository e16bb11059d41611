"""Training on the reader's own file: data, loop, checkpoints, scores beside naive answers."""

from steadygrad.train.config import TrainConfig as TrainConfig
from steadygrad.train.events import Event as Event
from steadygrad.train.events import Listener as Listener
from steadygrad.train.events import Outcome as Outcome
from steadygrad.train.run import train as train
