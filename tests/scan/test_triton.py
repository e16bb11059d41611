"""The Triton back end beside the suite of all, in Triton's interpreter on the CPU.

The interpreter runs the threads of a program as one, and so shows no race between them: that phases
are kept apart by barriers is tested on the printed text.
"""

import json
import re
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from steadygrad.cells import CELLS, Cell
from steadygrad.nn import Recurrent
from steadygrad.scan import BACKENDS, BackendError, Layout, LoopClip, ScanCall, Tap
from steadygrad.scan.backends.triton import environment, trial
from steadygrad.scan.backends.triton.backend import Triton
from steadygrad.scan.backends.triton.form import Form
from steadygrad.scan.backends.triton.form import form_of as form_of_call
from steadygrad.scan.backends.triton.module import constants, printed_of
from steadygrad.scan.backends.triton.printer.operations import LINES, REDUCED
from steadygrad.scan.backends.triton.tiles import CANDIDATES
from steadygrad.scan.ir.operations import POINTWISE, REDUCTIONS
from tests.helpers.marks import needs_triton
from tests.helpers.small_cells import GROUPS, ODD, Normed, Truncated
from tests.helpers.tolerance import assert_as_near, in_double
from tests.scan.test_backend import Cumulative
from tests.scan.test_compiler import inputs, outcome

pytestmark = needs_triton

I, H = 4, 5
TAPPED = ("log10_norm", "log10_gate", "nonfinite", "present")
CLIPS = [
    LoopClip(0.1, by, place)  # type: ignore[arg-type]
    for by in ("value", "norm")
    for place in ("recurrent", "total", "preactivation")
]
EVERY: list[Cell] = [*(kind() for kind in CELLS.values()), *ODD, *GROUPS, Normed()]
SOME = (CELLS["lstm"](), CELLS["gru-original"](), Truncated(), Normed())


@pytest.fixture(autouse=True)
def nothing_asked_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEADYGRAD_BACKEND", raising=False)


def form_of(cell: Cell, **changes: Any) -> Form:
    noise = (True,) * len(cell.noise)
    form = Form(cell, 24, 24, torch.float32, False, True, False, False, False, noise, True)
    return replace(form, **changes)


def compare(layer: Recurrent, x: Any, tapped: bool) -> list[Tap]:
    """Check values, gradients and taps; return both taps."""
    found, taps = [], []
    for name in ("eager", "triton"):
        layer.backend = name
        layer.on_tap = (lambda _, __, tap, into=taps: into.append(tap)) if tapped else None
        found.append(outcome(layer, x))
    layer.on_tap = None
    exact = in_double(outcome, layer, x)
    assert_as_near(found[1], found[0], exact)
    return taps


def test_every_operation_of_a_step_has_an_expression_and_every_expression_an_operation() -> None:
    assert set(POINTWISE.values()) == set(LINES)
    assert set(REDUCTIONS.values()) == set(REDUCED)


@pytest.mark.parametrize("cell", [CELLS["gru-original"](), Truncated()], ids=repr)
def test_values_and_gradients_are_those_of_eager(cell: Cell) -> None:
    layer = Recurrent(cell, I, H, bidirectional=True, dtype=torch.float64)
    compare(layer, inputs("packed"), tapped=True)


@pytest.mark.slow  # traced by torch's tracer, which takes its time
@pytest.mark.parametrize("cell", GROUPS, ids=lambda c: str(c)[:40])
def test_every_operation_has_the_values_and_gradients_of_eager(cell: Cell) -> None:
    layer = Recurrent(cell, I, H, dtype=torch.float64)
    compare(layer, torch.randn(2, 3, I, dtype=torch.float64, requires_grad=True), tapped=False)


def test_several_tiles_of_rows_and_blocks_of_units_with_a_ragged_end() -> None:
    layer = Recurrent("lstm", I, 133)
    compare(layer, torch.randn(2, 67, I, requires_grad=True), tapped=False)


@pytest.mark.parametrize("clip", CLIPS, ids=repr)
def test_clips_and_taps_are_those_of_eager(clip: LoopClip) -> None:
    layer = Recurrent("elman", I, H, dtype=torch.float64)
    layer.loop_clip = clip
    ours, theirs = reversed(compare(layer, inputs("packed"), tapped=True))
    for what in TAPPED:
        torch.testing.assert_close(getattr(ours, what), getattr(theirs, what))


def test_a_gradient_far_below_its_dtype_is_followed() -> None:
    layer = Recurrent("elman", I, H)
    for parameter in layer.parameters():
        parameter.data *= 0.01
    taps: list[Tap] = []
    layer.on_tap = lambda _, __, tap: taps.append(tap)
    x = torch.randn(22, 2, I)
    for layer.backend in ("eager", "triton"):
        layer(x)[0][-1].sum().backward()
    far = taps[0].log10_norm[0, 0]
    assert (far < -45).all() and far.isfinite().all()
    for what in ("log10_norm", "log10_gate"):
        torch.testing.assert_close(
            getattr(taps[1], what), getattr(taps[0], what), rtol=1e-5, atol=1e-4
        )


def test_a_large_gradient_is_clipped_by_its_norm() -> None:
    # The squares of what is above 1e19 are infinite in float32.
    layer = Recurrent("elman", I, H, backend="triton")
    layer.loop_clip = LoopClip(1.0, "norm", "total")
    x = torch.randn(3, 2, I, requires_grad=True)

    def clipped(net: Any, given: Any) -> list[torch.Tensor]:
        return list(torch.autograd.grad((net(given)[0] * 1e25).sum(), given))

    (ours,), (exact,) = clipped(layer, x), in_double(clipped, layer, x)
    torch.testing.assert_close(ours.double(), exact, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cell", [CELLS["gru"](), Normed()], ids=repr)
def test_what_is_not_finite_shows_in_its_row_from_its_step_on(cell: Cell) -> None:
    layer = Recurrent(cell, I, H, backend="triton")
    x = torch.randn(4, 3, I)
    clean = layer(x)[0]
    x[2, 1, 0] = torch.nan
    weight = torch.randn(4, 3, H)
    found = []
    for layer.backend in ("triton", "eager"):
        given = x.clone().requires_grad_()
        out = layer(given)[0]
        grads = torch.autograd.grad((out * weight).sum(), [given, *layer.parameters()])
        found.append([t.isnan() for t in (out, *grads)])
        torch.testing.assert_close(out[:2], clean[:2])
        assert out[2:, 1].isnan().all() and not out[:, [0, 2]].isnan().any()
    assert all(map(torch.equal, *found))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_as_near_as_eager(dtype: torch.dtype) -> None:
    layer = Recurrent("lstm", I, H, dtype=dtype)
    compare(layer, torch.randn(3, 3, I, dtype=dtype, requires_grad=True), tapped=False)


@pytest.mark.slow  # traced by torch's tracer
def test_what_cannot_be_printed_is_refused_in_a_line() -> None:
    with pytest.raises(BackendError, match=r"cumsum.*cannot be printed as a Triton kernel"):
        Recurrent(Cumulative(), I, H, backend="triton")(torch.randn(2, 2, I))


def test_without_the_interpreter_a_tensor_of_the_cpu_is_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(environment, "is_interpreted", lambda: False)
    with pytest.raises(BackendError, match="Elman here: it runs on CUDA devices, the input is on"):
        Recurrent("elman", I, H, backend="triton")(torch.randn(2, 2, I))
    monkeypatch.setattr(environment, "is_installed", lambda: False)
    with pytest.raises(BackendError, match="Triton is not installed"):
        Recurrent("elman", I, H, backend="triton")(torch.randn(2, 2, I))


def test_auto_leaves_tensors_of_the_cpu_to_others() -> None:
    layer = Recurrent("elman", I, H)
    state = (torch.zeros(2, H),)
    call = ScanCall(layer.cell, torch.zeros(2, I), layer.weights(0), state, Layout.dense(1, 2))
    assert not BACKENDS["triton"].suits(call) and BACKENDS["triton"].refuses(call) is None


def test_kernels_that_differ_from_eager_on_a_device_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, here = BACKENDS["triton"], torch.device("cpu")
    assert isinstance(ours, Triton)
    changes: dict[str, Any] = {"packed": True, "resets": True, "size": H, "width": H}
    form = form_of(CELLS["elman"](), **changes)
    back = replace(form, bias=False, tap=True)
    assert trial.disagreement(ours, form, back, here) is None
    wrong = {"tanh_backward": lambda g, y: f"{g} * {y}"}
    monkeypatch.setattr("steadygrad.scan.backends.triton.printer.graph.LINES", LINES | wrong)
    trial.disagreement.cache_clear()
    printed_of.cache_clear()
    found = trial.disagreement(ours, form, back, here)
    printed_of.cache_clear()
    trial.disagreement.cache_clear()
    assert found and "differ from eager's gradient of bias_hh" in found
    monkeypatch.setattr("steadygrad.scan.backends.triton.forward.run", lambda *_: 1 // 0)
    found = trial.disagreement(ours, form, back, here)
    trial.disagreement.cache_clear()
    assert found and found.startswith("its kernels do not run on cpu: ZeroDivisionError: ")


def test_products_are_ieee_unless_torch_is_told_otherwise() -> None:
    layer = Recurrent("elman", I, H)
    weights, layout = layer.weights(0), Layout.dense(1, 2)
    call = ScanCall(layer.cell, torch.zeros(2, I), weights, (torch.zeros(2, H),), layout)
    found = []
    before = torch.get_float32_matmul_precision()
    try:
        for setting in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(setting)
            form = form_of_call(call, True)
            found.append(constants(form, CANDIDATES[0])["PRECISION"])
    finally:
        torch.set_float32_matmul_precision(before)
    assert found == ["ieee", "tf32x3", "tf32"]


def phases(text: str) -> list[list[str]]:
    """The lines of each phase of the loop over steps."""
    body = text.split("for step in range(T):")[1]
    return [part.splitlines() for part in body.split("barrier()")]


@pytest.mark.parametrize(
    "cell",
    [pytest.param(c, id=str(c)[:40], marks=() if c in SOME else pytest.mark.slow) for c in EVERY],
)
def test_no_phase_reads_what_it_writes(cell: Cell) -> None:
    # Between barriers threads run in any order.
    changes: list[dict[str, Any]] = [
        {},
        {"keep": False},
        {"tap": True, "resets": True, "packed": True},
    ]
    changes += [{"clip": (clip.place, clip.by), "resets": True} for clip in CLIPS]
    for change in changes:
        form = form_of(cell, **change)
        for name in ("forward", "backward"):
            if name == "backward" and not form.keep:
                continue
            for lines in phases(printed_of(form, name).text):
                whole = "\n".join(lines)
                reads = set(re.findall(r"tl\.load\((.+?) \+ [uk]\b", whole))
                reads |= set(re.findall(r"row_\w+\((.+?), live", whole))
                writes = set(re.findall(r"tl\.store\((.+?) \+ u\b", whole))
                assert not reads & writes, (change, name, reads & writes)


@pytest.mark.slow
@pytest.mark.parametrize("cell", EVERY, ids=lambda c: str(c)[:40])
def test_every_cell_has_the_values_gradients_and_taps_of_eager(cell: Cell) -> None:
    for dtype in (torch.float64, torch.float32):
        layer = Recurrent(cell, I, H, bidirectional=True, dtype=dtype)
        taps = compare(layer, inputs("packed", dtype), tapped=True)
        for ours, theirs in zip(taps[2:], taps[:2], strict=True):
            for what in TAPPED if dtype == torch.float64 else ():
                torch.testing.assert_close(getattr(ours, what), getattr(theirs, what))


@pytest.mark.slow
@pytest.mark.parametrize("cell", [*ODD, Normed()], ids=repr)
def test_every_odd_cell_is_clipped_as_by_eager(cell: Cell) -> None:
    for clip in CLIPS:
        layer = Recurrent(cell, I, H, dtype=torch.float64)
        layer.loop_clip = clip
        ours, theirs = reversed(compare(layer, inputs("packed"), tapped=True))
        for what in TAPPED:
            torch.testing.assert_close(getattr(ours, what), getattr(theirs, what))


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["lstm:128:float32", "gru-original:100:float32", "lstm:64:bfloat16"]
)
def test_kernels_compile_for_devices_without_spilling(case: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.triton_resources", "--json", case],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(r["sm"], r["kernel"]) for r in rows] == [
        (sm, name) for sm in (80, 90) for name in ("forward", "backward")
    ]
    name, size, dtype = case.split(":")
    form = form_of(CELLS[name](), size=int(size), width=int(size), dtype=getattr(torch, dtype))
    for row in rows:
        assert row["spill"] == 0 and row["registers"] <= 255 and row["shared"] <= 48 * 1024
        # ieee float32 uses no tensor cores; what does not round to 10 bits has to be asked for
        assert (row["mma"] == 0) == (dtype == "float32")
        assert row["bar"] >= printed_of(form, row["kernel"]).text.count("barrier()")
