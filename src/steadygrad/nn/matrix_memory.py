"""Layers whose state is a matrix per head: what they share besides their step."""

import math
from abc import abstractmethod
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.jit._trace import is_tracing
from torch.nn import functional as F

from steadygrad.nn.jit_traces import with_held_sizes
from steadygrad.nn.leaf import as_leaf, refuse_script
from steadygrad.nn.padded_rows import PaddedRows
from steadygrad.nn.step_gradient import Looped
from steadygrad.scan import MatrixSteps

Form = Literal["chunked", "recurrent"]
FEW = 8
"""Below so many steps the recurrent form is the faster one."""


class MatrixMemory(Looped):
    r"""A layer that keeps a matrix :math:`S \in \mathbb{R}^{K \times V}` for each of N heads.

    .. math::
        S_t = F_t(S_{t-1}), \qquad o_t = S_t^\top q_t, \qquad y_t = G(x_t, o_t)

    Keys write into S and queries read it, so that a head holds about K values apart, where a
    vector of V numbers holds one. All that a step reads besides S comes from the input, so it is
    computed for all steps beforehand. A layer of this kind is one method, `steps`: from the input
    to the terms of its rule. `readout` says what stands behind the memory. The rule is
    `steadygrad.nn.DeltaSteps`, which has a form that computes many steps at once, or a
    `steadygrad.nn.MatrixSteps` of one's own.

    While somebody looks at its states, the layer takes one step after another;
    `steadygrad.diagnose` does so in a replay. The state is float32 at least, also in a layer of
    half precision and under autocast.

    Args:
        input_size: Features of :math:`x_t`, ``I``.
        hidden_size: Features of :math:`y_t`, ``H = N V``.
        heads: Number of heads, ``N``; divides ``hidden_size``.
        key_size: Rows of S, ``K``; V if not given.
        form: ``"chunked"``, products over many steps at once, or ``"recurrent"``, a loop over time.
        batch_first: Whether input and output are ``(B, T, ·)``.

    Shapes:
        Input ``(T, B, I)``, ``(B, T, I)`` or packed; state ``(B, N, K, V)``, zeros if not given.
        Output ``(T, B, H)`` and the last state: handed to the next call, the sequence goes on.
        Unbatched, ``(T, I)``, none of them has a batch axis. ``lengths (B,)`` says how long each
        row of a padded batch is: beyond it the output is zero, and the last state is the one at
        the row's own last step. ``resets``, bool, of the shape of the input without its features,
        is True where a new segment of a row begins: the state is set to zero before that step.

    Raises:
        ValueError: Sizes that do not fit, or no such form.

    Example:
        Linear attention with one decay for all, which is a fast weight memory:

        >>> class Fading(MatrixMemory):
        ...     def __init__(self, input_size: int, hidden_size: int, heads: int = 1) -> None:
        ...         super().__init__(input_size, hidden_size, heads)
        ...         self.project = torch.nn.Linear(input_size, 3 * hidden_size)
        ...
        ...     def steps(self, x: Tensor) -> MatrixSteps:
        ...         q, k, v = map(self.by_head, self.project(x).chunk(3, -1))
        ...         return DeltaSteps(q, k, v, torch.full_like(k[..., :1], -0.1))
        >>> layer = Fading(3, 8, heads=2)
        >>> output, state = layer(torch.randn(20, 4, 3))
        >>> output.shape, state.shape
        (torch.Size([20, 4, 8]), torch.Size([4, 2, 4, 4]))
    """

    states: ClassVar[tuple[str, ...]] = ("S",)
    batch_axis: ClassVar[int] = 0
    is_streaming: ClassVar[bool] = True
    is_ragged: ClassVar[bool] = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        heads: int = 1,
        key_size: int | None = None,
        form: Form = "chunked",
        batch_first: bool = False,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        if input_size < 1 or hidden_size < 1 or (key_size is not None and key_size < 1):
            raise ValueError(
                f"{kind}: sizes must be at least 1, got input_size={input_size}, "
                f"hidden_size={hidden_size}, key_size={key_size}"
            )
        if heads < 1 or hidden_size % heads:
            raise ValueError(f"{kind}: hidden_size {hidden_size} cannot be cut into {heads} heads")
        if form not in ("chunked", "recurrent"):
            raise ValueError(f"{kind}: no form {form!r}; there are: chunked, recurrent")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.heads = heads
        self.value_size = hidden_size // heads
        self.key_size = key_size or self.value_size
        self.form = form
        self.batch_first = batch_first

    @abstractmethod
    def steps(self, x: Tensor) -> MatrixSteps:
        """Compute the terms of all steps from the input ``(B, T, I)``."""

    def readout(self, x: Tensor, steps: MatrixSteps, read: Tensor) -> Tensor:
        """Compute the output ``(B, T, H)``.

        Args:
            x: The input, ``(B, T, I)``.
            steps: What `steps` made of it.
            read: What was read, ``(B, N, T, V)``.
        """
        return self.merged(read)

    def by_head(self, value: Tensor) -> Tensor:
        """``(B, T, N·)`` as ``(B, N, T, ·)``."""
        return value.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def merged(self, value: Tensor) -> Tensor:
        """``(B, N, T, ·)`` as ``(B, T, N·)``."""
        return value.transpose(1, 2).flatten(2)

    def __prepare_scriptable__(self) -> nn.Module:
        refuse_script(self)

    def forward(
        self, input: Any, state: Tensor | None = None, lengths: Any = None, resets: Any = None
    ) -> tuple[Any, Tensor]:
        """Run the layer; see the class for shapes.

        Raises:
            ValueError: A shape is not what the class says, or there is no time step.
        """
        if isinstance(input, Proxy):
            return as_leaf(self, input, state=state, lengths=lengths, resets=resets)
        rows = PaddedRows.of(self, input, lengths, resets)
        x = with_held_sizes(rows.x) if is_tracing() else rows.x
        terms = self.steps(x)
        with torch.autocast(x.device.type, enabled=False):
            steps, before = self._begun(rows, terms, state)
            if self.on_state is not None:
                read, last = steps.one_by_one(before, partial(self.offer, "S"))
            elif self.form == "recurrent" or x.shape[1] < FEW:
                read, last = steps.one_by_one(before)
            else:
                read, last = steps.at_once(before)
        y = self.readout(x, terms, read.to(x.dtype))
        return rows.laid(y), last if rows.is_batched else last[0]

    def terms(
        self, input: Any, state: Tensor | None = None, lengths: Any = None, resets: Any = None
    ) -> tuple[MatrixSteps, Tensor]:
        """What a call computes before its first step: the terms of its rule, and the state.

        Args:
            input: As the layer takes it.
            state: As the layer takes it.
            lengths: As the layer takes them.
            resets: As the layer takes them.

        Returns:
            The terms of all steps, and the state ``(B, N, K, V)`` before the first.
        """
        rows = PaddedRows.of(self, input, lengths, resets)
        return self._begun(rows, self.steps(rows.x), state)

    def _begun(
        self, rows: PaddedRows, terms: MatrixSteps, state: Tensor | None
    ) -> tuple[MatrixSteps, Tensor]:
        wide = torch.float64 if terms.q.dtype == torch.float64 else torch.float32
        steps = replace(terms.to(wide), runs=rows.runs, begins=rows.begins)
        return steps, self._start(rows, state, wide)

    def _start(self, rows: PaddedRows, state: Tensor | None, dtype: torch.dtype) -> Tensor:
        shape = (self.heads, self.key_size, self.value_size)
        batch = len(rows.x)
        if state is None:
            return rows.x.new_zeros(batch, *shape, dtype=dtype)
        wanted, axes = ((batch, *shape), "B, ") if rows.is_batched else (shape, "")
        if state.shape != wanted:
            raise ValueError(
                f"{type(self).__name__}: expected state ({axes}heads, key_size, value_size) = "
                f"{wanted}, got {tuple(state.shape)}"
            )
        return (state if rows.is_batched else state[None]).to(dtype)

    def extra_repr(self) -> str:
        """Sizes and form."""
        return (
            f"{self.input_size}, {self.hidden_size}, heads={self.heads}, "
            f"key_size={self.key_size}, form={self.form!r}"
        )


def unit(value: Tensor) -> Tensor:
    """Scale to length 1 along the last axis; what is near 0 stays there.

    With the 1e-6 the gradient is at most 1000 times that behind it: without, that of a key that is
    exactly 0, of padding for example, would be no number.
    """
    return value * (value.square().sum(-1, keepdim=True) + 1e-6).rsqrt()


class SoftplusDecay(nn.Module):
    r"""A decay per head, :math:`\log \alpha_t = -e^{A} \operatorname{softplus}(w^\top x_t + b)`.

    Starts with :math:`e^A` uniform from 0 to 16 and softplus(b) log-uniform from 0.001 to 0.1, as
    Mamba-2 does.

    Args:
        input_size: Features of x.
        heads: Number of decays.
        device: Where the weights are made.
        dtype: Of the weights.
    """

    def __init__(
        self,
        input_size: int,
        heads: int,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.rate = nn.Linear(input_size, heads, device=device, dtype=dtype)
        self.log_scale = nn.Parameter(torch.empty(heads, device=device, dtype=dtype))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw anew, as the class says."""
        self.rate.reset_parameters()
        self.log_scale.uniform_(0, 16).clamp_(min=1e-4).log_()
        first = torch.empty_like(self.rate.bias).uniform_(math.log(1e-3), math.log(1e-1)).exp_()
        self.rate.bias.copy_(first + torch.log(-torch.expm1(-first)))  # softplus backwards

    def forward(self, x: Tensor) -> Tensor:
        """Log of the decays, ``(B, N, T, 1)``, of ``x (B, T, I)``."""
        # -softplus(z), by the one of the two whose backward pass torch.compile lays out as it runs.
        log = self.log_scale.exp() * F.logsigmoid(-self.rate(x))
        return log.transpose(1, 2)[..., None]
