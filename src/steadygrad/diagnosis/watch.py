"""One line that watches a training."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from steadygrad.diagnosis.caller import names_of
from steadygrad.diagnosis.lag import Lag
from steadygrad.diagnosis.shared import is_replicated
from steadygrad.diagnosis.watching.options import Options
from steadygrad.diagnosis.watching.watcher import Watch
from steadygrad.faults import Thresholds
from steadygrad.loggers import Log, loggers
from steadygrad.ranks import Ranks
from steadygrad.record import Record


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    record: Record | None = None,
    lag: Lag = None,
    budget: float = 0.02,
    start_step: int = 0,
    rows: int = 8,
    thresholds: Thresholds | None = None,
    input_probe: bool = True,
    scaler: torch.amp.GradScaler | None = None,
    check_clips: bool = False,
    exponents: int = 0,
    ranks: Literal["auto", "all", "this"] = "auto",
    every: int | None = None,
    steps: int | None = None,
    log: Log | Sequence[Log] | None = None,
) -> Watch:
    """Watch a training; one line, in any loop, nothing else to call.

    At every ``optimizer.step()`` the gradient norm is checked; when something is not finite, the
    first bad tensor, layer, gate and time step are named. As often as the budget allows, the norms
    before and after clipping are taken, and the recurrent layers are replayed on a part of the
    batch for the exact gradient at every time step. Weights, gradients and random states are
    never changed, so a watched training ends bit-equal to an unwatched one.

    Gradients may be accumulated over micro-batches: the first ``rows`` rows of the whole step are
    replayed. A gradient scaler that is not given is found at its first step.

    Args:
        model: Any model that holds recurrent layers, torch.nn's or ours; compiled or not. One
            without recurrence is watched in depth, layer by layer.
        optimizer: Its optimiser, or what wraps it (accelerate, Lightning, Opacus); with
            ``step(closure)`` the gradients are looked at when the closure has run. A step that a
            gradient scaler skips is not seen, and no fault.
        record: Where to write; nothing is written if not given.
        lag: How many steps back the task needs the gradient to reach; or what
            `steadygrad.tasks.estimate_lag` found, and findings say that it is an estimate.
        budget: Share of the training time that measuring may take; tracing a cell, about a second
            once per process, comes on top, when the watch is made, and so does trying remedies on
            a copy, once for each finding. A look that a finding hangs on may come early.
        start_step: Steps done before, when a training is resumed.
        rows: Sequences of the batch that a replay uses.
        thresholds: What counts as vanishing, exploding, dead.
        input_probe: Whether to probe the gradient at the layers' inputs, between replays.
        scaler: The gradient scaler, if one is used: gradients seen in the backward pass are scaled.
            `Watch.clip_` needs it.
        check_clips: Whether to look out for clips in the wrong place, see `clip_check`; each is
            warned of once, and stands in ``misplaced``.
        exponents: How many leading Lyapunov exponents to follow, at every replay; see
            `steadygrad.flow.lyapunov_exponents`.
        ranks: Whose rows of the batch are looked at: ``"all"`` processes' of `torch.distributed`,
            whose gradients are averaged; ``"this"`` one's; ``"auto"``: all if the model is in
            `torch.nn.parallel.DistributedDataParallel`. With all, the watch is made in every
            process, all have the same findings, and the record is given to the first alone; the
            gradient at the layers' inputs is not probed then.
        every: Measure at the first and every n-th step instead of within the budget, so that
            what is found does not depend on the speed of the machine.
        log: Where to write as the training goes: ``"tensorboard"``, ``"wandb"``, ``"mlflow"``,
            ``"trackio"``, a `steadygrad.loggers.Logger`, a function of the step and a dictionary
            of values, or several of these.
        steps: How many steps are planned; some faults, such as a rate too low to get anywhere,
            are told sooner by it.

    Raises:
        TypeError: The optimiser is none of torch's, and wraps none.
        ValueError: The model holds no layer to watch, or a lag is given and it has no recurrence;
            its parameters are split over processes (FSDP2); the budget is no share; ``every`` or
            ``steps`` below 1.
        steadygrad.ranks.LostProcess: The watch was not made in every process.

    Example:
        >>> import torch
        >>> model = torch.nn.LSTM(4, 16)
        >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
        >>> w = watch(model, optimizer, lag=49)
        >>> for _ in range(3):
        ...     loss = model(torch.randn(50, 8, 4))[0][-1].pow(2).mean()
        ...     optimizer.zero_grad(); loss.backward()
        ...     norm = w.clip_(1.0)
        ...     _ = optimizer.step()
        >>> w.verdict
        'vanishing'
        >>> w.close()
    """
    if ranks not in ("auto", "all", "this"):
        raise ValueError(f"ranks must be 'auto', 'all' or 'this', got {ranks!r}")
    is_shared = ranks == "all" or (ranks == "auto" and is_replicated(model))
    options = Options(
        lag=lag,
        budget=budget,
        start_step=start_step,
        rows=rows,
        thresholds=thresholds or Thresholds(),
        input_probe=input_probe,
        check_clips=check_clips,
        exponents=exponents,
        every=every,
        steps=steps,
        names=names_of(model, optimizer),
    )
    everyone = Ranks.everyone() if is_shared else Ranks()
    return Watch(model, optimizer, record, scaler, everyone, options, loggers(log))
