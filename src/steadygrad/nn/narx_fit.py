"""Train a NARX network: open loop first, then, if wished, with the loop closed."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from steadygrad.errors import check_count
from steadygrad.nn.levenberg_marquardt import Fit, levenberg_marquardt
from steadygrad.nn.narx import NARX, Delays

Residuals = Callable[[Callable[..., Any]], Tensor]


def fit_narx(
    net: NARX,
    u: Tensor,
    y: Tensor,
    *,
    loop: Literal["open", "closed"] = "open",
    method: Literal["lm", "adam"] = "lm",
    steps: int = 100,
    horizon: int | None = None,
    learning_rate: float = 1e-2,
    validation: tuple[Tensor, Tensor] | None = None,
    patience: int = 10,
    restarts: int = 0,
) -> Fit:
    r"""Fit ``net`` to predict ``y`` from ``u`` by least squares, in place.

    Open loop is static: one step ahead from true outputs. Closed loop predicts ``horizon`` steps
    in a row from its own outputs, over every stretch of that length, begun from true delays; a
    longer horizon is harder on the gradient. Scale u and y to about unit size first.

    Args:
        net: The network.
        u: Inputs ``(T, B, I)``.
        y: Outputs ``(T, B, O)``.
        loop: ``"open"``, or ``"closed"`` after that.
        method: ``"lm"``, Levenberg-Marquardt, for up to some hundred weights; or ``"adam"`` on all
            data at once, its gradient clipped to norm 1.
        steps: Trials of LM, or steps of Adam.
        horizon: Closed loop: steps predicted in a row, at most 50 of them if not given.
        learning_rate: Of Adam.
        validation: Inputs and outputs of another stretch of time. The weights that do best on it
            are kept, and the fit ends early when it gets no better.
        patience: Accepted steps without a better validation before the fit ends.
        restarts: How many more times to begin from new random weights; the best of all is kept, by
            the validation part if there is one.

    Returns:
        Mean squared residuals after each iteration, of the fit that was kept.

    Raises:
        ValueError: Unknown options, too few steps.
    """
    if loop not in ("open", "closed") or method not in ("lm", "adam"):
        raise ValueError(
            f"fit_narx: loop is 'open' or 'closed' and method 'lm' or 'adam', got {loop!r}, "
            f"{method!r}"
        )
    check_count("steps", steps)
    check_count("patience", patience)
    check_count("horizon", horizon, optional=True)
    if restarts < 0:
        raise ValueError(f"fit_narx: restarts must be 0 or above, got {restarts}")
    shortest = min(part[0].shape[0] for part in ((u, y), *([validation] if validation else [])))
    longest = shortest - net.longest_delay
    length = min(50, longest) if horizon is None else horizon
    if not 1 <= length <= longest:
        raise ValueError(f"fit_narx: horizon must be 1 to {longest} here, got {length}")
    residuals = _residuals(net, u, y, loop, length)
    best: Fit | None = None
    weights: dict[str, Tensor] = {}
    for attempt in range(restarts + 1):
        if attempt:
            net.hidden.reset_parameters()
            net.readout.reset_parameters()
        early = None
        if validation is not None:
            early = _EarlyStop(net, _residuals(net, *validation, loop, length), patience)
        if method == "lm":
            fit = levenberg_marquardt(net, residuals, steps=steps, stop=early)
        else:
            fit = _adam(net, residuals, steps, learning_rate, early)
        if early is not None:
            early.restore()
            fit = replace(fit, validation=early.losses)
        if best is None or _score(fit) < _score(best):
            best, weights = fit, {n: t.clone() for n, t in net.state_dict().items()}
    net.load_state_dict(weights)
    assert best is not None
    return best


def _score(fit: Fit) -> float:
    """What a fit is judged by: its best validation, or where it ended; a NaN is the worst."""
    score = min(fit.validation) if fit.validation else fit.losses[-1]
    return score if score == score else float("inf")


def _residuals(
    net: NARX, u: Tensor, y: Tensor, loop: Literal["open", "closed"], length: int
) -> Residuals:
    """Return what is to be made small: a function of how the network is called."""
    if loop == "open":
        return lambda call: call(u, y)[0] - y[net.longest_delay :]
    inputs, outputs, delays = _stretches(net, u, y, length)
    return lambda call: call(inputs, delays, method="free_run")[0] - outputs


class _EarlyStop:
    """Scores the validation part after each step, keeps the best weights, and says when to end.

    Args:
        net: The network, looked at as it stands.
        residuals: Of the validation part.
        patience: Steps without a better score.
    """

    def __init__(self, net: NARX, residuals: Residuals, patience: int) -> None:
        self.net, self.residuals, self.patience = net, residuals, patience
        self.losses: list[float] = []
        self._best: dict[str, Tensor] = {}
        self._stale = 0
        self()

    def __call__(self) -> bool:
        with torch.no_grad():
            loss = float(self.residuals(_caller(self.net)).square().mean())
        if not self.losses or loss < min(self.losses):
            self._best = {n: t.clone() for n, t in self.net.state_dict().items()}
            self._stale = 0
        else:
            self._stale += 1
        self.losses.append(loss)
        return self._stale >= self.patience

    def restore(self) -> None:
        """Put the best weights back."""
        self.net.load_state_dict(self._best)


def _caller(net: NARX) -> Callable[..., Any]:
    def call(*args: Any, method: str = "forward", **named: Any) -> Any:
        return getattr(net, method)(*args, **named)

    return call


def _stretches(net: NARX, u: Tensor, y: Tensor, length: int) -> tuple[Tensor, Tensor, Delays]:
    """Cut into stretches side by side, ``(length, stretches * B, ·)``, each with its delays."""
    at = net.longest_delay
    starts = range(at, u.shape[0] - length + 1, length)

    def cut(series: Tensor, before: int, after: int) -> Tensor:
        return torch.cat([series[s - before : s + after] for s in starts], 1)

    return cut(u, 0, length), cut(y, 0, length), Delays(cut(u, at, 0), cut(y, at, 0))


def _adam(
    net: NARX, residuals: Residuals, steps: int, learning_rate: float, stop: _EarlyStop | None
) -> Fit:
    call = _caller(net)
    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    losses: list[float] = []
    reason = "steps"
    for _ in range(steps):
        optimizer.zero_grad()
        loss = residuals(call).square().mean()
        losses.append(float(loss.detach()))
        loss.backward()
        clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if stop is not None and stop():
            reason = "validation"
            break
    with torch.no_grad():
        losses.append(float(residuals(call).square().mean()))
    return Fit(losses, reason)
