"""The lesson on clipping against autograd, torch's own clips and a loop with hooks."""

from typing import Any

import numpy as np
import pytest
import torch

from steadygrad.errors import InputError
from steadygrad.learn import ClipLesson
from steadygrad.learn.clip import CLIPS, LENGTH, START, TARGET, Clip, descend, equalities
from tests.learn.scripts import compute, scene_of


def by_autograd(w: float, b: float, inside: float | None = None) -> tuple[float, list[float]]:
    """Loss and gradient of the unrolled unit; a hook bounds what is handed to each step before."""
    weight, bias = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (w, b))
    s = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    for _ in range(LENGTH):
        carried = s.clone()
        if inside is not None:
            carried.register_hook(lambda g: g.clamp(-inside, inside))
        s = torch.sigmoid(weight * carried + bias)
    loss = (s - TARGET) ** 2
    return float(loss.detach()), [float(g) for g in torch.autograd.grad(loss, (weight, bias))]


def walked(clip: Clip, w: float, b: float, rate: float, bound: float, steps: int) -> list[Any]:
    """The same descent with torch's own clips."""
    path = []
    for _ in range(steps + 1):
        loss, grads = by_autograd(w, b, bound if clip == "inside" else None)
        path.append((w, b, loss, float(np.hypot(grads[0], grads[1]))))
        parameter = torch.nn.Parameter(torch.tensor([w, b], dtype=torch.float64))
        parameter.grad = torch.tensor(grads, dtype=torch.float64)
        if clip == "value":
            torch.nn.utils.clip_grad_value_([parameter], bound)
        if clip == "norm":
            torch.nn.utils.clip_grad_norm_([parameter], bound)
        w, b = (parameter - rate * parameter.grad).tolist()
    return path


@pytest.mark.parametrize("clip", CLIPS)
def test_descent_and_page_follow_torchs_clips(clip: Clip) -> None:
    """A cliff multiplies rounding: the paths are compared until they come near it."""
    options = {"w": 6.0, "b": -2.6, "rate": 0.5, "threshold": 0.08, "steps": 8}
    expected = walked(clip, 6.0, -2.6, 0.5, 0.08, 8)
    found = descend(6.0, -2.6, 0.5, 0.08, clip, 8).path
    data = scene_of(ClipLesson(steps=1), "cliff").data
    (made,) = compute("clip", "cliff", options | {"clip": clip}, data=data)
    for ours, page, theirs in zip(found, made["path"], expected, strict=True):
        assert (ours.w, ours.b, ours.loss, ours.norm) == pytest.approx(theirs, rel=1e-8)
        assert (page["w"], page["b"], page["loss"], page["norm"]) == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize("clip", ["none", "inside"])
def test_the_pages_gradient_is_autograds_on_the_cliff_too(clip: Clip) -> None:
    points = [(w, b) for w in (2.0, 4.4, 5.0, 7.0) for b in (-3.9, -2.3, -2.0, 0.5)]
    cases = [
        {"w": w, "b": b, "rate": 1.0, "threshold": 0.03, "steps": 0, "clip": clip}
        for w, b in points
    ]
    data = scene_of(ClipLesson(steps=1), "cliff").data
    for (w, b), made in zip(points, compute("clip", "cliff", *cases, data=data), strict=True):
        loss, grads = by_autograd(w, b, 0.03 if clip == "inside" else None)
        (spot,) = made["path"]
        assert spot["loss"] == pytest.approx(loss, rel=1e-9)
        assert spot["norm"] == pytest.approx(np.hypot(grads[0], grads[1]), rel=1e-7)


def test_the_frameworks_formulas_equal_the_librarys_clips() -> None:
    found = equalities()
    assert {(e.clip, e.framework) for e in found} >= {
        (clip, framework)
        for clip in ("by value", "by norm")
        for framework in ("torch", "Keras", "Optax")
    }
    for equality in found:
        # torch's 1e-6 in the norm is the only difference, and only where others leave it out.
        is_exact = equality.framework == "torch" or equality.clip == "by value"
        assert equality.difference < (1e-15 if is_exact else 1e-6), equality


def test_torchs_formula_is_torchs_function() -> None:
    from steadygrad.learn.clip import _torch_norm

    grads = [np.array([3.0, -4.0]), np.array([[12.0]])]
    parameters = [torch.nn.Parameter(torch.zeros(g.shape, dtype=torch.float64)) for g in grads]
    for parameter, grad in zip(parameters, grads, strict=True):
        parameter.grad = torch.from_numpy(grad.copy())
    torch.nn.utils.clip_grad_norm_(parameters, 2.0)
    for parameter, expected in zip(parameters, _torch_norm(grads, 2.0), strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=1e-14)


def test_the_cliff_throws_out_what_is_not_clipped() -> None:
    by_clip = {d.clip: d for d in ClipLesson().run().descents}
    assert by_clip["none"].longest_step > 2
    assert by_clip["norm"].longest_step < 0.101
    assert min(s.loss for s in by_clip["norm"].path) < 0.02
    assert by_clip["none"].path[-1].loss > 0.05


def test_options_out_of_range_are_refused() -> None:
    for options, says in (({"w": 9.0}, "w must be 2 to 7"), ({"rate": 0.0}, "rate must be above")):
        with pytest.raises(InputError, match=says):
            ClipLesson(**options).run()  # type: ignore[arg-type]
