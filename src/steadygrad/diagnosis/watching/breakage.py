"""The first step that is not finite: where it broke, and the step itself, saved."""

from dataclasses import replace

from torch import Tensor, nn

from steadygrad.diagnosis.black_box import BlackBox, write_step
from steadygrad.diagnosis.nonfinite import locate
from steadygrad.diagnosis.shared import first_broken, unwrapped
from steadygrad.diagnosis.watching.state import Seen
from steadygrad.errors import InputError
from steadygrad.faults import Finding
from steadygrad.flow.live import LiveCapture
from steadygrad.ranks import Ranks


class Breakage:
    """Names the first bad place, and keeps what is needed to run the step again.

    Args:
        model: As the training calls it.
        seen: Where what is found goes.
        capture: The calls of the step.
        ranks: The processes that train together.

    Attributes:
        box: The last step.
    """

    def __init__(self, model: nn.Module, seen: Seen, capture: LiveCapture, ranks: Ranks) -> None:
        self._model, self._seen, self._capture, self._ranks = model, seen, capture, ranks
        self.box = BlackBox(unwrapped(model))

    def see(self, norm: Tensor) -> bool:
        """Take a norm that is not finite; whether it is the first."""
        seen = self._seen
        seen.scalars({"grad_norm": float(norm)})
        if seen.broken:
            return False
        found = self._located()
        found, step = first_broken(self._ranks, found, self.box)
        seen.broken = self._saved(seen.prescriber.prescribe(found), step)
        seen.settle()
        seen.sinks.finding(seen.step, seen.broken.to_record())
        seen.sinks.event(seen.step, "nonfinite", seen.broken.text)
        return True

    def _located(self) -> Finding:
        """The first bad place, among the calls that were kept, or those of the step run again."""
        capture, seen = self._capture, self._seen
        is_known = True
        if capture.layers and not capture.is_on:
            is_known = self.box.run_again(capture)
        capture.fill()
        calls, gradients = capture.calls, capture.gradients
        return locate(self._model, calls, gradients, seen.step, seen.options.rows, is_known)

    def _saved(self, finding: Finding, step: bytes | str) -> Finding:
        """Save the step beside the record, and say in the evidence where, or why not."""
        record = self._seen.record
        if record is None:  # the fault's own advice says how to have it saved
            return replace(finding, evidence={**finding.evidence, "not_saved": "no record"})
        path = record.path.with_name(f"nonfinite-{self._seen.step}.safetensors")
        step = step or self.box.packed(finding)
        try:
            if isinstance(step, bytes):
                write_step(path, step)
        except (OSError, InputError) as error:  # must not end a training that is to be explained
            step = str(error)
        if not isinstance(step, bytes):
            why = f"the step could not be saved ({step}), so it cannot be replayed"
            return replace(finding, evidence={**finding.evidence, "not_saved": step}, advice=(why,))
        how = (
            f"run `steadygrad replay {path}`: it shows the same place again; for a training loop "
            "of your own add --model file.py:function, which returns the model"
        )
        return replace(finding, evidence={**finding.evidence, "saved": path.name}, advice=(how,))
