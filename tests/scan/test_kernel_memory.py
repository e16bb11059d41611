"""Memory that kernels use again, and the sizes at which their products change shape."""

import ctypes
import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from benchmarks.layers import apart

import steadygrad as sg
from steadygrad.scan.backends.c import pool
from tests.helpers.marks import needs_compiler

pytestmark = needs_compiler

LARGE = (512, 1024)  # 2 MB of float32


def test_small_buffers_are_plain() -> None:
    assert pool.empty((3, 4), torch.empty(0)).shape == (3, 4)


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)]
)
def test_a_buffer_is_used_again_once_nobody_holds_it(dtype: torch.dtype) -> None:
    first = pool.empty(LARGE, torch.empty(0, dtype=dtype))
    assert first.dtype == dtype
    view = first[1:].view(-1)
    address = first.data_ptr()
    del first
    gc.collect()
    other = pool.empty(LARGE, view)  # the view holds the memory
    assert other.data_ptr() != address
    del view
    gc.collect()
    assert pool.empty(LARGE, other).data_ptr() == address


def test_waiting_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "KEPT", 3 * pool.PAGE)
    held = [pool.empty(LARGE, torch.empty(0)) for _ in range(5)]
    del held
    gc.collect()
    assert sum(map(len, pool._idle)) <= 3 * pool.PAGE


def test_scratch_belongs_to_one_thread_and_is_used_again() -> None:
    size = 3 * pool.PAGE
    address = pool.scratch(size)
    ctypes.memset(address, 0, size)
    assert pool.scratch(size // 2) == pool.scratch(size) == address
    with ThreadPoolExecutor(1) as other:
        assert other.submit(pool.scratch, size).result() != address
    ctypes.memset(pool.scratch(3 * size), 0, 3 * size)


# Few inputs go without tiles; a batch above 192 rows a thread fills more than one chunk alone.
@pytest.mark.parametrize("inputs", [1, 4, 5, 37])
@pytest.mark.parametrize(("steps", "batch", "hidden"), [(3, 450, 9), (70, 7, 40), (400, 1, 33)])
@pytest.mark.parametrize("name", ["lstm", "gru", "gru-original"])
def test_equal_to_eager(name: str, inputs: int, steps: int, batch: int, hidden: int) -> None:
    torch.manual_seed(0)
    found = []
    layer = sg.Recurrent(name, inputs, hidden, dtype=torch.float64)
    x = torch.randn(steps, batch, inputs, dtype=torch.float64)
    weight = torch.randn(steps, batch, hidden, dtype=torch.float64)
    for backend in ("c", "eager"):
        layer.backend = backend
        layer.zero_grad()
        given = x.clone().requires_grad_()
        output = layer(given)[0]
        (output * weight).sum().backward()
        assert given.grad is not None
        found.append([output.detach(), given.grad, *(p.grad for p in layer.parameters())])
    for ours, eager in zip(*found, strict=True):
        torch.testing.assert_close(ours, eager, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_checkpoint_takes_a_tenth_of_the_memory_at_most() -> None:
    word = ",".join(map(str, apart.LONG))
    whole, few = (apart.run("memory", "ours", word, *more) for more in ((), ("checkpoint",)))
    assert few["own_mb"] <= whole["own_mb"] / 10
