"""Clip misplaced: what is clipped is not what the optimiser uses."""

from collections.abc import Iterable
from typing import ClassVar, final

from steadygrad.faults.base import Fault, SpokenNames
from steadygrad.faults.finding import Finding
from steadygrad.faults.loss_facts import LossFacts
from steadygrad.faults.thresholds import Thresholds

TEXTS = {
    "cleared": (
        "the clip at {site} bounds nothing that a step uses: when the backward pass began, what it "
        "had clipped was gone. It is called before backward() or after step()."
    ),
    "scaled": (
        "the clip at {site} sees gradients that a gradient scaler has multiplied by {scale:g}: its "
        "bound is that many times too small. scaler.unscale_() is not called before it."
    ),
    "nothing": (
        "the clip at {site} gets no parameter. An iterator such as model.parameters() that is kept "
        "in a variable is exhausted after it was read once."
    ),
    "gradients": (
        "the clip at {site} gets gradients in place of parameters, and clips nothing: it reads the "
        "attribute .grad of what it is given."
    ),
}


@final
class ClipMisplaced(Fault):
    """Clips followed to the step that should use them."""

    name: ClassVar[str] = "clip-misplaced"
    severity: ClassVar[int] = 16
    meaning: ClassVar[str] = (
        "Gradients are clipped, but the steps do not use what was clipped: the clip comes before "
        "the backward pass or after the step, is given the wrong tensors, or sees gradients that "
        "are still multiplied by a gradient scaler."
    )
    symptom: ClassVar[str] = "gradients are clipped, and the loss jumps all the same"
    look_at: ClassVar[str] = "calls of torch's clip functions, in `sg.watch`"
    measured: ClassVar[str] = (
        "Calls of torch's clip functions and of this library's clips are seen. A clip is lost if "
        "the backward pass after it begins without the gradients that it had clipped, in three "
        "steps in a row. One before the last of several backward passes that add up is not "
        "reported, nor one whose bound was multiplied like the gradients."
    )
    colour: ClassVar[str] = "#b0582f"
    advice: ClassVar[tuple[str, ...]] = (
        "clip after loss.backward() and before optimizer.step()",
        "under a gradient scaler call scaler.unscale_(optimizer) before the clip",
    )

    def in_loss(self, facts: LossFacts, limits: Thresholds) -> Iterable[Finding]:
        lost = facts.lost_clip
        if lost is None:
            return
        text = TEXTS[lost.why].format(site=lost.site, scale=lost.scale)
        yield self.finding(
            "optimizer",
            f"Not a gradient problem: in {lost.steps} steps in a row {text}",
            evidence={
                "why": lost.why,
                "steps_in_a_row": lost.steps,
                "site": lost.site,
                "scale": lost.scale,
            },
            confidence=1.0,
        )

    def lines(self, finding: Finding, names: SpokenNames) -> str:
        """Backward pass, clip and step in their order."""
        clip = f"torch.nn.utils.clip_grad_norm_({names.model}.parameters(), max_norm=1.0)"
        if finding.evidence["why"] == "scaled":
            steps = (
                f"scaler.scale({names.loss}).backward()",
                f"scaler.unscale_({names.optimizer})",
                clip,
                f"scaler.step({names.optimizer})",
                "scaler.update()",
            )
        else:
            steps = (f"{names.loss}.backward()", clip, f"{names.optimizer}.step()")
        return "\n".join(steps)
