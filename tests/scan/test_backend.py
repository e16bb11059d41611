"""The compiled back end beside the suite of all: its functions, caches, refusals and NaNs."""

import ctypes
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from steadygrad.cells import CELLS, Cell, Elman, Gates, PerUnit, Recur, State
from steadygrad.nn import Recurrent
from steadygrad.scan import BackendError, BackendWarning, trace
from steadygrad.scan.backends.c import build, kernel
from steadygrad.scan.backends.c.printer.file import head
from tests.helpers.few import FEW
from tests.helpers.forked import python
from tests.helpers.marks import needs_compiler
from tests.helpers.small_cells import Normed
from tests.helpers.tolerance import assert_as_near, in_double

pytestmark = needs_compiler
ALL: list[Cell] = [*(CELLS[name]() for name in FEW), Elman("relu"), Elman("sigmoid")]


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("STEADYGRAD_BACKEND", raising=False)  # what is tested here is the choice
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Cumulative(Cell):
    """A cell that cannot be printed."""

    name: ClassVar[str] = "cumulative"
    gates: ClassVar[tuple[str, ...]] = ("candidate",)

    def step(self, x: Gates, recur: Recur, state: State, unit: PerUnit) -> State:
        return (torch.tanh(torch.cumsum(x.candidate + recur.candidate(state[0]), -1)),)


def outcome(layer: Recurrent, given: Any, weight_seed: int = 0) -> list[Tensor]:
    output, last = layer(given)
    data = output.data if hasattr(output, "batch_sizes") else output
    values = [data, *(last if isinstance(last, tuple) else (last,))]
    generator = torch.Generator().manual_seed(weight_seed)
    loss = torch.stack(
        [
            (v * torch.randn(v.shape, dtype=torch.float64, generator=generator).to(v.dtype)).sum()
            for v in values
        ]
    ).sum()
    source = given.data if hasattr(given, "batch_sizes") else given
    return [*values, *torch.autograd.grad(loss, [source, *layer.parameters()])]


def test_the_same_threads_give_the_same_bits() -> None:
    torch.set_num_threads(2)
    layer = Recurrent("lstm", 4, 40, backend="c")
    x = torch.randn(30, 8, 4, requires_grad=True)
    torch.testing.assert_close(outcome(layer, x), outcome(layer, x), rtol=0, atol=0)


@pytest.mark.usefixtures("any_backend")
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("cell", [*ALL, Normed()], ids=repr)
def test_what_is_not_finite_shows_in_its_row_from_its_step_on(cell: Cell, value: float) -> None:
    torch.manual_seed(0)
    layer = Recurrent(cell, 2, 20, backend="c")
    x = torch.randn(8, 3, 2)
    clean = layer(x)[0]
    x[3, 1, 0] = value
    output = layer(x)[0]
    torch.testing.assert_close(output[:3], clean[:3], rtol=0, atol=0)
    torch.testing.assert_close(output[:, [0, 2]], clean[:, [0, 2]], rtol=0, atol=0)
    layer.backend = "eager"
    assert_as_near([output], [layer(x)[0]], in_double(lambda net, given: [net(given)[0]], layer, x))
    if value != value:
        assert output[3:, 1].isnan().all()


def printed_function(name: str, x: Tensor, exact: bool = False) -> Tensor:
    """A function of the printed files, of each number."""
    text = head("float", exact) + (
        f"void steadygrad_forward(const float* x, float* y, word n) "
        f"{{ for (word i = 0; i < n; i++) y[i] = r_{name}(x[i]); }}"
    )
    library = build.load(build.Source(text), build.WHOLE)[0]
    y = torch.empty_like(x)
    library.steadygrad_forward(
        ctypes.c_void_p(x.data_ptr()), ctypes.c_void_p(y.data_ptr()), ctypes.c_int64(len(x))
    )
    return y


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid"])
def test_the_vectorised_functions_are_accurate(name: str) -> None:
    x = torch.cat([torch.linspace(-30, 30, 400_001), torch.logspace(-30, 1, 2001)]).float()
    special = torch.tensor([float("nan"), float("inf"), -float("inf"), 0.0, 200.0, -200.0])
    x = torch.cat([x, -x, special])
    y = printed_function(name, x)
    exact = getattr(torch, name)(x.double())
    assert y[-6].isnan()
    rest = torch.ones(len(x), dtype=torch.bool)
    rest[-6] = False
    finite = rest & (exact.abs() <= torch.finfo(torch.float32).max)
    assert (y[rest & ~finite] == torch.inf).all()
    error = (y.double() - exact)[finite].abs()
    scale = exact[finite].abs().clamp_min(torch.finfo(torch.float32).tiny)
    assert (error / scale).max() < 4e-7


@pytest.mark.parametrize(("name", "low"), [("tanh", -1.0), ("sigmoid", 0.0)])
def test_what_saturates_reaches_its_bounds_and_goes_never_beyond(name: str, low: float) -> None:
    anywhere = torch.arange(0, 0x7F800000, 997, dtype=torch.int32)
    where_it_saturates = torch.arange(0x40C00000, 0x41100000, dtype=torch.int32)  # from 6 to 9
    x = torch.cat([anywhere, where_it_saturates]).view(torch.float32)
    for y in (printed_function(name, x), printed_function(name, -x)):
        assert y.min() >= low and y.max() <= 1
    ends = printed_function(name, torch.tensor([-torch.inf, -200.0, 200.0, torch.inf]))
    assert ends.tolist() == [low, low, 1, 1]


def test_exp_fades_through_the_subnormal_numbers_and_overflows_where_it_should() -> None:
    x = torch.linspace(-110, -86, 100_001)
    smallest = 1.4e-45
    assert (printed_function("exp", x).double() - x.double().exp()).abs().max() <= 2 * smallest
    top = printed_function("exp", torch.tensor([88.72, 88.73, 3e38]))
    assert top[0].isfinite() and top[1:].tolist() == [torch.inf] * 2


@pytest.mark.parametrize("name", ["exp", "tanh", "sigmoid", "sin", "cos", "log1p"])
def test_not_a_number_is_that_whatever_its_bits(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0x7F800001, 0x7FFFFFFF, (10_000,), generator=generator)
    both = torch.cat([bits, bits - 0x80000000]).to(torch.int32)
    assert printed_function(name, both.view(torch.float32)).isnan().all()


@pytest.mark.parametrize("name", ["sin", "cos"])
def test_sine_and_cosine_are_accurate_over_the_whole_range(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    # every exponent, random bits below it
    anywhere = torch.randint(0, 0x7F800000, (200_000,), generator=generator, dtype=torch.int32)
    near_zeros = (torch.arange(20_000).double() * torch.pi / 2).float()
    special = torch.tensor([float("nan"), float("inf"), -float("inf")])
    x = torch.cat([torch.linspace(-1e4, 1e4, 200_001), anywhere.view(torch.float32), near_zeros])
    x = torch.cat([x, -x, torch.tensor([0.0, torch.finfo(torch.float32).max]), special])
    y = printed_function(name, x)
    # the C library's, right at any size
    wanted = torch.tensor([getattr(math, name)(v) for v in x[:-3].tolist()], dtype=torch.float64)
    assert y[-3:].isnan().all()
    assert (y[:-3].double() - wanted).abs().max() < 4e-7
    if name == "sin":  # small angles keep their relative accuracy
        small = (x.abs() < 1e-3) & (x.abs() > 1e-30)
        torch.testing.assert_close(y[small], x[small].sin(), rtol=4e-7, atol=0)


def test_log1p_is_accurate_wherever_it_is_defined() -> None:
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 0x7F800000, (200_000,), generator=generator, dtype=torch.int32)
    anywhere = bits.view(torch.float32)
    x = torch.cat([anywhere, -anywhere[anywhere < 1], torch.linspace(-1, 4, 200_001)[1:]])
    special = torch.tensor([float("nan"), -1.5, -float("inf"), -1.0, float("inf")])
    y = printed_function("log1p", torch.cat([x, special]))
    wanted = torch.log1p(x.double())
    normal = wanted.abs() > torch.finfo(torch.float32).tiny
    torch.testing.assert_close(y[:-5][normal].double(), wanted[normal], rtol=4e-7, atol=0)
    assert y[-5:-2].isnan().all() and y[-2:].tolist() == [-float("inf"), float("inf")]


@pytest.mark.parametrize("name", ["sin", "cos", "log1p", "tanh", "exp"])
def test_the_exact_mode_takes_the_systems_functions(name: str) -> None:
    x = torch.linspace(-0.9, 30, 100_001)
    wanted = torch.tensor([getattr(math, name)(v) for v in x.tolist()], dtype=torch.float64)
    exact, fast = printed_function(name, x, exact=True), printed_function(name, x)
    torch.testing.assert_close(exact.double(), wanted, rtol=2.4e-7, atol=0)  # two units
    assert not torch.equal(exact, fast)


def test_what_is_asked_for_by_name_is_done_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 2, 4)
    with pytest.raises(BackendError, match="float32 and float64"):
        Recurrent("lstm", 4, 6, backend="c", dtype=torch.bfloat16)(x.bfloat16())
    with pytest.raises(BackendError, match="unknown back end 'cpp'; there are: auto, eager, c"):
        Recurrent("lstm", 4, 6, backend="cpp")(x)
    monkeypatch.setenv("STEADYGRAD_BACKEND", "nonsense")
    with pytest.raises(BackendError, match="unknown back end 'nonsense'"):
        Recurrent("lstm", 4, 6)(x)


def test_what_cannot_be_printed_runs_uncompiled_with_one_warning_that_names_it() -> None:
    x = torch.randn(3, 2, 4)
    layer = Recurrent(Cumulative(), 4, 6)
    with pytest.warns(BackendWarning, match="Cumulative runs uncompiled.*cumsum") as seen:
        layer(x)
        layer(x)
    assert len(seen) == 1
    layer.backend = "c"
    with pytest.raises(BackendError, match="cumsum"):
        layer(x)


def in_a_fresh_process(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return python("-c", code, env=os.environ | variables)


TRY = """
import torch, warnings
from steadygrad.nn import Recurrent
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    layer = Recurrent("gru", 3, 4)
    for _ in range(2):
        layer(torch.randn(5, 2, 3))[0].sum().backward()
print([str(w.message) for w in seen if "uncompiled" in str(w.message)])
"""


def test_without_a_compiler_one_warning_and_eager(tmp_path: Path) -> None:
    done = in_a_fresh_process(TRY, PATH=str(tmp_path), CC="", STEADYGRAD_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("no C compiler") == 1


@pytest.mark.slow  # three processes build a kernel; test_kernel_cache.py takes one line of C
def test_a_damaged_cache_is_built_again_and_a_read_only_one_is_done_without(
    tmp_path: Path,
) -> None:
    first = in_a_fresh_process(TRY, STEADYGRAD_CACHE=str(tmp_path))
    assert first.stdout == "[]\n", first.stderr
    kept = sorted(tmp_path.iterdir())  # two halves, and what is shared
    for file in kept:
        file.write_bytes(b"no library")
    assert in_a_fresh_process(TRY, STEADYGRAD_CACHE=str(tmp_path)).stdout == "[]\n"
    assert sorted(tmp_path.iterdir()) == kept and len(kept) == 3
    assert all(file.stat().st_size > 1000 for file in kept)
    file = tmp_path / "a file"
    file.touch()  # a folder below a file cannot be made, whoever asks
    assert in_a_fresh_process(TRY, STEADYGRAD_CACHE=str(file / "x")).stdout == "[]\n"


@pytest.mark.slow
def test_ten_processes_build_one_cell_at_once(tmp_path: Path) -> None:
    variables = os.environ | {"STEADYGRAD_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    many = [
        subprocess.Popen([sys.executable, "-c", TRY], env=variables, stdout=subprocess.PIPE)
        for _ in range(10)
    ]
    assert [p.communicate()[0] for p in many] == [b"[]\n"] * 10
    assert len(list(tmp_path.iterdir())) == 3  # two halves, and what is shared


def test_the_exact_mode_changes_the_result_and_is_as_near_as_eager(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = Recurrent("lstm", 4, 30, backend="eager")
    x = torch.randn(20, 3, 4, requires_grad=True)
    wanted, truth = outcome(layer, x), in_double(outcome, layer, x)
    layer.backend = "c"
    fast = outcome(layer, x)
    monkeypatch.setenv("STEADYGRAD_EXACT", "1")
    exact = outcome(layer, x)
    assert not torch.equal(fast[0], exact[0])
    assert_as_near(exact, wanted, truth)


def test_one_file_serves_every_shape() -> None:
    assert kernel.printed(CELLS["lstm"](), torch.float32, False).text.count("steadygrad_forward")
    texts = {kernel.printed(c, torch.float32, False).text for c in ALL}
    # Cells that differ in the form of their matrix alone share a step, and so a kernel.
    assert len(texts) == len({str(trace(c).graph) for c in ALL})


def test_cells_are_printed_alike_in_every_process() -> None:
    # Or each would build what another has cached: the order of a set differs from run to run.
    names = ["clockwork", "lstm-layer-norm", "lstm"]
    code = (
        "import sys, torch; from steadygrad.cells import CELLS; "
        "from steadygrad.scan.backends.c import kernel; "
        "print(*(kernel.printed(CELLS[n](), torch.float32, False).text for n in sys.argv[1:]))"
    )
    there = subprocess.run(  # a new one, as forks of one process have its order
        [sys.executable, "-c", code, *names],
        capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": "1"},
    ).stdout  # fmt: skip
    here = (kernel.printed(CELLS[n](), torch.float32, False).text for n in names)
    assert there == " ".join(here) + "\n"


BROKE = ("exprnn", "scornn")  # whose derivatives at NaN were once other ones


@pytest.mark.usefixtures("any_backend")
@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(n, marks=() if i % 3 == 0 or n in BROKE else pytest.mark.slow)
        for i, n in enumerate(sorted(CELLS))
    ],
)
def test_a_nan_in_the_input_reaches_the_same_gradients(cell: str) -> None:
    # Also where a derivative is that of a sign or a maximum, which torch has 0 at a NaN.
    layer = Recurrent(cell, 3, 8)
    x = torch.randn(5, 3, 3)
    x[2, 1, 0] = torch.nan
    weight = torch.randn(5, 3, 8)  # no NaN comes in from the loss
    found = []
    for backend in ("c", "eager"):
        layer.backend = backend
        torch.manual_seed(1)
        given = x.clone().requires_grad_()
        out = layer(given)[0]
        grads = torch.autograd.grad((out * weight).sum(), [given, *layer.parameters()])
        found.append([t.isnan() for t in (out, *grads)])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)
