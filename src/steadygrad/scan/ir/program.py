"""A traced step: stages of pointwise work, and products in between."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, fx

Values = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Stage:
    """Pointwise work between two products.

    Attributes:
        inputs: Names of the values it reads, each ``(B, H)``.
        outputs: Names of the values it computes, each ``(B, H)``.
        forward: ``(*inputs) -> outputs``.
        prepare: ``(*inputs) -> saved``, the part of the vjp that needs no incoming gradient; it
            holds for any number of rows at once.
        backward: ``(*saved, *grad_outputs) -> grad_inputs``.
        twins: For each input the index of the first input with the same gradient: where a projected
            input and a product are only added, the two share one buffer.
        joint: ``(*inputs) -> (*outputs, *saved)`` as a graph.
        loop: The graph of `backward`.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    forward: Values
    prepare: Values
    backward: Values
    twins: tuple[int, ...]
    joint: fx.Graph
    loop: fx.Graph


@dataclass(frozen=True)
class Product:
    """One matrix product inside the step: ``R[gates] argument + b_hh[gates]``.

    Attributes:
        argument: Name of the value that is multiplied: a state, or an output of a stage.
        gates: Names of the row blocks of ``weight_hh``, in the order of the weight's rows.
        outputs: One value name per gate.
    """

    argument: str
    gates: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """A step as an alternation: stage 0, products 0, stage 1, products 1, ..., last stage.

    Value names: ``x.<gate>``, ``n.<noise>``, ``s.<state>``, ``u.<unit>``, ``k.<constant>``;
    anything else is intermediate.

    Attributes:
        stages: One entry per level; None for a level without pointwise work. The last computes all
            new states.
        products: Products whose arguments level ``i`` completes.
        results: Names of the new states, in the order of `Cell.states`, all different.
        activations: ``gate -> (activation, value name of its argument)``, for gate health.
        graph: The whole step, the source of the above.
    """

    stages: tuple[Stage | None, ...]
    products: tuple[tuple[Product, ...], ...]
    results: tuple[str, ...]
    activations: dict[str, tuple[str, str]]
    graph: fx.Graph
