"""The interface of a remedy: hooks in the order of a training step, and its description."""

import math
from abc import ABC
from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Self, final

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from steadygrad.remedies.applied import Applied
from steadygrad.remedies.demonstration import Demonstration
from steadygrad.remedies.gradients import Gradients
from steadygrad.remedies.parameters import Parameters
from steadygrad.remedies.patch import Names, Patch, general
from steadygrad.remedies.treatment import Treatment
from steadygrad.spec import write_spec

if TYPE_CHECKING:
    from steadygrad.remedies.run import Run


class Remedy(ABC):
    """One treatment of a recurrent network's gradient, with its options as fields.

    A remedy is a frozen dataclass that describes itself: its name, its effect on the gradient in
    one sentence (`claim`), how that is measured (`demonstrate`), the faults it is meant for
    (`helps`) and those for which it is among the first to try (`rank`). The command line,
    the diagnosis, the table of all remedies, the documentation and the tests read it from here.
    It overrides the hooks it needs:

    - `unsuitable`, to refuse a model before it is changed;
    - `change`, before training: initialise, reparametrise, replace a layer;
    - `penalty`, between the forward and the backward pass: a term to add to the loss;
    - `on_gradients`, after the backward pass and before the optimiser's step, and `remember`, if
    it keeps state between steps. `begin` makes a `Treatment` of the two,
      which a training calls at every step;
    - `on_optimizer`, once, when the training begins.

    A remedy that changes the model is applied *before the optimiser is made*: a replaced layer has
    new parameters, and an optimiser keeps the old ones.
    """

    name: ClassVar[str]
    claim: ClassVar[str]
    helps: ClassVar[tuple[str, ...]]
    rank: ClassVar[Mapping[str, int]] = {}
    """Faults in `helps` for which it is tried without being requested, lowest number first.
    Built-in ranks are multiples of ten, so that there is room between them."""
    clips: ClassVar[str | None] = None
    """What a clip bounds: ``"norm"``, ``"value"``, or its own name; None if it is not a clip."""
    also_try: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    """Other sets of options to try along with the defaults."""
    other: ClassVar[Mapping[str, Any]] = {}
    """For each option a value other than the default, with which the remedy acts differently on a
    small model; checked by a test."""
    short: ClassVar[Mapping[str, Any]] = {}
    """Options that suit sequences of 30 steps and 100 updates; the table of remedies uses them."""
    few_steps: ClassVar[Mapping[str, Any]] = {}
    """Options with which it acts within a few updates on sequences of 7 steps; tests use them."""
    sees_calls: ClassVar[bool] = False
    """Whether `penalty` needs the recorded calls of recurrent layers."""
    reads_ahead: ClassVar[bool] = False
    """Whether the output at t depends on inputs after t: only for answers at the end."""
    needs_whole_batch: ClassVar[bool] = False
    """Whether it needs the full batch (is not data parallel)."""

    def unsuitable(self, model: nn.Module) -> str | None:
        """Return in one sentence why this model cannot be treated, or None if it can."""
        return None

    def change(self, model: nn.Module, applied: Applied) -> None:  # noqa: B027  # a hook
        """Change ``model`` before training, through ``applied``, which records how to undo it."""

    def penalty(self, run: "Run") -> Tensor | None:
        """Return a scalar to add to the loss of this step, or None.

        Called after the forward pass and before ``backward``, through `Applied.penalty`.
        """
        return None

    def on_optimizer(
        self, optimizer: torch.optim.Optimizer, model: nn.Module
    ) -> Iterable[RemovableHandle]:
        """Attach to the optimiser when a training begins; return what detaches."""
        return ()

    def remember(self, parameters: Parameters) -> Mapping[str, Tensor]:
        """Return the initial values of the tensors that `on_gradients` keeps between steps."""
        return {}

    def on_gradients(self, gradients: Gradients, memory: dict[str, Tensor]) -> Mapping[str, Tensor]:
        """Change the gradients in place; return what to record, as tensors on their own device.

        Called after backward and before the step, on unscaled gradients (under a gradient scaler,
        after ``unscale_``). It must not wait for the device.

        Args:
            gradients: The gradients.
            memory: The tensors of `remember`; changed in place, and saved in checkpoints. Their
                shapes must not change.
        """
        return {}

    def demonstrate(self) -> Demonstration:
        """Measure the claim on a small example, in well under a second.

        `steadygrad.remedies.demonstration` has measurements that several remedies share.
        """
        return Demonstration("not measured: this remedy has no demonstration", None)

    @classmethod
    def fitted(cls, lag: int) -> tuple[Self, ...]:
        """The remedy with options chosen for the lag that the task needs; unchanged by default."""
        return ()

    def patch(self, model: nn.Module, names: Names | None = None) -> Patch:
        """The lines that add this remedy to the user's program.

        They do the same as `apply` and `begin`, with the same random draws.

        Args:
            model: The model to treat.
            names: Names in that program.
        """
        return general(self, names or Names())

    @final
    def begin(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None = None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> Treatment:
        """Start treating the gradients of a training; call the result at every step.

        Args:
            model: Whose gradients.
            optimizer: If given, its parameters are treated, in its groups.
            scaler: The gradient scaler, if one is used.

        Example:
            >>> model = torch.nn.LSTM(4, 16)
            >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
            >>> clip = ClipNorm(0.01).begin(model, optimizer)
            >>> model(torch.randn(5, 2, 4))[0].sum().backward()
            >>> clip()["clipped"]
            tensor(True)
            >>> optimizer.step()
        """
        return Treatment(self, model, optimizer, scaler)

    @final
    def applicable(self, model: nn.Module) -> bool:
        """Whether `apply` would accept ``model``; `unsuitable` says why not."""
        return self.unsuitable(model) is None

    @final
    def apply(self, model: nn.Module) -> Applied:
        """Treat ``model`` in place, before training and before its optimiser is made.

        Random remedies draw from torch's global generator, as torch's own initialisers do.

        Returns:
            The changes, which can be undone. Undo several remedies in reverse order.

        Raises:
            ValueError: The model cannot be treated by this remedy; nothing was changed.
        """
        reason = self.unsuitable(model)
        if reason is not None:
            raise ValueError(f"{self.spec} does not suit this {type(model).__name__}: {reason}")
        applied = Applied()
        if self.has_penalty:
            applied.penalise(model, self.penalty, self.sees_calls)
        try:
            self.change(model, applied)
        except BaseException:
            applied.undo()  # never leave a model partly treated
            raise
        return applied

    @property
    def is_clip(self) -> bool:
        """Whether it bounds gradients; with a bound of infinity it only measures."""
        return self.clips is not None and self.options.get("max_norm") != math.inf

    @property
    def has_penalty(self) -> bool:
        """Whether it adds a term to the loss."""
        return type(self).penalty is not Remedy.penalty

    @property
    def changes_model(self) -> bool:
        """Whether it changes the model before training."""
        return type(self).change is not Remedy.change

    @property
    def acts_on_gradients(self) -> bool:
        """Whether it acts at every step, on gradients or in the optimiser."""
        own = type(self)
        return (
            own.on_gradients is not Remedy.on_gradients
            or own.on_optimizer is not Remedy.on_optimizer
        )

    @property
    def options(self) -> dict[str, Any]:
        """Options by name, as plain values for a record."""
        return {option.name: getattr(self, option.name) for option in self.fields()}

    @property
    def spec(self) -> str:
        """The remedy as the command line writes it; `steadygrad.remedies.parse` reads it back."""
        return write_spec(self.name, self)

    @classmethod
    def for_short_training(cls) -> Self:
        """The remedy with options that suit 30 time steps and 100 updates."""
        return cls(**cls.short)

    @classmethod
    def variants(cls) -> tuple[Self, ...]:
        """The remedy with its defaults, then with each set of options in `also_try`."""
        return (cls(), *(cls(**options) for options in cls.also_try))

    @classmethod
    def fields(cls) -> tuple[Field[Any], ...]:
        """The options: one dataclass field each."""
        return fields(cls)  # pyright: ignore[reportArgumentType]  # every remedy is a dataclass

    @final
    def expect(self, option: str, holds: bool, expected: str) -> None:
        """Refuse a bad option when the remedy is made.

        Raises:
            ValueError: ``holds`` is False.
        """
        if not holds:
            raise ValueError(
                f"{self.name}: option {option} must be {expected}, got {getattr(self, option)!r}"
            )
