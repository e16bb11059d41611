"""NARX: a feed-forward network on delayed inputs and outputs, open loop and closed."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn

from steadygrad.nn.step_gradient import Looped, OnState


class Delays(NamedTuple):
    """What the tapped delay lines hold: the last inputs ``(·, B, I)`` and outputs ``(·, B, O)``."""

    inputs: Tensor
    outputs: Tensor


@final
class NARX(nn.Module):
    r"""Nonlinear autoregressive network with exogenous inputs.

    .. math::
        \hat y_t = W_2 \tanh(W_1 [y_{t-1}; \dots; y_{t-n_y}; u_{t-d_1}; \dots; u_{t-d_k}] + b_1)
            + b_2

    **Open loop** (series-parallel): the delayed outputs are the true ones. No recurrence: all
    steps at once, and no gradient through time. **Closed loop** (parallel): they are the network's
    own, :math:`\hat y`; the gradient then runs back through them, a product of
    :math:`\partial \hat y_t / \partial \hat y_{t-k}`, which may explode. Train open, close the loop
    with the states the open loop ended in, and train on closed if needed
    (`steadygrad.nn.fit_narx`).

    Not a `Cell`: its state is a delay line of outputs, and the closed loop is plain torch.
    `steadygrad.diagnose` sees it as ``closed_loop``, its state the outputs y.

    Args:
        input_size: Features of u, ``I``; 0 for an autoregression without input.
        output_size: Features of y, ``O``.
        hidden_size: Units of the hidden layer.
        input_delays: Delays of u; 0 lets the present input through.
        output_delays: Delays of y, at least 1.
        device: Where the weights are made.
        dtype: Of the weights.

    Shapes:
        ``u (T, B, I)``, ``y (T, B, O)``; predictions ``(T - D, B, O)`` of ``y[D:]``, ``D`` the
        longest delay, or ``(T, B, O)`` if `Delays` are given.

    Raises:
        ValueError: Delays or shapes that do not fit, or fewer steps than the longest delay.

    References:
        Lin, Horne, Tiňo and Giles, *Learning Long-Term Dependencies in NARX Recurrent Networks*,
        1996. Narendra and Parthasarathy, *Identification and Control of Dynamical Systems Using
        Neural Networks*, 1990 (series-parallel and parallel).

    Example:
        >>> net = NARX(1, 1, 5, (1, 2), (1, 2))
        >>> u, y = torch.randn(2, 50, 1, 1)
        >>> open_loop, delays = net(u[:40], y[:40])
        >>> net.free_run(u[40:], delays)[0].shape
        torch.Size([10, 1, 1])
    """

    def __init__(
        self,
        input_size: int,
        output_size: int = 1,
        hidden_size: int = 10,
        input_delays: Sequence[int] = (1, 2),
        output_delays: Sequence[int] = (1, 2),
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_delays = _delays("input_delays", input_delays, 0, bool(input_size))
        self.output_delays = _delays("output_delays", output_delays, 1, True)
        if input_size < 0 or min(output_size, hidden_size) < 1:
            raise ValueError(
                "NARX: input_size must be at least 0, output_size and hidden_size at least 1, got "
                f"{input_size}, {output_size}, {hidden_size}"
            )
        self.input_size, self.output_size, self.hidden_size = input_size, output_size, hidden_size
        width = len(self.output_delays) * output_size + len(self.input_delays) * input_size
        self.closed_loop = ClosedLoop(self)
        self.hidden = nn.Linear(width, hidden_size, device=device, dtype=dtype)
        self.readout = nn.Linear(hidden_size, output_size, device=device, dtype=dtype)

    @property
    def longest_delay(self) -> int:
        """``D``, steps needed before the first prediction."""
        return max((*self.input_delays, *self.output_delays))

    def forward(self, u: Tensor, y: Tensor, delays: Delays | None = None) -> tuple[Tensor, Delays]:
        """Open loop: predict from true past outputs.

        Args:
            u: Inputs.
            y: True outputs of the same steps.
            delays: What came before; without it the first ``D`` steps fill the delay lines.

        Returns:
            Predictions, and the delay lines after the last step.
        """
        self._check(u, y)
        u, y, steps = self._joined(u, y, delays)
        at = self.longest_delay
        taps = [y[at - k : at - k + steps] for k in self.output_delays]
        taps += [u[at - k : at - k + steps] for k in self.input_delays if self.input_size]
        return self._network(torch.cat(taps, -1)), self._last(u, y)

    def free_run(self, u: Tensor, delays: Delays) -> tuple[Tensor, Delays]:
        """Closed loop: predict from own past predictions.

        Args:
            u: Inputs of the steps to predict, ``(T, B, I)``; ``(T, B, 0)`` if there are none.
            delays: From `forward`, from a `free_run` before, or from `delays`.

        Returns:
            Predictions ``(T, B, O)`` and the delay lines after the last step.
        """
        return self.closed_loop(u, delays)

    def _free_run(self, u: Tensor, delays: Delays, offer: OnState) -> tuple[Tensor, Delays]:
        self._check(u, None)
        self._check_delays(u, delays)
        u_all = torch.cat([delays.inputs, u])
        past = list(delays.outputs)
        at = self.longest_delay
        for t in range(u.shape[0]):
            taps = [past[-k] for k in self.output_delays]
            taps += [u_all[at + t - k] for k in self.input_delays if self.input_size]
            past.append(self._network(torch.cat(taps, -1)))
            offer("y", t, past[-1])
        y_all = torch.stack(past)
        return y_all[at:], self._last(u_all, y_all)

    def delays(self, u: Tensor, y: Tensor) -> Delays:
        """Delay lines filled by the last ``D`` steps of ``u`` and ``y``."""
        self._check(u, y)
        if u.shape[0] < self.longest_delay:
            raise ValueError(
                f"NARX: expected at least {self.longest_delay} steps to fill the delay lines, "
                f"got {u.shape[0]}"
            )
        return self._last(u, y)

    def _network(self, taps: Tensor) -> Tensor:
        return self.readout(torch.tanh(self.hidden(taps)))

    def _last(self, u: Tensor, y: Tensor) -> Delays:
        start = u.shape[0] - self.longest_delay
        return Delays(u[start:].detach(), y[start:].detach())

    def _joined(self, u: Tensor, y: Tensor, delays: Delays | None) -> tuple[Tensor, Tensor, int]:
        if delays is None:
            steps = u.shape[0] - self.longest_delay
            if steps < 1:
                raise ValueError(
                    f"NARX: expected more than {self.longest_delay} steps (the longest delay), "
                    f"got {u.shape[0]}"
                )
            return u, y, steps
        self._check_delays(u, delays)
        return torch.cat([delays.inputs, u]), torch.cat([delays.outputs, y]), u.shape[0]

    def _check(self, u: Tensor, y: Tensor | None) -> None:
        for name, value, width in (("u", u, self.input_size), ("y", y, self.output_size)):
            if value is not None and (value.dim() != 3 or value.shape[-1] != width):
                raise ValueError(f"NARX: expected {name} (T, B, {width}), got {tuple(value.shape)}")
        if y is not None and u.shape[:2] != y.shape[:2]:
            raise ValueError(
                f"NARX: u and y must have the same steps and rows, got {tuple(u.shape[:2])} and "
                f"{tuple(y.shape[:2])}"
            )

    def _check_delays(self, u: Tensor, delays: Delays) -> None:
        rows = u.shape[1]
        wanted = [(self.longest_delay, rows, w) for w in (self.input_size, self.output_size)]
        got = [tuple(d.shape) for d in delays]
        if got != wanted:
            raise ValueError(f"NARX: expected delays of shape {wanted}, got {got}")


@final
class ClosedLoop(Looped):
    """The closed loop of a `NARX`, which owns all weights: the recurrence that can be looked into.

    Args:
        net: The network.
    """

    states: ClassVar[tuple[str, ...]] = ("y",)

    def __init__(self, net: "NARX") -> None:
        super().__init__()
        self._net = (net,)  # in a tuple: as a submodule it would be its own child's child

    @property
    def hidden_size(self) -> int:
        """Features of y, which is the state."""
        return self._net[0].output_size

    @property
    def owner(self) -> nn.Module:
        return self._net[0]

    def restate(self, parts: Sequence[Tensor]) -> Delays:
        return Delays(*parts)

    def forward(self, u: Tensor, delays: Delays) -> tuple[Tensor, Delays]:
        """See `NARX.free_run`."""
        return self._net[0]._free_run(u, delays, self.offer)


def _delays(name: str, given: Sequence[int], least: int, needed: bool) -> tuple[int, ...]:
    if not needed:
        return ()
    if not given or min(given) < least or len(set(given)) != len(given):
        raise ValueError(
            f"NARX: {name} must be different whole numbers of at least {least}, got {tuple(given)}"
        )
    return tuple(given)
