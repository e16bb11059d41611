"""The network of 1997: blocks of memory cells in a fully connected hidden layer, learnt online."""

import ctypes
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from steadygrad.scan.backends.c.build import compiler

SOURCE = Path(__file__).with_name("online.c")
MOST = 64
Field = NDArray[np.float64]


@lru_cache(maxsize=1)
def online() -> Any:
    """The loop of ``online.c``, compiled: a sequence takes some 30 microseconds.

    Raises:
        SystemExit: There is no C compiler.
    """
    found = compiler()
    if found is None:
        raise SystemExit("no C compiler (cc, gcc or clang) on the PATH, and none in $CC")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "online.so"
        flags = ["-O2", "-march=native", "-ftree-vectorize", "-fPIC", "-shared"]
        subprocess.run([*found, *flags, "-o", library, SOURCE, "-lm"], check=True)
        function = ctypes.CDLL(str(library)).online
    function.restype = ctypes.c_long
    return function


@dataclass(frozen=True)
class Shape:
    """What a network looks like.

    Args:
        inputs, outputs: Features.
        blocks: Blocks of memory cells, which share an input and an output gate.
        size: Cells in a block.
        linear: Output units answer with their net input, not with its logistic.
    """

    inputs: int
    outputs: int
    blocks: int
    size: int
    linear: bool = False

    def __post_init__(self) -> None:
        if self.sees > MOST or self.units >= MOST or self.outputs > MOST:
            raise ValueError(f"{self}: a unit sees {self.sees}, expected at most {MOST}")

    @property
    def units(self) -> int:
        """Memory cells."""
        return self.blocks * self.size

    @property
    def sees(self) -> int:
        """What a unit of the hidden layer sees: inputs, cells, both kinds of gates, a one."""
        return self.inputs + self.units + 2 * self.blocks + 1

    @property
    def weights(self) -> int:
        """Weights, those of the biases included."""
        return (2 * self.blocks + self.units) * self.sees + self.outputs * (self.units + 1)


@final
class Network:
    """Weights, row after row: input gates, output gates, cells, output units.

    Args:
        shape: What it looks like.
        bound: All weights start in U(-bound, bound),
        input_bias: but the biases of the input gates, one a block.
        source: What is drawn from.
    """

    def __init__(
        self, shape: Shape, bound: float, input_bias: Sequence[float], source: np.random.Generator
    ) -> None:
        self.shape, self.streak = shape, ctypes.c_long(0)
        self.weights = source.uniform(-bound, bound, shape.weights)
        gates = self.weights[: shape.blocks * shape.sees].reshape(shape.blocks, shape.sees)
        gates[:, -1] = input_bias

    def learn(
        self,
        sequences: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
        rate: float,
        tolerance: float,
        window: int = 2**31,
    ) -> Field:
        """Take one step after each sequence, and stop where ``window`` in a row were right.

        Args:
            sequences: Inputs ``(T, inputs)`` and target ``(outputs,)``.
            rate: Step size; 0 only answers.
            tolerance: From where an output unit is wrong.
            window: Right answers in a row, counted on from call to call.

        Returns:
            What the output units were off by, one row for each sequence that was seen.
        """
        x = np.concatenate([inputs.ravel() for inputs, _ in sequences]).astype(np.float32)
        targets = np.concatenate([target for _, target in sequences]).astype(np.float32)
        lengths = np.array([len(inputs) for inputs, _ in sequences], ctypes.c_long)
        shape = self.shape
        errors = np.zeros((len(sequences), shape.outputs))
        sizes = (shape.inputs, shape.outputs, shape.blocks, shape.size, int(shape.linear))
        seen = online()(
            ctypes.c_long(len(sequences)), _at(lengths), _at(x), _at(targets),
            *map(ctypes.c_long, sizes), ctypes.c_double(rate), ctypes.c_double(tolerance),
            ctypes.c_long(window), ctypes.byref(self.streak), _at(self.weights), _at(errors),
        )  # fmt: skip
        return errors[:seen]


def _at(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
