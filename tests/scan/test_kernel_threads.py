"""Threads of a compiled cell: rows of the batch, or columns of the products, against `eager`."""

import ctypes
import platform
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from steadygrad.nn import Recurrent
from steadygrad.scan import Layout, LoopClip, Tap
from steadygrad.scan.backends.c import build, call, threads
from steadygrad.scan.backends.c import openmp as tools
from tests.helpers.marks import needs_compiler

pytestmark = pytest.mark.usefixtures("any_backend")
CELLS = ("lstm", "gru-original", "lstm-layer-norm", "lstm-peephole")


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns are split whatever the sizes, with more threads than cores too."""
    for name, value in {"SMALL": 0, "MEETING": 0, "LARGE": 0, "ROWS": 1000}.items():
        monkeypatch.setattr(threads, name, value)
    monkeypatch.setattr(threads, "cores", lambda: 64)


def outcome(layer: Recurrent, given: Any) -> tuple[list[Tensor], list[Tap]]:
    """Output, last state and all gradients; and what the taps saw."""
    taps: list[Tap] = []
    layer.on_tap = lambda layer, reverse, tap: taps.append(tap)
    output, last = layer(given)
    values = [getattr(output, "data", output) if hasattr(output, "batch_sizes") else output]
    values += last if isinstance(last, tuple) else (last,)
    torch.manual_seed(3)
    loss = torch.stack([(v * torch.rand(v.shape, dtype=v.dtype)).sum() for v in values]).sum()
    source = given.data if hasattr(given, "batch_sizes") else given
    wanted = [t for t in (source, *layer.parameters()) if t.requires_grad]
    return [*values, *torch.autograd.grad(loss, wanted, materialize_grads=True)], taps


def given(form: str, steps: int, batch: int, inputs: int) -> Any:
    if form == "codes":
        return torch.randint(inputs, (steps, batch))
    if form == "dense":
        return torch.randn(steps, batch, inputs, dtype=torch.float64, requires_grad=True)
    rows = [torch.randn(1 + 5 * i % steps, inputs, dtype=torch.float64) for i in range(batch)]
    packed = pack_sequence(rows, enforce_sorted=False)
    packed.data.requires_grad_()
    return packed


def alike(name: str, x: Any, hidden: int, clip: LoopClip | None = None, **options: Any) -> None:
    """The compiled layer gives twice what `eager` gives."""
    options |= {"bidirectional": True, "dtype": torch.float64, "hidden_size": hidden}
    fast, slow = (Recurrent(name, backend=b, **options) for b in ("c", "eager"))
    slow.load_state_dict(fast.state_dict())
    fast.loop_clip = slow.loop_clip = clip
    (first, seen), (second, _), (wanted, taps) = (outcome(m, x) for m in (fast, fast, slow))
    torch.testing.assert_close(first, wanted)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for ours, theirs in zip(seen, taps, strict=True):
        torch.testing.assert_close(ours.log10_norm, theirs.log10_norm)
        torch.testing.assert_close(ours.log10_gate, theirs.log10_gate)


@needs_compiler
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("form", ["dense", "packed", "codes"])
@pytest.mark.usefixtures("columns")
def test_columns_split_over_threads_are_eager(name: str, form: str) -> None:
    shapes = [(2, 7, 3, 4, 5), (2, 9, 1, 70, 40), (3, 6, 13, 3, 33)]
    for count, steps, batch, inputs, hidden in shapes:
        torch.set_num_threads(count)
        alike(name, given(form, steps, batch, inputs), hidden, input_size=inputs)


@needs_compiler
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="builds for x86")
@pytest.mark.usefixtures("columns")
def test_narrow_vectors_of_doubles_are_packed_within_their_panel(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two doubles a vector, as on 64-bit Arm: a panel has four columns, and its neighbour is near.

    What is written beyond the last panel is seen where another thread has written before.
    """
    narrow = tuple(f.replace("-march=native", "-march=x86-64-v2") for f in build.FLAGS)
    monkeypatch.setattr(build, "FLAGS", narrow)
    torch.set_num_threads(2)
    alike("lstm", given("dense", 7, 3, 6), 21, input_size=6)


@needs_compiler
@pytest.mark.parametrize("place", ["recurrent", "total", "preactivation"])
@pytest.mark.usefixtures("columns")
def test_columns_split_under_a_clip_or_a_projection_are_eager(place: Any) -> None:
    torch.set_num_threads(2)
    x = given("dense", 6, 3, 4)
    alike("gru-original", x, 5, LoopClip(0.05, "norm", place), input_size=4)
    alike("lstm", x, 21, LoopClip(0.05, "value", place), input_size=4, proj_size=9)
    alike("lstm", x, 21, input_size=4, truncate=2, checkpoint=True)


@needs_compiler
@pytest.mark.usefixtures("columns")
def test_a_nan_stays_in_its_row_where_columns_are_split() -> None:
    torch.set_num_threads(2)
    x = torch.randn(6, 3, 4)
    x[2, 1] = torch.nan
    with torch.no_grad():
        bad = Recurrent("lstm", 4, 40, backend="c")(x)[0].isnan().any(-1)
    assert bad.tolist() == [[False, t >= 2, False] for t in range(6)]


@needs_compiler
@pytest.mark.usefixtures("columns")
@pytest.mark.parametrize("team", [1, 2])
def test_a_team_smaller_than_asked_for_does_all_the_same(
    monkeypatch: pytest.MonkeyPatch, team: int
) -> None:
    found = tools.openmp()
    if found is None:
        pytest.skip("no OpenMP to start threads with")
    size = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: team)
    address = ctypes.cast(size, ctypes.c_void_p).value
    monkeypatch.setattr(call, "openmp", lambda: (*found[:2], address))
    torch.set_num_threads(3)
    alike("lstm", given("packed", 6, 9, 4), 33, input_size=4)


def test_what_is_split_depends_on_sizes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "openmp", lambda: (1, 1, 1))
    monkeypatch.setattr(threads, "cores", lambda: 4)
    torch.set_num_threads(4)

    def chosen(steps: int, batch: int, size: int) -> tuple[int, bool]:
        split = threads.split(Layout((batch,) * steps), size, size, 4)
        return split.threads, split.together

    assert chosen(100, 1, 256) == (4, True)  # rows alone would leave three threads idle
    assert chosen(100, 1, 32) == (1, False)  # a step is not worth the meetings
    assert chosen(1, 1, 1024) == (1, False)
    assert chosen(100, 8, 512) == (4, True)  # every thread would read 4 MB a step
    assert chosen(100, 64, 512) == (4, False)
    assert chosen(100, 8, 128) == (4, False)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    assert chosen(100, 8, 512) == (4, False)
    assert chosen(2, 1, 4) == (1, False)
