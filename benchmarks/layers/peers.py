"""One side of a comparison in a process of its own: told what to run, it says how long it took.

    python -m benchmarks.layers.peers ours|torch|onnxruntime|openvino|jax THREADS

Reads lines ``MODE CELL T B I H REPEAT`` (``MODE`` is ``forward`` or ``train``) and answers each
with the processor time and the wall time of a call, in microseconds, or "none" if the side has no
such thing. Processor time counts all threads of this process and nothing of others.
"""

import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

THREADS = int(sys.argv[2]) if len(sys.argv) > 2 else 1
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = str(THREADS)
os.environ["XLA_FLAGS"] = (
    f"--xla_cpu_multi_thread_eigen={'true' if THREADS > 1 else 'false'} "
    f"intra_op_parallelism_threads={THREADS}"
)
Shape = tuple[int, int, int, int]


def _layers(module: Any, mode: str, cell: str, shape: Shape) -> Callable[[], object]:
    """Of ours or torch's: forward without gradient, or with the gradients of all weights and x."""
    import torch

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    steps, batch, inputs, hidden = shape
    layer = getattr(module, cell)(inputs, hidden)
    x = torch.randn(steps, batch, inputs, requires_grad=mode == "train")
    if mode == "train":
        grad = torch.randn(steps, batch, hidden)

        def train() -> None:
            layer.zero_grad(set_to_none=True)
            x.grad = None
            layer(x)[0].backward(grad)

        return train

    return lambda: layer(x)


def ours(mode: str, cell: str, shape: Shape) -> Callable[[], object]:
    import steadygrad as sg

    return _layers(sg, mode, cell, shape)


def torch(mode: str, cell: str, shape: Shape) -> Callable[[], object]:
    from torch import nn

    return _layers(nn, mode, cell, shape)


def _model(cell: str, shape: Shape) -> bytes:
    """Torch's layer as an ONNX model: its own operator, weights as they are."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    steps, batch, inputs, hidden = shape
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[cell]
    rng = np.random.default_rng(0)
    bound = hidden**-0.5

    def weight(name: str, *size: int) -> Any:
        value = rng.uniform(-bound, bound, size).astype(np.float32)
        return numpy_helper.from_array(value, name)

    rows = gates * hidden
    weights = [
        weight("W", 1, rows, inputs), weight("R", 1, rows, hidden), weight("B", 1, 2 * rows)
    ]  # fmt: skip
    extra: Any = {"linear_before_reset": 1} if cell == "GRU" else {}
    node = helper.make_node(cell, ["X", "W", "R", "B"], ["Y", "Y_h"], hidden_size=hidden, **extra)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [steps, batch, inputs])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [steps, 1, batch, hidden]),
         helper.make_tensor_value_info("Y_h", TensorProto.FLOAT, [1, batch, hidden])],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def onnxruntime(mode: str, cell: str, shape: Shape) -> Callable[[], object] | None:
    import numpy as np
    import onnxruntime as runtime

    if mode == "train":
        return None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.inter_op_num_threads = 1
    session = runtime.InferenceSession(
        _model(cell, shape), options, providers=["CPUExecutionProvider"]
    )
    given = {"X": np.random.default_rng(1).standard_normal(shape[:3]).astype(np.float32)}
    return lambda: session.run(None, given)


def openvino(mode: str, cell: str, shape: Shape) -> Callable[[], object] | None:
    import numpy as np
    import openvino as ov  # pyright: ignore[reportMissingImports]

    if mode == "train":
        return None
    core = ov.Core()
    options = {"INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(_model(cell, shape)), "CPU", options)
    request = compiled.create_infer_request()
    x = np.random.default_rng(1).standard_normal(shape[:3]).astype(np.float32)
    return lambda: request.infer([x])


def jax(mode: str, cell: str, shape: Shape) -> Callable[[], object] | None:
    import jax as j  # pyright: ignore[reportMissingImports]
    from jax import numpy as jnp  # pyright: ignore[reportMissingImports]

    if cell != "LSTM":
        return None
    steps, batch, inputs, hidden = shape
    keys = j.random.split(j.random.key(0), 6)
    bound = hidden**-0.5
    w, r, b = (
        j.random.uniform(k, s, minval=-bound, maxval=bound)
        for k, s in zip(
            keys, [(4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,)], strict=False
        )
    )
    x = j.random.normal(keys[4], (steps, batch, inputs))
    grad = j.random.normal(keys[5], (steps, batch, hidden))

    def layer(w: Any, r: Any, b: Any, x: Any) -> Any:
        projected = x @ w.T + b

        def step(state: Any, row: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(row + h @ r.T, 4, axis=-1)
            c = j.nn.sigmoid(f) * c + j.nn.sigmoid(i) * jnp.tanh(g)
            h = j.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((batch, hidden))
        last, hs = j.lax.scan(step, (zero, zero), projected)
        return hs, last

    if mode == "forward":
        run = j.jit(layer)
        return lambda: j.block_until_ready(run(w, r, b, x))
    pull = j.jit(j.grad(lambda *args: (layer(*args)[0] * grad).sum(), argnums=(0, 1, 2, 3)))
    return lambda: j.block_until_ready(pull(w, r, b, x))


SIDES = {f.__name__: f for f in (ours, torch, onnxruntime, openvino, jax)}


def _around(side: str, mode: str) -> AbstractContextManager[object]:
    """Where calls are made: without gradient set once, as a loop that serves a model has it."""
    if mode == "train" or side not in ("ours", "torch"):
        return nullcontext()
    import torch

    return torch.no_grad()


def main() -> None:
    make = SIDES[sys.argv[1]]
    made: dict[tuple[str, ...], Callable[[], object] | None] = {}
    for line in sys.stdin:
        mode, cell, *numbers = line.split()
        steps, batch, inputs, hidden, repeat = map(int, numbers)
        key, warm = tuple(line.split()[:-1]), 1
        if key not in made:
            made[key] = make(mode, cell, (steps, batch, inputs, hidden))
            warm = 5
        run = made[key]
        if run is None:
            print("none", flush=True)
            continue
        with _around(sys.argv[1], mode):
            for _ in range(warm):
                run()
            wall, began = time.perf_counter(), time.process_time()
            for _ in range(repeat):
                run()
            spent, passed = time.process_time() - began, time.perf_counter() - wall
        print(1e6 * spent / repeat, 1e6 * passed / repeat, flush=True)


if __name__ == "__main__":
    main()
