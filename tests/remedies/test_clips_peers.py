"""Clips against those of Keras 3 and Optax, where these are installed.

pip install keras optax jax
KERAS_BACKEND=torch python -m pytest tests/remedies/test_clips_peers.py
"""

import os
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from steadygrad.remedies import AGC, ClipNorm, ClipValue, Remedy

Arrays = list[NDArray[np.float32]]
SHAPES = [(6, 4), (6, 4), (6,), (200, 100), (1,)]
SCALES = (0.01, 1.0, 100.0)  # within the bounds, about them, far beyond


def peer(name: str) -> ModuleType:
    """Import a peer, or skip and say so; its warnings are not ours."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed: pip install {name}")


def arrays(seed: int, scale: float = 1.0) -> Arrays:
    rng = np.random.default_rng(seed)
    return [(scale * rng.normal(size=shape)).astype(np.float32) for shape in SHAPES]


def ours(remedy: Remedy, weights: Arrays, grads: Arrays) -> Arrays:
    model = nn.ParameterList(torch.from_numpy(w.copy()) for w in weights)
    for parameter, grad in zip(model, grads, strict=True):
        parameter.grad = torch.from_numpy(grad.copy())
    remedy.begin(model)()
    return [p.grad.numpy() for p in model if p.grad is not None]


def assert_same(found: Arrays, expected: Arrays) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("option", "remedy"),
    [
        ({"clipvalue": 0.5}, ClipValue(0.5)),
        ({"clipnorm": 2.0}, ClipNorm(2.0, "parameter")),
        ({"global_clipnorm": 5.0}, ClipNorm(5.0)),
    ],
    ids=["clipvalue", "clipnorm", "global_clipnorm"],
)
@pytest.mark.filterwarnings("ignore")
def test_keras(option: dict[str, Any], remedy: Remedy, scale: float) -> None:
    keras = peer("keras")
    grads = arrays(0, scale)
    # From zero, with a step size of 1, what is left of a weight is minus the clipped gradient.
    variables = [keras.Variable(np.zeros_like(g)) for g in grads]
    optimizer = keras.optimizers.SGD(learning_rate=1.0, **option)
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in grads], variables)
    expected = [-keras.ops.convert_to_numpy(v.value) for v in variables]
    assert_same(ours(remedy, arrays(1), grads), expected)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("clip", ClipValue(0.5)),
        ("clip_by_global_norm", ClipNorm(0.5)),
        ("adaptive_grad_clip", AGC(0.5, clip_last=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore")
def test_optax(name: str, remedy: Remedy, scale: float) -> None:
    optax = peer("optax")
    weights, grads = arrays(1), arrays(0, scale)
    clip = getattr(optax, name)(0.5)
    # Optax has (inputs, units), torch (units, inputs).
    flip = [a.T for a in weights], [a.T for a in grads]
    found, _ = clip.update(flip[1], clip.init(flip[0]), flip[0])
    assert_same(ours(remedy, weights, grads), [np.asarray(a).T for a in found])
