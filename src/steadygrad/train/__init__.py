"""Training on the reader's own file: data, loop, checkpoints, scores beside naive answers."""

from steadygrad.train.config import TrainConfig as TrainConfig
from steadygrad.train.events import Event as Event
from steadygrad.train.events import Listener as Listener
from steadygrad.train.events import Outcome as Outcome
from steadygrad.train.reload import Reloaded as Reloaded
from steadygrad.train.reload import reload as reload
from steadygrad.train.repair import repair_config as repair_config
from steadygrad.train.repair import resumed_config as resumed_config
from steadygrad.train.run import train as train
