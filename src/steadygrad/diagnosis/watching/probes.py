"""The gradient at the layers' inputs, between replays."""

from collections.abc import Mapping

import numpy as np
from torch import nn

from steadygrad.diagnosis.watching.state import Seen
from steadygrad.flow.input_probe import InputProbe
from steadygrad.nn import Looped

EVERY = 50  # steps: that gradient is a product with W as large as those of the step itself


class Probes:
    """One `InputProbe` for each layer, at every 50th step; none without a record to write in.

    Args:
        layers: By name.
        seen: Where what they read is written.
    """

    def __init__(self, layers: Mapping[str, nn.Module], seen: Seen) -> None:
        self._seen = seen
        found = layers if seen.record else {}
        self._probes = {
            name: InputProbe(layer)
            for name, layer in found.items()
            if not isinstance(layer, (Looped, nn.RNNCellBase))
        }

    def turn(self, is_on: bool) -> None:
        """Probe the calls of the next step, if it is its turn."""
        is_on = is_on and (self._seen.step + 1) % EVERY == 0
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
