"""The gradient at the layers' inputs, between replays."""

from collections.abc import Mapping

import numpy as np
from torch import nn

from steadygrad.diagnosis.watching.seen import Seen
from steadygrad.flow.input_probe import InputProbe


class Probes:
    """One `InputProbe` for each layer.

    Args:
        layers: By name; none are probed if there are none.
        seen: Where what they read is written.
    """

    def __init__(self, layers: Mapping[str, nn.Module], seen: Seen) -> None:
        self._seen = seen
        self._probes = {name: InputProbe(layer) for name, layer in layers.items()}

    def turn(self, is_on: bool) -> None:
        """Probe the calls from now on, or do not."""
        for probe in self._probes.values():
            probe.is_on = is_on

    def sample(self, scale: float) -> None:
        """Write what was read in this step, whose gradients were multiplied by ``scale``."""
        record = self._seen.record
        for name, probe in self._probes.items():
            if record and probe.log10_grad is not None and probe.is_on:
                row = probe.log10_grad - np.log10(scale)
                record.row(self._seen.step, "log10_grad_input", name, row, state="x")

    def close(self) -> None:
        """Take the hooks off."""
        for probe in self._probes.values():
            probe.close()
