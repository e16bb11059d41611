"""Forecast with NARX: fill its delay lines from the window, then run it on its own outputs."""

from typing import final

import torch
from torch import Tensor, nn

from steadygrad.errors import InputError
from steadygrad.nn import NARX
from steadygrad.nn.narx import Delays
from steadygrad.tasks.forecast import LEAST_SCALE
from steadygrad.tasks.forecast_spec import ForecastSpec


@final
class NarxAhead(nn.Module):
    r"""Forecast ``horizon`` rows with a `NARX`, the loop closed over them.

    The outputs are those of every forecast here, changes from the last known value over
    :math:`s_t`, so that loss, scores and intervals are comparable; see
    `steadygrad.tasks.forecast.Forecast`. With a horizon of one row nothing is fed back (open loop).

    Inputs that are known ahead are used with their future values; all others keep the last value.

    Args:
        spec: Specification of the forecast.
        hidden: Units of the hidden layer.
        input_delays: Delays of the inputs.
        output_delays: Delays of the output.

    Raises:
        InputError: Several series, or a window too short for the delays.
    """

    def __init__(
        self,
        spec: ForecastSpec,
        hidden: int,
        input_delays: tuple[int, ...],
        output_delays: tuple[int, ...],
    ) -> None:
        super().__init__()
        if len(spec.scales) > 1:
            raise InputError("narx: learns one series; give --only VALUE to take one")
        names = [i.name for i in spec.inputs]
        self.target = names.index(spec.target)
        ahead = [n for n, i in enumerate(spec.inputs) if i.source == "known"]
        given = {(spec.inputs[n].column, spec.inputs[n].kind) for n in ahead}
        held = [
            n
            for n, i in enumerate(spec.inputs)
            if n != self.target
            and i.source in ("number", "category")
            and (i.column, i.kind) not in given
        ]
        self.ahead, self.held, self.horizon = ahead, held, spec.horizon
        self.drifts = spec.drifts
        self.ratio = spec.inputs[self.target].deviation[0] / spec.scale
        width = len(ahead) + len(held)
        self.net = NARX(width, 1, hidden, input_delays if width else (), output_delays)
        needed = self.net.longest_delay + (spec.horizon if ahead else 0)
        if spec.window < needed:
            raise InputError(
                f"narx: the window of {spec.window} rows is too short for delays of"
                f" {self.net.longest_delay} and a horizon of {spec.horizon}; give --window {needed}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the forecast ``(B, K)`` of windows ``(T, B, I)``."""
        delay, ahead = self.net.longest_delay, self.horizon
        y = x[..., self.target : self.target + 1]
        # Row r of an input known ahead has its value at row r + K: its last D + K rows are the
        # last D rows and the K future ones.
        known = x[x.shape[0] - delay - ahead :, :, self.ahead] if self.ahead else None
        parts = [known] if known is not None else []
        if self.held:
            past = x[-delay:, :, self.held]
            parts.append(torch.cat([past, past[-1:].expand(ahead, -1, -1)]))
        if parts:
            u = torch.cat(parts, -1)
        else:
            u = x.new_zeros(delay + ahead, x.shape[1], 0)
        z, _ = self.net.free_run(u[delay:], Delays(u[:delay], y[-delay:]))
        change = (z[..., 0] - y[-1, :, 0]).T * self.ratio
        if not self.drifts:
            return change
        s = (y[..., 0].std(0, correction=0) * self.ratio).clamp(min=LEAST_SCALE)
        return change / s[:, None]


def delays_of(option: str, text: str | None, least: int) -> tuple[int, ...]:
    """Read delays such as ``1,2,5``, or ``1-4``.

    Args:
        option: Name of the option, for messages.
        text: Its value; None for 1,2.
        least: Smallest valid delay.

    Raises:
        InputError: The text is not a list of valid delays.
    """
    if text is None:
        return (1, 2)
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(f"{option} {text}: expected delays such as 1,2,5 or 1-4")
        found += range(int(first), int(last or first) + 1)
    if not found or min(found) < least or len(set(found)) != len(found) or max(found) > 10_000:
        raise InputError(f"{option} {text}: expected different delays of {least} to 10000")
    return tuple(found)
