"""A remedy acting on the gradients of one training, with its state between steps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.parameters import Parameters

if TYPE_CHECKING:
    from steadygrad.remedies.base import Remedy

COUNTED = ("clipped", "skipped", "nonfinite")
"""Flags of a report whose steps are counted."""


@final
class Treatment:
    """A remedy in use; made by `Remedy.begin`, called once between backward pass and step.

    The remedy itself holds only options. Its state, such as a history of norms, is here, as tensors
    for checkpoints.

    Args:
        remedy: The options.
        model: Whose gradients.
        optimizer: If given, its parameters are treated, in its groups.
        scaler: The gradient scaler, if one is used. Gradients that are still scaled are unscaled
            first, so that scaled gradients are never clipped.

    Attributes:
        report: Result of the last call.
        memory: State between steps, by name.

    Raises:
        ValueError: A scaler without its optimiser.
    """

    def __init__(
        self,
        remedy: "Remedy",
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        if scaler is not None and optimizer is None:
            raise ValueError(
                f"{remedy.name}: a gradient scaler unscales the gradients of an optimiser; "
                "give begin() the optimizer too"
            )
        self.remedy = remedy
        self.parameters = Parameters(model, optimizer)
        self.optimizer, self.scaler = optimizer, scaler
        self.memory = dict(remedy.remember(self.parameters))
        held = () if optimizer is None else remedy.on_optimizer(optimizer, model)
        self._handles = tuple(held)
        self.report: Mapping[str, Tensor] = {}
        self._counts = torch.zeros(1 + len(COUNTED), dtype=torch.long)
        self._counts = self._counts.to(self.parameters.device)
        self._yes, self._no = (torch.tensor(x, device=self._counts.device) for x in (True, False))

    @torch.no_grad()
    def __call__(self) -> Mapping[str, Tensor]:
        """Treat the gradients in place.

        Returns:
            The report, as tensors on their device: reading one synchronises, this call does not.
        """
        self.report = dict(self.remedy.on_gradients(self._gradients(), self.memory))
        self._count()
        return self.report

    def close(self) -> None:
        """Detach from the optimiser; idempotent."""
        for handle in self._handles:
            handle.remove()

    @torch.no_grad()
    def norm(self) -> Tensor:
        """Return the current global norm of the gradients; unscales them like a call."""
        return torch.linalg.vector_norm(self._gradients().norms())

    @property
    def counts(self) -> dict[str, int]:
        """Steps so far, and how many were clipped, skipped, non-finite; synchronises."""
        return dict(zip(("steps", *COUNTED), self._counts.tolist(), strict=True))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state and the counts, for a bit-identical resumption."""
        return {name: t.clone() for name, t in (self.memory | {"counts": self._counts}).items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the result of `state_dict`.

        Raises:
            ValueError: It is of another remedy, or of other parameters; nothing is changed.
        """
        own = self.memory | {"counts": self._counts}
        wanted = {name: tuple(t.shape) for name, t in own.items()}
        given = {name: tuple(t.shape) for name, t in state.items()}
        if wanted != given:
            raise ValueError(
                f"{self.remedy.spec}: the saved state does not fit: expected tensors {wanted}, "
                f"got {given}; it is of other options or of another model"
            )
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def _gradients(self) -> Gradients:
        is_scaled = self.scaler is not None and self.scaler.is_enabled()
        if self.scaler is not None and self.optimizer is not None:
            unscale_once(self.scaler, self.optimizer)
        return Gradients(self.parameters, is_scaled)

    def _count(self) -> None:
        flags = [self.report.get(name, self._no) for name in COUNTED]
        self._counts += torch.stack([self._yes, *flags])


def unscale_once(scaler: torch.amp.GradScaler, optimizer: torch.optim.Optimizer) -> None:
    """Unscale the gradients of ``optimizer`` unless done since the last update."""
    try:
        scaler.unscale_(optimizer)
    except RuntimeError as error:
        if "already been called" not in str(error):
            raise
