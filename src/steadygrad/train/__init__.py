"""Train on a user's own file: data, loop, checkpoints, scores and naive answers."""

from typing import TYPE_CHECKING

from steadygrad._room import on_first_use

if TYPE_CHECKING:
    from steadygrad.train.config import TrainConfig as TrainConfig
    from steadygrad.train.events import Event as Event
    from steadygrad.train.events import Listener as Listener
    from steadygrad.train.events import Outcome as Outcome
    from steadygrad.train.forking import fork as fork
    from steadygrad.train.reloading import Reloaded as Reloaded
    from steadygrad.train.reloading import reload as reload
    from steadygrad.train.repair import repair_config as repair_config
    from steadygrad.train.repair import resumed_config as resumed_config
    from steadygrad.train.run import train as train
else:
    # The command line needs TrainConfig for its help, without importing torch.
    _HOMES = {
        "TrainConfig": "config",
        **dict.fromkeys(("Event", "Listener", "Outcome"), "events"),
        "fork": "forking",
        **dict.fromkeys(("Reloaded", "reload"), "reloading"),
        **dict.fromkeys(("repair_config", "resumed_config"), "repair"),
        "train": "run",
    }
    __getattr__, __all__, __dir__ = on_first_use(__name__, _HOMES)
