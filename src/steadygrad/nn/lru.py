"""The linear recurrent unit as a layer: complex state inside, real maps in and out of it."""

import math
from typing import ClassVar, final

import torch
from torch import Tensor, nn

from steadygrad.cells.lru import LRU as LRUCell
from steadygrad.cells.lru import reset_ring_
from steadygrad.nn.step_gradient import Looped
from steadygrad.scan import linear_recurrence


@final
class LRU(Looped):
    r"""Linear recurrent unit with its maps, all time steps in parallel.

    .. math::
        s_t = \lambda \odot s_{t-1} + e^{\gamma} \odot (B x_t), \qquad
        y_t = \operatorname{Re}(C s_t) + D x_t, \qquad \lambda = \exp(-e^{\nu} + i\, e^{\theta})

    The gradient at :math:`s_{t-k}` is :math:`\bar\lambda^k` times that at :math:`s_t`, and
    :math:`|\lambda| < 1` by construction: see `steadygrad.cells.LRU`, the same recurrence as a
    cell. D is a full matrix, where the paper, whose input and output have one width, has a
    diagonal; it starts diagonal where they have. Put the layer into a block with a norm before it,
    GELU and a gated linear unit behind it, and a skip around it: alone it is linear in time.

    It does not compile to C, and need not: with no nonlinearity in time there is no sequential loop
    to speed up.

    Args:
        input_size: Features of :math:`x_t`, ``I``.
        hidden_size: Complex features of :math:`s_t`, ``H``.
        output_size: Features of :math:`y_t`, ``O``; ``input_size`` if not given.
        r_min: Smallest :math:`|\lambda|` of the start.
        r_max: Largest.
        max_phase: Largest angle of the start, in radians.
        batch_first: Whether input and output are ``(B, T, ·)``.
        device: Where the weights are made.
        dtype: Of the weights: float32 or float64; the state is complex64 or complex128.

    Shapes:
        Input ``(T, B, I)``; initial state complex ``(B, H)``, zeros if not given. Output
        ``(T, B, O)`` and the last state. Weights: ``nu, theta, gamma (H,)``, ``B (2, H, I)`` and
        ``C (2, O, H)``, real part first, ``D (O, I)``.

    References:
        Orvieto et al., *Resurrecting Recurrent Neural Networks for Long Sequences*, 2023, section
        3 and appendix A.
    """

    states: ClassVar[tuple[str, ...]] = ("s",)
    batch_axis: ClassVar[int] = 0
    is_streaming: ClassVar[bool] = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.ring = LRUCell(r_min, r_max, max_phase)
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.output_size = output_size or input_size
        self.batch_first = batch_first
        shapes = {
            **dict.fromkeys(("nu", "theta", "gamma"), (hidden_size,)),
            "B": (2, hidden_size, input_size),
            "C": (2, self.output_size, hidden_size),
            "D": (self.output_size, input_size),
        }
        for name, shape in shapes.items():
            value = torch.empty(shape, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(value))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the ring, and Gaussian maps as the paper does."""
        units = {name: self.get_parameter(name) for name in ("nu", "theta", "gamma")}
        reset_ring_(units, self.ring.r_min, self.ring.r_max, self.ring.max_phase)
        nn.init.normal_(self.get_parameter("B"), std=(2 * self.input_size) ** -0.5)
        nn.init.normal_(self.get_parameter("C"), std=self.hidden_size**-0.5)
        d = self.get_parameter("D")
        nn.init.normal_(d)
        if self.input_size == self.output_size:
            d.mul_(torch.eye(self.input_size, dtype=d.dtype, device=d.device))
        else:
            d.mul_(self.input_size**-0.5)

    def eigenvalues(self) -> Tensor:
        r""":math:`\lambda`, complex ``(H,)``."""
        nu, theta = self.get_parameter("nu"), self.get_parameter("theta")
        return torch.polar(torch.exp(-torch.exp(nu)), torch.exp(theta))

    def forward(self, input: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the layer; see the class for shapes.

        Raises:
            ValueError: A shape is not what the class says.
        """
        if input.dim() != 3 or input.shape[-1] != self.input_size:
            axes = "(B, T" if self.batch_first else "(T, B"
            raise ValueError(
                f"LRU: expected input {axes}, {self.input_size}), got {tuple(input.shape)}"
            )
        x = input.transpose(0, 1) if self.batch_first else input
        b, c, d = (self.get_parameter(name) for name in "BCD")
        scale = torch.exp(self.get_parameter("gamma"))
        drive = torch.complex(x @ b[0].t(), x @ b[1].t()) * scale
        states = self._states(drive, state)
        y = states.real @ c[0].t() - states.imag @ c[1].t() + x @ d.t()
        return (y.transpose(0, 1) if self.batch_first else y), states[-1]

    def _states(self, drive: Tensor, state: Tensor | None) -> Tensor:
        """``(T, B, H)``, all at once, or one after another while somebody looks at them."""
        decay = self.eigenvalues()
        if self.on_state is None:
            return linear_recurrence(decay.expand_as(drive), drive, state)
        states = []
        for step, driven in enumerate(drive):
            state = driven if state is None else decay * state + driven
            self.offer("s", step, state)
            states.append(state)
        return torch.stack(states)

    def extra_repr(self) -> str:
        """Sizes and ring."""
        ring = f"r_min={self.ring.r_min:g}, r_max={self.ring.r_max:g}"
        return f"{self.input_size}, {self.hidden_size}, {self.output_size}, {ring}"
