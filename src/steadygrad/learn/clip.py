"""Lesson ``clip``: the effect of clipping on a cliff, and its form in each framework."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steadygrad.cells import Elman
from steadygrad.errors import InputError
from steadygrad.learn.lesson import Lesson, Result
from steadygrad.learn.parts import Code, Heading, Part, Table, Text
from steadygrad.learn.scene import Choice, Curves, Picture, Readings, Scene, Sentence, Slider
from steadygrad.nn import Recurrent
from steadygrad.remedies import ClipNorm, ClipValue, Remedy
from steadygrad.report.axis import Axis
from steadygrad.report.palette import LEVELS, palette
from steadygrad.report.png import png
from steadygrad.scan import LoopClip

Clip = Literal["none", "value", "norm", "inside"]
CLIPS: dict[Clip, str] = {
    "none": "no clip",
    "value": "by value: each entry of the gradient",
    "norm": "by norm: the whole gradient",
    "inside": "inside backpropagation: the gradient at each step",
}
LENGTH, TARGET = 50, 0.7
START = 1 / (1 + np.exp(-0.5))  # the state before the first step
W, B = (2.0, 7.0), (-4.0, 1.0)
PIXELS = (192, 134)
Arrays = Sequence[NDArray[np.float64]]


@dataclass(frozen=True)
class Spot:
    """One step of a descent: weight, bias, loss and the norm of the unclipped gradient.

    With ``inside`` the norm is that after the clip inside backpropagation.
    """

    w: float
    b: float
    loss: float
    norm: float


@dataclass(frozen=True)
class Descent:
    """A descent with one kind of clip."""

    clip: Clip
    path: tuple[Spot, ...]

    @property
    def longest_step(self) -> float:
        """The longest step in the plane of weight and bias."""
        points = np.array([(spot.w, spot.b) for spot in self.path])
        return float(np.linalg.norm(np.diff(points, axis=0), axis=1).max())


@dataclass(frozen=True)
class Equality:
    """One clip by a framework's documented formula, compared with the library's.

    Attributes:
        clip: What is clipped.
        framework: The framework.
        difference: Largest difference from the library's clip, relative to the threshold, on
            gradients far below, about and far above it.
    """

    clip: str
    framework: str
    difference: float


@dataclass(frozen=True)
class ClipResult(Result):
    """Numbers of the lesson ``clip``.

    Attributes:
        w, b, rate, threshold, steps: The options.
        descents: Each kind of clip from the same start.
        equalities: The frameworks' formulas against the library's clips.
    """

    w: float
    b: float
    rate: float
    threshold: float
    steps: int
    descents: tuple[Descent, ...]
    equalities: tuple[Equality, ...]

    def parts(self) -> Sequence[Part]:
        sizes = sorted(spot.norm for spot in self.descents[0].path)
        return (
            Text(
                "A recurrent unit that is run for fifty steps, s ← σ(w s + b), is a small step in "
                "w away from being another network: on one side of a line it settles low, on the "
                "other high. Seen as a landscape of the loss, that line is a cliff. Walking into "
                "it, gradient descent is thrown out: on the walk without a clip the norm of the "
                f"gradient is {sizes[len(sizes) // 2]:.2g} in the median and {sizes[-1]:.3g} at "
                "its worst."
            ),
            Heading("On a cliff"),
            _scene(self),
            Table(
                f"From w = {self.w:g}, b = {self.b:g}: {self.steps} steps of rate {self.rate:g}, "
                f"threshold {self.threshold:g}",
                ("clip", "loss at the end", "smallest loss", "longest step", "steepest gradient"),
                [
                    (
                        CLIPS[d.clip].partition(":")[0],
                        d.path[-1].loss,
                        min(s.loss for s in d.path),
                        d.longest_step,
                        max(s.norm for s in d.path),
                    )
                    for d in self.descents
                ],
                "Trained with the library's layer and its clips. Inside backpropagation, the "
                "gradient is the one that the clip leaves.",
            ),
            Text(
                "By norm keeps the direction and bounds the step. By value turns a steep gradient "
                "towards the diagonal, for it bounds each entry by itself. Inside backpropagation "
                "bounds what each time step hands to the one before, so that one steep stretch of "
                "time cannot drown the others; the result is no longer the gradient of the loss. "
                "No clip brings back a gradient that has vanished."
            ),
            Heading("The same lines elsewhere"),
            *(Code(title, text) for title, text in LINES.items()),
            Table(
                "The formulas that the frameworks document, against the library's clips",
                ("clip", "framework", "largest difference, of the threshold"),
                [(e.clip, e.framework, f"{e.difference:.1e}") for e in self.equalities],
                "torch adds 1e-6 to the norm, and so does the library; Keras and Optax do not.",
            ),
        )


LINES = {
    "torch": """\
loss.backward()
# after backward, before the step; with a GradScaler call scaler.unscale_(optimizer) first
torch.nn.utils.clip_grad_value_(model.parameters(), 1.0)   # by value
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)    # by norm
optimizer.step()

# inside backpropagation, in a loop over time: hook what is handed to the next step
carried = h.clone()
carried.register_hook(lambda g: g.clamp(-1.0, 1.0))""",
    "Keras": """\
keras.optimizers.SGD(clipvalue=1.0)         # by value
keras.optimizers.SGD(global_clipnorm=1.0)   # by norm
keras.optimizers.SGD(clipnorm=1.0)          # by the norm of each variable for itself""",
    "JAX with Optax": """\
optax.chain(optax.clip(1.0), optax.sgd(0.1))                  # by value
optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1))   # by norm

# inside backpropagation: an identity whose backward pass clips
@jax.custom_vjp
def bounded(h): return h
bounded.defvjp(lambda h: (h, None), lambda _, g: (jnp.clip(g, -1.0, 1.0),))""",
    "Steadygrad": """\
model_clip = sg.remedies.ClipNorm(1.0).begin(model)   # or ClipValue(1.0), AGC(), ...
loss.backward(); model_clip(); optimizer.step()

sg.remedies.ClipThroughTime(1.0, by="value").apply(model)   # inside backpropagation""",
}


@final
@dataclass(frozen=True)
class ClipLesson(Lesson):
    """Clipping on a cliff: by value, by norm, inside backpropagation; and in each framework.

    Args:
        w: Weight to start from, 2 to 7.
        b: Bias to start from, -4 to 1.
        rate: Learning rate, above 0.
        threshold: Threshold of each clip, above 0.
        steps: Steps of gradient descent, 1 to 200.
    """

    name: ClassVar[str] = "clip"
    question: ClassVar[str] = "What does gradient clipping do, and where does it act?"
    place: ClassVar[int] = 40

    w: float = 5.0
    b: float = -2.0
    rate: float = 1.0
    threshold: float = 0.1
    steps: int = 40

    def run(self) -> ClipResult:
        for name, (low, high) in (("w", W), ("b", B), ("steps", (1, 200))):
            if not low <= getattr(self, name) <= high:
                raise InputError(
                    f"learn clip: {name} must be {low:g} to {high:g}, got {getattr(self, name):g}"
                )
        for name in ("rate", "threshold"):
            if not 0 < getattr(self, name) < float("inf"):
                raise InputError(f"learn clip: {name} must be above 0, got {getattr(self, name):g}")
        descents = tuple(
            descend(self.w, self.b, self.rate, self.threshold, clip, self.steps) for clip in CLIPS
        )
        options = (self.w, self.b, self.rate, self.threshold, self.steps)
        return ClipResult(*options, descents, equalities())


def descend(w: float, b: float, rate: float, threshold: float, clip: Clip, steps: int) -> Descent:
    """Train the one-unit network by plain gradient descent with the library's layer and clips."""
    layer: Any = Recurrent(Elman("sigmoid"), 1, 1, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_hh_l0.fill_(w)
        layer.bias_ih_l0.fill_(b)
    layer.weight_ih_l0.requires_grad_(False)
    layer.bias_hh_l0.requires_grad_(False)
    if clip == "inside":
        layer.loop_clip = LoopClip(threshold, "value", "recurrent")
    remedy: Remedy | None = {"value": ClipValue(threshold), "norm": ClipNorm(threshold)}.get(clip)
    act = remedy.begin(layer) if remedy else None
    trained = (layer.weight_hh_l0, layer.bias_ih_l0)
    optimizer = torch.optim.SGD(trained, lr=rate)
    x = torch.zeros(LENGTH, 1, 1, dtype=torch.float64)
    start = torch.full((1, 1, 1), float(START), dtype=torch.float64)
    path: list[Spot] = []
    for step in range(steps + 1):
        optimizer.zero_grad()
        _, last = layer(x, start)
        loss = (_tensor(last) - TARGET).square().sum()
        loss.backward()
        norm = torch.cat([_grad(p).flatten() for p in trained]).norm()
        spot = (layer.weight_hh_l0.detach(), layer.bias_ih_l0.detach(), loss.detach(), norm)
        path.append(Spot(*(float(v) for v in spot)))
        if step < steps:
            if act is not None:
                act()
            optimizer.step()
    return Descent(clip, tuple(path))


def _tensor(state: object) -> Tensor:
    return state if isinstance(state, Tensor) else state[0]  # type: ignore[index]


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _all(grads: Arrays) -> float:
    return float(np.sqrt(sum((g**2).sum() for g in grads)))


def _torch_norm(grads: Arrays, bound: float) -> Arrays:
    """https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html."""
    share = min(1.0, bound / (_all(grads) + 1e-6))
    return [g * share for g in grads]


def _keras_norm(grads: Arrays, bound: float) -> Arrays:
    """``global_clipnorm``: t * clip_norm / max(global_norm, clip_norm)."""
    return [g * bound / max(_all(grads), bound) for g in grads]


def _optax_norm(grads: Arrays, bound: float) -> Arrays:
    """``clip_by_global_norm``: (t / g_norm) * max_norm where g_norm is not below max_norm."""
    norm = _all(grads)
    return list(grads) if norm < bound else [g / norm * bound for g in grads]


def _keras_each(grads: Arrays, bound: float) -> Arrays:
    """``clipnorm``: each variable's gradient by its own norm."""
    return [g * bound / max(float(np.linalg.norm(g)), bound) for g in grads]


def _torch_each(grads: Arrays, bound: float) -> Arrays:
    """``clip_grad_norm_([p], bound)`` for every parameter p."""
    return [_torch_norm([g], bound)[0] for g in grads]


def _by_value(grads: Arrays, bound: float) -> Arrays:
    """``clip_grad_value_``, ``clipvalue`` and ``optax.clip``: every entry into [-bound, bound]."""
    return [np.clip(g, -bound, bound) for g in grads]


FORMULAS: Mapping[str, tuple[Callable[[float], Remedy], dict[str, Callable[..., Arrays]]]] = {
    "by value": (ClipValue, {"torch": _by_value, "Keras": _by_value, "Optax": _by_value}),
    "by norm": (ClipNorm, {"torch": _torch_norm, "Keras": _keras_norm, "Optax": _optax_norm}),
    "by norm of each": (
        lambda bound: ClipNorm(bound, "parameter"),
        {"torch": _torch_each, "Keras": _keras_each},
    ),
}
"""Name of each clip, the library's remedy, and the frameworks' documented formulas."""


def equalities(bound: float = 1.0) -> tuple[Equality, ...]:
    """Compute every documented formula again, and compare it with the library's clip."""
    random = np.random.default_rng(0)
    shapes = ((6, 4), (6,), (3, 3))
    cases = [[s * random.normal(size=shape) for shape in shapes] for s in (0.01, 0.3, 1.0, 100.0)]
    found = []
    for name, (remedy, formulas) in FORMULAS.items():
        ours = [_ours(remedy(bound), grads) for grads in cases]
        for framework, formula in formulas.items():
            theirs = [formula(grads, bound) for grads in cases]
            pairs = [p for a, b in zip(ours, theirs, strict=True) for p in zip(a, b, strict=True)]
            found.append(Equality(name, framework, max(abs(a - b).max() for a, b in pairs) / bound))
    return tuple(Equality(e.clip, e.framework, float(e.difference)) for e in found)


def _ours(remedy: Remedy, grads: Arrays) -> Arrays:
    model = torch.nn.ParameterList(torch.zeros(g.shape, dtype=torch.float64) for g in grads)
    for parameter, grad in zip(model, grads, strict=True):
        parameter.grad = torch.from_numpy(grad.copy())
    remedy.begin(model)()
    return [_grad(p).numpy() for p in model]


def landscape() -> str:
    """The loss over weight and bias as an image, dark is low; a data URI."""
    columns, rows = PIXELS
    w, b = np.meshgrid(np.linspace(*W, columns), np.linspace(*B, rows)[::-1])
    s = np.full_like(w, START)
    for _ in range(LENGTH):
        s = 1 / (1 + np.exp(-(w * s + b)))
    loss = np.sqrt((s - TARGET) ** 2)  # the root resolves the small values of the valley
    levels = (loss / loss.max() * (LEVELS - 1)).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(png(levels, palette(), 255)).decode()


def _scene(result: ClipResult) -> Scene:
    return Scene(
        "cliff",
        "Descend with and without a clip",
        "Dark is a low loss; the sharp edge is the cliff. The circle is the start, the square the "
        "end. Change the clip and keep all else.",
        (
            Choice("clip", "clip", list(CLIPS.items()), "none"),
            Slider("threshold", "threshold", 0.01, 1, min(max(result.threshold, 0.01), 1), 0.01),
            Slider("rate", "learning rate", 0.1, 5, min(max(result.rate, 0.1), 5), 0.1),
            Slider("steps", "steps", 1, 100, min(result.steps, 100), 1),
            Slider("w", "start: weight", *W, result.w, 0.05),
            Slider("b", "start: bias", *B, result.b, 0.05),
        ),
        (
            Picture(
                "path",
                "The loss over weight and bias, and the path of the descent",
                600,
                448,
                landscape(),
                420,
            ),
            Sentence("says"),
            Readings(
                (
                    ("loss", "loss at the end"),
                    ("far", "longest step"),
                    ("steepest", "steepest gradient"),
                )
            ),
            Curves(
                "loss",
                "Loss",
                (("loss", "main"),),
                Axis(0, 100),
                Axis(-6, 0.2, True, True),
                "training step",
                "loss",
            ),
            Curves(
                "norm",
                "Norm of the gradient",
                (("norm", "before"),),
                Axis(0, 100),
                Axis(-6, 4, True, True),
                "training step",
                "norm before a clip by value or norm",
            ),
        ),
        {"length": LENGTH, "target": TARGET, "start": float(START), "w": list(W), "b": list(B)},
    )
