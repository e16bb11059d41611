"""Identity initialisation: every unit starts by keeping its own value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

from torch import nn

from steadygrad.init import identity_
from steadygrad.init.blocks import row_blocks
from steadygrad.remedies.applied import Applied
from steadygrad.remedies.base import Remedy
from steadygrad.remedies.demonstration import Demonstration, singular_values_lie
from steadygrad.remedies.recurrences import Recurrence, recurrences
from steadygrad.remedies.unsuitable import no_recurrence


@final
@dataclass(frozen=True)
class IdentityInit(Remedy):
    r"""Start recurrent blocks as ``scale`` times the identity.

    .. math::
        R_k = \text{scale} \cdot I

    Each unit keeps its own value and gradient: over :math:`k` steps a factor
    :math:`\text{scale}^k` times the slopes of the nonlinearity, without mixing between units.
    What was learned in these weights is lost.

    Args:
        scale: The value on the diagonal.
        blocks: ``"candidate"`` leaves the gates of a gated cell unchanged, ``"all"`` sets their
            blocks too. A plain recurrence has only the candidate.
        zero_bias: Whether the biases are set to 0 too.

    References:
        Le, Jaitly and Hinton, *A Simple Way to Initialize Recurrent Networks of Rectified Linear
        Units*, 2015, section 3 (identity, and scaled identity as a chosen forgetting).
    """

    name: ClassVar[str] = "identity-init"
    claim: ClassVar[str] = "The chosen recurrent blocks are exactly scale times the identity"
    helps: ClassVar[tuple[str, ...]] = ("vanishing", "exploding", "dead")
    rank: ClassVar[Mapping[str, int]] = {"vanishing": 60, "dead": 20}
    other: ClassVar[Mapping[str, Any]] = {"scale": 0.5, "blocks": "all", "zero_bias": False}

    scale: float = 1.0
    blocks: Literal["candidate", "all"] = "candidate"
    zero_bias: bool = True

    def __post_init__(self) -> None:
        self.expect("scale", 0 < self.scale < float("inf"), "a finite number above 0")
        self.expect("blocks", self.blocks in ("candidate", "all"), "'candidate' or 'all'")

    def unsuitable(self, model: nn.Module) -> str | None:
        reason = no_recurrence(model)
        if reason is not None or any(map(self._suits, recurrences(model))):
            return reason
        return "an identity needs square recurrent blocks; projected layers have none"

    def change(self, model: nn.Module, applied: Applied) -> None:
        for layer in filter(self._suits, recurrences(model)):
            weight = applied.keep(layer.parameter("weight_hh"))
            for gate, block in zip(
                layer.recurrent, row_blocks(weight.data, len(layer.recurrent)), strict=True
            ):
                if self.blocks == "all" or gate == "candidate":
                    identity_(block, 1, self.scale)
            what = "every recurrent block" if self.blocks == "all" else "recurrent candidate block"
            done = f"{what} {self.scale:g} times the identity"
            if self.zero_bias:
                for bias in layer.biases():
                    nn.init.zeros_(applied.keep(bias))
                done += ", biases 0"
            applied.note(f"{layer.label}: {done}")

    def _suits(self, layer: Recurrence) -> bool:
        rows, columns = layer.parameter("weight_hh").shape
        is_square = rows == columns * len(layer.recurrent)
        return is_square and (self.blocks == "all" or "candidate" in layer.recurrent)

    def demonstrate(self) -> Demonstration:
        return singular_values_lie(self, self.scale, self.scale)
