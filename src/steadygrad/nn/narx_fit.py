"""Train a NARX network: open loop first, then, if wished, with the loop closed."""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from steadygrad.errors import check_count
from steadygrad.nn.levenberg_marquardt import Fit, levenberg_marquardt
from steadygrad.nn.narx import NARX, Delays


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

    Returns:
        Mean squared residuals on the way.

    Raises:
        ValueError: Unknown options, too few steps.
    """
    if loop not in ("open", "closed") or method not in ("lm", "adam"):
        raise ValueError(
            f"fit_narx: loop is 'open' or 'closed' and method 'lm' or 'adam', got {loop!r}, "
            f"{method!r}"
        )
    check_count("steps", steps)
    check_count("horizon", horizon, optional=True)
    longest = u.shape[0] - net.longest_delay
    length = min(50, longest) if horizon is None else horizon
    if not 1 <= length <= longest:
        raise ValueError(f"fit_narx: horizon must be 1 to {longest} here, got {length}")
    if loop == "open":

        def residuals(call: Any) -> Tensor:
            return call(u, y)[0] - y[net.longest_delay :]
    else:
        inputs, outputs, delays = _stretches(net, u, y, length)

        def residuals(call: Any) -> Tensor:
            return call(inputs, delays, method="free_run")[0] - outputs

    if method == "lm":
        return levenberg_marquardt(net, residuals, steps=steps)
    return _adam(net, residuals, steps, learning_rate)


def _stretches(net: NARX, u: Tensor, y: Tensor, length: int) -> tuple[Tensor, Tensor, Delays]:
    """Cut into stretches side by side, ``(length, stretches * B, ·)``, each with its delays."""
    at = net.longest_delay
    starts = range(at, u.shape[0] - length + 1, length)

    def cut(series: Tensor, before: int, after: int) -> Tensor:
        return torch.cat([series[s - before : s + after] for s in starts], 1)

    return cut(u, 0, length), cut(y, 0, length), Delays(cut(u, at, 0), cut(y, at, 0))


def _adam(net: NARX, residuals: Any, steps: int, learning_rate: float) -> Fit:
    def call(*args: Any, method: str = "forward", **named: Any) -> Any:
        return getattr(net, method)(*args, **named)

    optimizer = torch.optim.Adam(net.parameters(), learning_rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = residuals(call).square().mean()
        losses.append(float(loss.detach()))
        loss.backward()
        clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        losses.append(float(residuals(call).square().mean()))
    return Fit(losses, "steps")
