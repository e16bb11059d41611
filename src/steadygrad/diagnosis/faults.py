"""Every fault that can be named: what it is, how it is measured, and what helps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        name: As in `steadygrad.diagnosis.Finding.fault`.
        what: What it is, in plain words.
        measured: From what it is concluded, and when nothing is concluded.
        thresholds: Fields of `steadygrad.diagnosis.Thresholds` that decide.
        advice: What helps beside the remedies, the most promising first.
    """

    name: str
    what: str
    measured: str
    thresholds: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()


_ALL = (
    Fault(
        "nonfinite",
        "A value or a gradient is NaN or infinite.",
        "The gradient norm is looked at before every step of the optimiser. When it is not finite, "
        "weights, inputs, states, gates, outputs and the way back are searched in the order in "
        "which they were computed, and the first bad place is named.",
        advice=("run `steadygrad replay` on the saved step: it shows the same place again",),
    ),
    Fault(
        "exploding",
        "The gradient grows on its way back through time, until an update does more harm than "
        "good.",
        "|dL/dh_(t-k)| / |dL/dh_t| by replay in float64, at the required lag or, without one, "
        "where it is largest.",
        ("exploding",),
        ("lower the learning rate",),
    ),
    Fault(
        "vanishing",
        "The gradient dies on its way back through time, so that early steps cannot be learned.",
        "|dL/dh_(t-k)| / |dL/dh_t| by replay in float64, at the required lag, or at one estimated "
        "from the data. Without any lag nobody is accused: a network that needs no memory may have "
        "none. A watch that is told the losses waits for them where the gradient is small and not "
        "yet lost, and where the lag is an estimate.",
        ("vanishing", "unlikely"),
    ),
    Fault(
        "truncated",
        "One backward pass spans fewer steps than the task needs: what lies before it gets no "
        "gradient, whatever the network.",
        "The steps of one call of the layer, and its truncation, are compared with the required "
        "lag.",
        advice=(
            "make the sequences, or `truncate`, longer than the lag",
            "keep memory in check with `checkpoint=True`",
        ),
    ),
    Fault(
        "lr-high",
        "The learning rate is too high: each step replaces a large part of the weights.",
        "|step| / |weights| of the latest measured steps, or of a single one that replaces the "
        "weights; where the loss is known it must not be falling.",
        ("update_high", "update_replaces"),
        ("lower the learning rate tenfold", "warm up over the first hundreds of steps"),
    ),
    Fault(
        "likelihood",
        "The loss itself throws large gradients, not the way through time: a likelihood with a "
        "scale or a rate that runs away.",
        "Gradient norms jump far beyond their median and their neighbours, while the gradient does "
        "not grow with the lag; where the losses are told, one of them is below zero.",
        ("spike",),
        ("bound the scale that the loss divides by", "clip by norm", "check the targets"),
    ),
    Fault(
        "growing",
        "A state grows over the sequence without bound: its activations saturate, or it overflows.",
        "Root mean square of every state over time, at the end of the sequence and halfway.",
        ("growing",),
        (
            "a forget gate, or its bias lower",
            "normalise inside the cell",
            "shorter sequences between resets of the state",
        ),
    ),
    Fault(
        "leaking",
        "The state of one batch is handed to the next though the sequences do not go on: the "
        "network sees a past that is not its own.",
        "States that come in are compared with those that went out, and the first inputs with the "
        "last ones: where inputs change smoothly inside a sequence and jump between batches, "
        "again and again, they are not the same sequence. Inputs that jump everywhere (symbols, "
        "noise) tell nothing, and nothing is concluded.",
        advice=("start every batch from zeros, or do not shuffle batches that go on",),
    ),
    Fault(
        "padding",
        "Padded steps take part in the loss: the network is taught to answer padding.",
        "Sequences that end in a run of one and the same input, of different lengths, while the "
        "loss reads the outputs there at many steps.",
        ("padding",),
        (
            "mask the loss, or pack the batch with pack_padded_sequence",
            "read the last real step, not the last step",
        ),
    ),
    Fault(
        "saturated",
        "The units of a gate are stuck where its derivative is dead: they pass no gradient on.",
        "Mean derivative and spread of the gate over steps and sequences, unit by unit: below a "
        "hundredth of the largest possible, and not moving.",
        ("dead_share",),
    ),
    Fault(
        "dead",
        "Units of a ReLU never open: they can no longer be trained.",
        "Share of units that are never positive over steps and sequences.",
        ("dead_share",),
    ),
    Fault(
        "clip-tight",
        "Clipping cuts nearly every gradient to a small part of itself: training crawls.",
        "Norms before and after clipping. Optimisers that divide by the size of the gradient "
        "(Adam, RMSprop) do not mind, and nothing is concluded.",
        ("clip_tight",),
        ("clip at one to ten times the median norm",),
    ),
    Fault(
        "clip-loose",
        "Gradients far beyond the usual pass unclipped: one of them can undo what was learned.",
        "Norms after clipping against their median, several of them.",
        ("spike",),
        ("clip at one to ten times the median norm",),
    ),
    Fault(
        "lr-low",
        "The learning rate is too low: the steps are too small to get anywhere.",
        "|step| / |weights| has been tiny from the first measurement on while the loss has hardly "
        "moved; or all steps that are planned cannot move the weights far. Without the loss "
        "nothing is concluded: a trained network takes small steps, too.",
        ("update_low", "travel_low"),
        ("raise the learning rate tenfold",),
    ),
)

FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
"""Faults by name, the worst first; `Diagnosis.verdict` is the worst that was found."""
