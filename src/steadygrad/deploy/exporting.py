"""Write a model into one file that other run times read, and prove that the file computes it."""

import importlib.util
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import torch
from torch import Tensor, nn

from steadygrad import files
from steadygrad.deploy import onnx_lowering
from steadygrad.deploy.explicit import Explicit, largest_error, no_grad_outputs
from steadygrad.deploy.forecasting import ForecastModel
from steadygrad.deploy.loading import load
from steadygrad.deploy.writing import TextModel
from steadygrad.errors import InputError
from steadygrad.nn import Recurrent
from steadygrad.scan import BackendError

OPSET = 20
TOLERANCE = 1e-5
NEEDED = ("onnx", "onnxscript", "onnxruntime")


@final
@dataclass(frozen=True)
class Port:
    """One input or output of an exported file.

    Attributes:
        name: In the file.
        dtype: Of its elements.
        shape: A number where a size is fixed, a name where it is free.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join(map(str, self.shape))})"


@final
@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        opset: Of an ONNX file; None of a ``.pt2``.
        inputs: In order.
        outputs: In order.
        error: The largest difference between the file's results and the model's, relative to the
            largest value where that is above one.
        checked: Sizes of the inputs that this was measured at.
        nodes: Recurrent operators of the file, and how often each stands there.
    """

    path: Path
    opset: int | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    error: float
    checked: tuple[tuple[int, ...], ...]
    nodes: Mapping[str, int]

    def __str__(self) -> str:
        kind = "torch.export" if self.opset is None else f"ONNX, opset {self.opset}"
        used = ", ".join(f"{n} x {name}" for name, n in self.nodes.items()) or "none"
        sizes = ", ".join(str(s) for s in self.checked)
        return "\n".join(
            [
                f"{self.path} ({kind}; recurrent operators: {used})",
                *(f"  in   {port}" for port in self.inputs),
                *(f"  out  {port}" for port in self.outputs),
                f"  largest error against the model {self.error:.1e}, at inputs {sizes}",
            ]
        )


def export(
    model: nn.Module | ForecastModel | TextModel | str | Path,
    path: str | Path,
    example: Tensor | Sequence[Tensor] | None = None,
    *,
    states: bool = False,
    lengths: bool = False,
    resets: bool = False,
    opset: int = OPSET,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Write a model for another run time, and check the file in that run time before it is there.

    LSTM, GRU and RNN become ONNX's operators of these names, every other cell a Scan whose body is
    made from the cell's own equations. The number of time steps and the size of the batch stay free
    wherever the model allows it; `Exported.inputs` says where. With ``states`` a file takes any
    piece of a sequence, down to one step: what came out of the last call goes into the next.

    Args:
        model: A recurrent layer, of ours or of `torch.nn`; a model with such layers in it; what
            `steadygrad.load` returns; or the folder of a run.
        path: Where to; ``.onnx`` for ONNX, ``.pt2`` for `torch.export` (to be loaded by
            `torch.export.load`, after ``import steadygrad.scan``).
        example: Inputs of the model; of a layer and of a run they are known. Sizes of one become
            fixed, so take at least two time steps and two rows.
        states: Whether the state before the first step is an input and the last one an output.
        lengths: Whether the steps of each row ``(B,)`` are an input; for a layer alone. They are at
            least one; what lies beyond them is ignored, and zero in the output.
        resets: Whether it is an input where segments of the rows begin, bool ``(T, B)`` or
            ``(B, T)``; for a layer alone. ONNX's own operators cannot do that, so every cell
            becomes a Scan then.
        opset: Version of ONNX's operators.
        tolerance: What the check accepts.

    Raises:
        InputError: Packages are missing (``pip install steadygrad[onnx]``), the ending is another
            one, or the model cannot be exported; says why. No file is written then.

    Example::

        sg.deploy.export(sg.LSTM(3, 8), "layer.onnx", states=True)
    """
    path, facts = Path(path), None
    if path.suffix not in (".onnx", ".pt2"):
        raise InputError(f"{path}: expected a name that ends in .onnx or .pt2")
    if path.suffix == ".onnx":
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing:
            raise InputError(
                f"{path}: {', '.join(missing)} is missing; pip install 'steadygrad[onnx]'"
            )
    if isinstance(model, str | Path):
        model = load(model)
    if isinstance(model, ForecastModel | TextModel):
        facts = model.facts
        example = _inputs_of_run(model) if example is None else example
        model = model.module
    explicit = Explicit(model, states, lengths, resets)
    kinds = {p.dtype for p in explicit.parameters()} | {b.dtype for b in explicit.buffers()}
    if any(kind.is_complex or kind == torch.float64 for kind in kinds):
        raise InputError(f"export: expected a model in float32, got {_told(kinds)}; model.float()")
    inputs = _inputs(explicit, example)
    given = [
        *inputs,
        *([torch.tensor([3, 2])] if lengths else []),
        *([_flags(inputs[0])] if resets else []),
        *explicit.start(_rows(explicit, inputs)),
    ]
    program = _program(explicit, given)
    ports = _ports(program, explicit, len(inputs))
    others = [given, _resized(explicit, given, program, len(inputs))]
    expected = [no_grad_outputs(explicit, part) for part in others]
    with TemporaryDirectory(prefix="steadygrad-") as folder:
        draft = Path(folder) / path.name
        if path.suffix == ".pt2":
            torch.export.save(program, draft)
            again = torch.export.load(draft).module()
            found = [no_grad_outputs(again, part) for part in others]
            nodes = {"steadygrad::scan": _calls(program)}
        else:
            about = None if facts is None else json.dumps({"data": facts.data}, default=str)
            nodes = _write_onnx(program, draft, ports, opset, about)
            found = [_in_onnx_runtime(draft, part) for part in others]
        error = max(largest_error(f, e) for f, e in zip(found, expected, strict=True))
        if not error <= tolerance:
            raise InputError(
                f"{path}: the exported model differs from this one by {error:.1e}, more than "
                f"{tolerance:.0e}; not written"
            )
        files.replace(path, draft.read_bytes())
    sizes = tuple(tuple(part[0].shape) for part in others)
    is_onnx = path.suffix == ".onnx"
    return Exported(path, opset if is_onnx else None, *ports, error, sizes, nodes)


def _told(kinds: set[torch.dtype]) -> str:
    return ", ".join(sorted(str(kind).removeprefix("torch.") for kind in kinds))


def _inputs_of_run(model: ForecastModel | TextModel) -> Tensor:
    """Inputs as the model of a run takes them: scaled windows, or codes of symbols."""
    ends = model.facts.ends
    if ends.input_kind == "symbols":
        return torch.arange(6).view(3, 2) % ends.input_size
    steps = getattr(model.spec, "window", 3)
    return torch.randn(int(steps), 2, ends.input_size)


def _inputs(explicit: Explicit, example: Tensor | Sequence[Tensor] | None) -> list[Tensor]:
    if example is not None:
        return [example] if isinstance(example, Tensor) else list(example)
    layer = explicit.model
    if not isinstance(layer, Recurrent):
        raise InputError(
            f"export: {type(layer).__name__} is no recurrent layer; pass example=, a tensor or "
            "several as the model takes them, with at least two time steps and two rows"
        )
    shape = (2, 3) if layer.batch_first else (3, 2)
    return [torch.randn(*shape, layer.input_size)]


def _flags(example: Tensor) -> Tensor:
    """Resets for an example: some, and not the same in all rows."""
    shape = example.shape[:2]
    return (torch.arange(shape.numel()) % 3 == 1).view(shape)


def _rows(explicit: Explicit, inputs: Sequence[Tensor]) -> int:
    """Rows of the batch of the example."""
    layers = [m for m in explicit.modules() if isinstance(m, Recurrent)]
    first = bool(layers) and layers[0].batch_first
    return inputs[0].shape[0 if first or inputs[0].dim() < 2 else 1]


def _program(explicit: Explicit, given: Sequence[Tensor]) -> torch.export.ExportedProgram:
    auto = torch.export.Dim.AUTO
    shapes = tuple({0: auto, 1: auto} if v.dim() > 1 else {0: auto} for v in given)
    count = len(explicit.state_names)
    if count:  # states are (L*D, B, ·)
        shapes = (*shapes[: len(shapes) - count], *({1: auto},) * count)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(explicit, tuple(given), dynamic_shapes={"given": shapes})
    except InputError:
        raise
    except (BackendError, RuntimeError, ValueError, TypeError) as error:
        told = str(error).strip().splitlines()[0]
        name = type(explicit.model).__name__
        raise InputError(f"export: torch.export cannot follow {name}: {told}") from error


def _calls(program: torch.export.ExportedProgram) -> int:
    return sum(n.target == torch.ops.steadygrad.scan.default for n in program.graph.nodes)


def _ports(
    program: torch.export.ExportedProgram, explicit: Explicit, inputs: int
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Inputs and outputs of a program, free sizes named by what they are of the first input."""
    signature = program.graph_signature
    values = {node.name: node.meta["val"] for node in program.graph.nodes if "val" in node.meta}
    names = ["input"] if inputs == 1 else [f"input_{k}" for k in range(inputs)]
    names += ["lengths"] if explicit.has_lengths else []
    names += ["resets"] if explicit.has_resets else []
    names += [f"{name}_0" for name in explicit.state_names]
    own = [values[name] for name in signature.user_inputs]
    layers = [m for m in explicit.modules() if isinstance(m, Recurrent)]
    is_first = bool(layers) and layers[0].batch_first
    called: dict[str, str] = {}
    for size, word in zip(own[0].shape, ("batch", "time") if is_first else ("time", "batch")):  # noqa: B905
        if type(size) is not int:
            called[str(size)] = word

    def shape(value: Tensor) -> tuple[int | str, ...]:
        return tuple(n if type(n) is int else called.get(str(n), str(n)) for n in value.shape)

    def port(name: str, value: Tensor) -> Port:
        return Port(name, str(value.dtype).removeprefix("torch."), shape(value))

    ends = [values[name] for name in signature.user_outputs]
    others = len(ends) - len(explicit.state_names)
    results = ["output"] if others == 1 else [f"output_{k}" for k in range(others)]
    results += [f"{name}_n" for name in explicit.state_names]
    return (
        tuple(port(n, v) for n, v in zip(names, own, strict=True)),
        tuple(port(n, v) for n, v in zip(results, ends, strict=True)),
    )


def _resized(
    explicit: Explicit,
    given: Sequence[Tensor],
    program: torch.export.ExportedProgram,
    inputs: int,
) -> list[Tensor]:
    """Inputs of other sizes wherever the program leaves them free, with values that matter."""
    values = {n.name: n.meta["val"] for n in program.graph.nodes if "val" in n.meta}
    own = [values[name] for name in program.graph_signature.user_inputs]
    sizes: dict[str, int] = {}
    found: list[Tensor] = []
    for value, like in zip(given, own, strict=True):
        shape: list[int] = []
        for old, size in zip(value.shape, like.shape, strict=True):
            if type(size) is not int:
                old = sizes.setdefault(str(size), old + 2 + len(sizes))
            shape.append(int(old))
        if value.is_floating_point():
            found.append(torch.randn(shape))
        else:  # codes, or lengths: such values as were there
            flat = value.flatten()
            count = max(1, torch.Size(shape).numel())
            found.append(flat.repeat(-(-count // len(flat)))[:count].view(shape))
    return found


def _write_onnx(
    program: torch.export.ExportedProgram,
    path: Path,
    ports: tuple[tuple[Port, ...], tuple[Port, ...]],
    opset: int,
    about: str | None,
) -> dict[str, int]:
    """Write the file; return its recurrent operators."""
    from steadygrad.deploy import onnx_scan

    chatty = logging.getLogger("torch.onnx")  # of operators of packages that are not installed
    level = chatty.level
    chatty.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lowered = program.run_decompositions(onnx_lowering.table(opset))
            made: Any = torch.onnx.export(
                lowered,
                input_names=[port.name for port in ports[0]],
                output_names=[port.name for port in ports[1]],
                opset_version=opset,
                optimize=True,
                verbose=False,
            )
            onnx_scan.fill(made.model, opset)
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
        cause = error.__cause__ or error
        told = str(cause).strip().splitlines()[0]
        raise InputError(f"{path.name}: cannot be written as ONNX: {told}") from error
    finally:
        chatty.setLevel(level)
    _name_sizes(made.model, ports)
    if about is not None:
        made.model.metadata_props["steadygrad"] = about
    made.save(path)
    kinds = ("LSTM", "GRU", "RNN", "Scan")
    found = [node.op_type for node in made.model.graph]
    return {kind: found.count(kind) for kind in kinds if kind in found}


def _name_sizes(model: Any, ports: tuple[tuple[Port, ...], tuple[Port, ...]]) -> None:
    """Call free sizes as `Port` does: what the exporter calls them says nothing."""
    for values, own in zip((model.graph.inputs, model.graph.outputs), ports, strict=True):
        for value, port in zip(values, own, strict=True):
            value.shape = type(value.shape)(port.shape)


def _in_onnx_runtime(path: Path, given: Sequence[Tensor]) -> list[Tensor]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_inputs()]
        fed = {n: v.detach().numpy() for n, v in zip(names, given, strict=True)}
        return [torch.as_tensor(value) for value in session.run(None, fed)]
    except Exception as error:  # its errors share no base class
        told = str(error).strip().splitlines()[0]
        raise InputError(f"{path.name}: ONNX Runtime refuses the file: {told}") from error
