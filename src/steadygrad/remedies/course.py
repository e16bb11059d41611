"""Apply remedies in a training loop, through one object."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor, nn

from steadygrad.remedies.applied import Applied
from steadygrad.remedies.attached import Attached
from steadygrad.remedies.treatment import Treatment

if TYPE_CHECKING:
    from steadygrad.remedies.base import Remedy

APPLIED, TREATED = "applied", "remedy"  # in keys of a state


@final
class Course:
    """Everything that remedies need from a training loop; a no-op without remedies.

    The remedies are applied to the model in their order. Some add parameters, so make the optimiser
    after the course, and pass it to `begin`::

        course = Course([Omega(), ClipNorm(1.0)], model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        course.begin(optimizer)
        for x, y in batches:
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            (loss + course.penalty(loss)).backward()
            course.gradients()
            optimizer.step()

    Args:
        remedies: In the order in which they act; penalties always come before clips.
        model: Changed in place.
        optimizer: If it exists already; as in `begin`.
        scaler: The gradient scaler, if one is used.

    Attributes:
        remedies: Those applied.
        applied: The changes of each.
        model: The model.

    Raises:
        ValueError: A remedy does not suit the model, or replaces parameters that the optimiser
            holds; the model is unchanged.
    """

    def __init__(
        self,
        remedies: "Iterable[Remedy]",
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.model = model
        self.remedies: list[Remedy] = []
        self.applied: list[Applied] = []
        self._before = list(model.parameters())
        self._own: list[Treatment] = []
        self._joined: list[Treatment] = []
        self._began: tuple[torch.optim.Optimizer, torch.amp.GradScaler | None] | None = None
        try:
            for remedy in remedies:
                self.apply(remedy)
            if optimizer is not None:
                self.begin(optimizer, scaler)
        except BaseException:
            self.undo()  # never leave a model partly treated
            raise

    def apply(self, remedy: "Remedy") -> Applied:
        """Apply one more remedy, after the others and before the optimiser is made.

        Raises:
            ValueError: It does not suit the model.
            RuntimeError: The training has begun; use `join` for remedies on gradients.
        """
        if self._began is not None:
            raise RuntimeError(
                f"{remedy.spec}: the training has begun, and its optimiser holds the parameters; "
                "make a new course, then the optimiser"
            )
        applied = remedy.apply(self.model)
        self.remedies.append(remedy)
        self.applied.append(applied)
        return applied

    def begin(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None = None
    ) -> None:
        """Set the optimiser, once, before the first step.

        Raises:
            ValueError: It holds parameters that a remedy has replaced, and would train unused ones.
            RuntimeError: The training has begun already.
        """
        if self._began is not None:
            raise RuntimeError("this course has begun already; a training has one")
        self._check_parameters(optimizer)
        self._began = optimizer, scaler
        self._own = [
            remedy.begin(self.model, optimizer, scaler)
            for remedy in self.remedies
            if remedy.acts_on_gradients
        ]

    def join(self, remedy: "Remedy") -> None:
        """Let one more remedy treat the gradients from now on, before the others.

        It comes first, because a clip by norm turns one NaN into many.

        Raises:
            RuntimeError: The training has not begun.
        """
        if self._began is None:
            raise RuntimeError("nothing to join: call begin(optimizer) first")
        self._joined.append(remedy.begin(self.model, *self._began))

    def take(self, remedy: "Remedy") -> str:
        """Apply one more remedy in a training that has begun, and keep the optimiser in step.

        A remedy on gradients acts as the optimiser's step begins, after all others.

        Returns:
            What was changed, in plain words.

        Raises:
            ValueError: It does not suit the model or the optimiser; nothing was changed.
            RuntimeError: The training has not begun.
        """
        if self._began is None:
            raise RuntimeError("the training has not begun: call apply(remedy) instead")
        if not remedy.has_penalty:
            return Attached(remedy, self.model, *self._began).changed
        applied = remedy.apply(self.model)
        self.remedies.append(remedy)
        self.applied.append(applied)
        if remedy.acts_on_gradients:
            self._own.append(remedy.begin(self.model, *self._began))
        return applied.changed

    @property
    def treatments(self) -> list[Treatment]:
        """The remedies at work on the gradients, in the order in which they act."""
        return [*self._joined, *self._own]

    @property
    def joined(self) -> int:
        """Number of remedies that joined after the training began."""
        return len(self._joined)

    def penalty(self, loss: Tensor) -> Tensor:
        """Return the terms that the remedies add to the loss of this step; zero if none.

        Args:
            loss: The unscaled loss, a scalar with its graph. Call once per forward pass, before
                ``backward``.
        """
        return sum((applied.penalty(loss) for applied in self.applied), loss.new_zeros(()))

    def gradients(self) -> dict[str, Mapping[str, Tensor]]:
        """Treat the gradients in place, between ``backward`` and the optimiser's step.

        Returns:
            The reports, by name of the remedy, as tensors on their device.

        Raises:
            RuntimeError: A remedy acts on gradients, and `begin` was not called.
        """
        if self._began is None:
            waiting = [r.spec for r in self.remedies if r.acts_on_gradients]
            if waiting:
                raise RuntimeError(
                    f"{', '.join(waiting)} would not act: call begin(optimizer) before the first "
                    "step"
                )
        return {treatment.remedy.name: treatment() for treatment in self.treatments}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state of all remedies; a training resumed with it is bit-identical."""
        state: dict[str, Tensor] = {}
        for number, treatment in enumerate(self.treatments):
            own = treatment.state_dict()
            state |= {f"{TREATED}/{number}/{name}": tensor for name, tensor in own.items()}
        for number, applied in enumerate(self.applied):
            own = applied.memory
            state |= {f"{APPLIED}/{number}/{name}": t.clone() for name, t in own.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the result of `state_dict`; other keys are ignored.

        Raises:
            ValueError: It is of other remedies, or of another model; nothing is changed.
        """
        kept = {k: t for k, t in state.items() if k.partition("/")[0] in (TREATED, APPLIED)}
        given = {name: tuple(tensor.shape) for name, tensor in kept.items()}
        wanted = {name: tuple(tensor.shape) for name, tensor in self.state_dict().items()}
        if given != wanted:
            raise ValueError(
                f"the saved state of the remedies does not fit: expected tensors {wanted}, got "
                f"{given}; it is of other remedies, of other options, or of another model"
            )
        for number, treatment in enumerate(self.treatments):
            treatment.load_state_dict(_below(kept, f"{TREATED}/{number}/"))
        for number, applied in enumerate(self.applied):
            for name, tensor in _below(kept, f"{APPLIED}/{number}/").items():
                applied.memory[name].copy_(tensor)

    def undo(self) -> None:
        """Restore the model bit for bit, the last remedy first, and end the course."""
        while self.applied:
            self.applied.pop().undo()
            self.remedies.pop()
        self._own, self._joined = [], []

    def _check_parameters(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse an optimiser that was made before a remedy replaced parameters."""
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        before = {id(p): p for p in self._before}
        now = {id(p): p for p in self.model.parameters()}
        lost = before.keys() - now.keys()
        new = {i for i, p in now.items() if p.requires_grad and i not in before}
        stayed = {i for i, p in now.items() if p.requires_grad and i in before}
        # Training only a part may be intended; lacking exactly the new parameters is a mistake.
        is_early = bool(new) and not lost and not new & held and stayed <= held
        if lost & held or is_early:
            raise ValueError(
                f"the optimiser was made before the remedies: it holds {len(lost & held)} "
                f"parameters that the model no longer has, and lacks {len(new - held)} that are "
                "new. Make the course, then the optimiser, then call begin(optimizer)"
            )


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
