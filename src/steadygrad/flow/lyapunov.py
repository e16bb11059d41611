r"""Lyapunov exponents: how fast small differences of the state grow or die, in every direction.

.. math::
    Z_t = J_t Q_{t-1}, \qquad Z_t = Q_t R_t, \qquad
    \lambda_i = \frac{1}{T} \sum_t \log |(R_t)_{ii}|

in nats per step, descending. :math:`\lambda_1 > 0`: differences, and gradients, explode (chaos);
:math:`\lambda_1 \ll 0`: they die, after about :math:`1 / |\lambda_1|` steps. A gradient lives in
as many directions as there are exponents near zero.
"""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from steadygrad.flow.linearise import linearise
from steadygrad.flow.linearise_matrix import LinearisedMatrix
from steadygrad.scan import Linearised, StepJacobian

SPREAD = 22.0  # nats by which directions may grow apart before rounding shows: 1e-16 e^22 is 4e-7
LONGEST = 32  # steps between two decompositions at most, were all exponents the same
CHUNK = 2**17  # elements of Jacobians made at once: more fall out of the cache


class LyapunovChain:
    r"""The running decomposition of a product of step Jacobians into directions and growths.

    It can be fed step after step, over many sequences: the directions stay, so that a training
    that is watched pays for a transient only once.

    Where a graph is recorded, every decomposition is a QR, :math:`Z = Q R`. Where none is, an LU
    with row pivoting, :math:`Z = W U`, keeps the same nested subspaces at a quarter of the cost,
    and one QR of W at the end turns the growths of U into those of R: with
    :math:`Z_T = W_T U_T \cdots U_1 = Q (R_W U_T \cdots U_1)` this is no approximation.

    Args:
        k: How many exponents, the largest; all if not given.
        discard: Steps to leave out at the beginning, while the directions settle.
        qr_every: Steps between two decompositions; as few as rounding allows if not given.

    Attributes:
        steps: Steps counted, without the discarded ones.
    """

    def __init__(self, k: int | None = None, discard: int = 0, qr_every: int | None = None) -> None:
        if k is not None and k < 1:
            raise ValueError(f"k counts exponents and must be at least 1, got {k}")
        if discard < 0:
            raise ValueError(f"discard counts steps and must not be negative, got {discard}")
        if qr_every is not None and qr_every < 1:
            raise ValueError(f"qr_every counts steps and must be at least 1, got {qr_every}")
        self.k, self.discard, self.qr_every = k, discard, qr_every
        self.steps = 0
        self._basis: Tensor | None = None
        self._seen = 0
        self._since = 0
        self._interval = qr_every or 1
        self._logs: Tensor | float = 0.0

    @property
    def directions(self) -> Tensor | None:
        """``(B, N, k)``, orthonormal: into what the leading directions have turned; or None."""
        self._settle()
        return None if self._basis is None else torch.linalg.qr(self._basis).Q

    @property
    def exponents(self) -> Tensor:
        """``(k,)``, the mean over the batch, descending, in nats per step."""
        self._settle()
        if self.steps == 0 or self._basis is None or not isinstance(self._logs, Tensor):
            raise ValueError(f"no steps left to average: {self._seen} fed, {self.discard} left out")
        whole = self._logs + _growth(torch.linalg.qr(self._basis).R)
        return (whole / self.steps).mean(0).sort(descending=True).values

    def restart(self) -> None:
        """Count anew, and keep the directions."""
        directions = self.directions
        self._basis = None if directions is None else directions.detach()
        self.steps, self._logs, self._since = 0, 0.0, 0
        self._seen, self.discard = 0, 0

    def basis(self, like: Tensor, batch: int, features: int) -> Tensor:
        """What the next Jacobian is to be applied to, ``(B, N, k)``; made at the first call.

        All axes if every exponent is wanted; else drawn once and for all, so that no leading
        direction is missed because it is orthogonal to the axes chosen.
        """
        k = features if self.k is None else self.k
        if k > features:
            raise ValueError(f"k must be at most the {features} features of the state, got {k}")
        if self._basis is None or self._basis.shape != (batch, features, k):
            start = torch.eye(features, k, dtype=torch.float64)
            if k < features:
                draw = torch.Generator().manual_seed(0)
                drawn = torch.randn(features, k, dtype=torch.float64, generator=draw)
                start = torch.linalg.qr(drawn).Q
            self._basis = start.to(like).expand(batch, -1, -1)
        return self._basis

    def feed(self, z: Tensor, steps: int = 1) -> None:
        """Take the basis some steps on, ``J`` times it; decompose it if it is time."""
        self._basis = z
        self._seen += steps
        self._since += steps
        if self._since >= self._interval or self._seen == self.discard:
            self._settle()

    def _settle(self) -> None:
        """Decompose what was multiplied since the last time."""
        if self._since == 0 or self._basis is None:
            return
        self._basis, factor = _decomposed(self._basis)
        growth = _growth(factor)
        if self._seen > self.discard:
            self._logs = self._logs + growth
            self.steps += self._since
        elif self._seen == self.discard:
            self._logs = -_growth(torch.linalg.qr(self._basis).R)
        if self.qr_every is None:
            self._interval = _interval(growth.detach() / self._since)
        self._since = 0


def _decomposed(z: Tensor) -> tuple[Tensor, Tensor]:
    """A well conditioned basis of the same nested subspaces, and the triangle that is left."""
    if z.requires_grad:
        q, r = torch.linalg.qr(z)
        return q, r
    packed, pivots, _ = torch.linalg.lu_factor_ex(z)
    permutation, lower, upper = torch.lu_unpack(packed, pivots)
    order = permutation.argmax(-1)[..., None].expand_as(lower)
    return lower.gather(1, order), upper


def _growth(triangle: Tensor) -> Tensor:
    return triangle.diagonal(dim1=-2, dim2=-1).abs().log()


def _interval(per_step: Tensor) -> int:
    """Steps until directions have grown apart as far as rounding allows."""
    finite = per_step[torch.isfinite(per_step).all(-1)]
    if len(finite) == 0:  # a direction has died altogether
        return 1
    spread = float((finite.amax(-1) - finite.amin(-1)).max())
    return int(max(1, min(LONGEST, SPREAD / max(spread, 1e-9))))


def lyapunov_exponents(
    layer: nn.Module,
    x: Tensor,
    state: Tensor | Sequence[Tensor] | None = None,
    k: int | None = None,
    discard: int = 0,
    qr_every: int | None = None,
    *,
    index: int = 0,
    reverse: bool = False,
) -> Tensor:
    """Lyapunov exponents of a recurrent layer along the path that an input drives it.

    The full state counts, h and c for an LSTM. The result can be differentiated with respect to
    the layer's weights, the input and the initial state, as gradient flossing does; under
    `torch.no_grad` it needs little memory.

    Args:
        layer: A `torch.nn.RNN`, `LSTM` or `GRU`, or a steadygrad layer.
        x: ``(T, B, I)`` as the layer takes it, or unbatched; the mean over B is returned.
        state: As the layer takes it; zeros if not given.
        k: How many, the largest; all N if not given.
        discard: Steps at the beginning that are left out of the mean. With ``k < N`` give it some
            tens: the first directions are drawn at random.
        qr_every: Steps between two QR decompositions. If not given, as many as keep the rounding
            below 1e-6, found as the exponents drift apart.
        index: Which layer of a stack.
        reverse: Take the reverse direction of a bidirectional layer.

    Returns:
        ``(k,)`` in nats per step, descending, float64. What is below about -30 died altogether:
        ``-inf``, or what rounding leaves of it.

    Raises:
        ValueError: As `linearise`; or no step is left after ``discard``.

    References:
        Benettin, Galgani, Giorgilli and Strelcyn, *Lyapunov Characteristic Exponents for Smooth
        Dynamical Systems*, 1980.
        Engelken, *Gradient Flossing*, 2023 (differentiable; regularising a network by them).
        Vogt, Puelma Touzel, Shlizerman and Lajoie, *On Lyapunov Exponents for RNNs*, 2022.

    Example:
        >>> layer = torch.nn.RNN(2, 16)
        >>> _ = torch.nn.init.orthogonal_(layer.weight_hh_l0, gain=0.5)
        >>> with torch.no_grad():
        ...     exponents = lyapunov_exponents(layer, torch.zeros(200, 1, 2))
        >>> bool(exponents[0] < 0)
        True
    """
    chain = LyapunovChain(k, discard, qr_every)
    linear = linearise(layer, x, state, index=index, reverse=reverse)
    steps = len(linear.layout.batch_sizes)
    if discard >= steps:
        raise ValueError(f"discard must be less than the {steps} steps of x, got {discard}")
    advance(chain, linear)
    return chain.exponents


def lyapunov_of_jacobians(
    jacobians: Iterable[Tensor],
    k: int | None = None,
    discard: int = 0,
    qr_every: int | None = None,
) -> Tensor:
    """Lyapunov exponents of any step Jacobians, of a loop of one's own.

    Args:
        jacobians: One ``(B, N, N)`` or ``(N, N)`` per step, row = new state, column = old.
        k: As in `lyapunov_exponents`, with ``discard`` and ``qr_every``.
        discard: As there.
        qr_every: As there.

    Returns:
        ``(k,)`` in nats per step, descending.
    """
    chain = LyapunovChain(k, discard, qr_every)
    for step in jacobians:
        step = step if step.dim() == 3 else step[None]
        if step.dim() != 3 or step.shape[1] != step.shape[2]:
            got = tuple(step.shape)
            raise ValueError(f"a step Jacobian must be (B, N, N) or (N, N), got {got}")
        chain.feed(step @ chain.basis(step, *step.shape[:2]))
    return chain.exponents


def advance(chain: LyapunovChain, linear: Linearised | LinearisedMatrix) -> None:
    """Feed a chain with all steps of a trajectory."""
    batch, features = linear.layout.batch, sum(linear.widths)
    basis = chain.basis(linear.hidden, batch, features)
    if basis.shape[2] * 4 <= max(linear.widths):  # J costs more than what it is applied to
        for rows in linear.steps():
            chain.feed(linear.push(rows, chain.basis(linear.hidden, batch, features)))
        return
    for jacobian in _jacobians(linear):
        chain.feed(jacobian.apply(chain.basis(linear.hidden, batch, features)))


def _jacobians(linear: Linearised | LinearisedMatrix) -> Iterable[StepJacobian]:
    """The Jacobian of every step, made for some steps at once: fewer and larger operations."""
    batch = linear.layout.batch
    many = max(1, min(16, math.floor(CHUNK / (batch * sum(linear.widths) * max(linear.widths)))))
    steps = list(linear.steps())
    for first in range(0, len(steps), many):
        some = steps[first : first + many]
        low, high = min(r.start for r in some), max(r.stop for r in some)
        made = linear.jacobian(slice(low, high))
        for rows in some:
            yield made[slice(rows.start - low, rows.stop - low)]
