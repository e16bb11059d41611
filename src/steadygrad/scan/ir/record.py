"""A stage and its gradient recorded by running them, where they need no tracer of torch's.

`torch.fx.experimental.proxy_tensor.make_fx` traces with symbols for sizes, for which it loads
Dynamo, Inductor and a computer algebra system: seconds of a process that may live no longer. Here a
function runs twice on zeros of unlike sizes, and each operation below autograd is written down.
What is the same in both is a number; what is the number of rows or of units in both is that size.
Anything else is left to torch's tracer.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, final

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode

from steadygrad.scan.ir.step_graph import PLAIN

aten = torch.ops.aten
OTHER = (11, 13)
"""Rows and units of the second run: unlike 0, 1, each other and those of the first."""


class NotSimple(Exception):
    """A function does what is not recorded here; the message says what."""


@final
class _Recorder(TorchDispatchMode):
    """Writes down every operation that runs, and hands it on."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self._made: dict[int, tuple[fx.Node, Tensor]] = {}  # by id; the tensor keeps it its own

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the other answer imports Dynamo

    def placeholder(self, name: str, value: Tensor) -> None:
        self._made[id(value)] = self.graph.placeholder(name), value

    def node(self, value: Any) -> fx.Node:
        found = self._made.get(id(value))
        if found is None:
            raise NotSimple("a tensor that is no argument")
        return found[0]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise NotSimple(f"{func} draws random numbers")
        given, named = self._mapped(args), self._mapped(kwargs or {})
        made = func(*args, **(kwargs or {}))
        if func._schema.is_mutable:
            func = self._not_in_place(func, args[0])  # `made` is args[0]: its value is a new node
        name = func._schema.name.partition("::")[2]
        node = self.graph.create_node("call_function", func, given, named, name=name)
        if isinstance(made, Tensor):
            self._made[id(made)] = node, made
        elif isinstance(made, tuple | list):
            for i, part in enumerate(made):
                if isinstance(part, Tensor):
                    self._made[id(part)] = self.graph.call_function(_item, (node, i)), part
        else:
            raise NotSimple(f"{func} reads a value")
        return made

    def _not_in_place(self, func: Any, target: Tensor) -> Any:
        """The operation that makes what one like ``masked_fill_`` writes."""
        name, written = func._schema.name.partition("::")[2], func._schema.arguments[0].alias_info
        others = [a for a in func._schema.arguments[1:] if a.alias_info and a.alias_info.is_write]
        own = target.untyped_storage().data_ptr()
        sharing = sum(t.untyped_storage().data_ptr() == own for _, t in self._made.values())
        pure = getattr(getattr(aten, name.removesuffix("_"), None), func._overloadname, None)
        is_own = self.node(target).op != "placeholder" and sharing == 1
        if pure is None or not (written and written.is_write) or others or not is_own:
            raise NotSimple(f"{func} writes into a tensor")
        return pure

    def _mapped(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.node(value)
        if isinstance(value, tuple | list):
            return type(value)(map(self._mapped, value))
        if isinstance(value, dict):
            return {key: self._mapped(v) for key, v in value.items()}
        return value


def _item(values: Any, index: int) -> Any:
    return values[index]


def record(
    forward: Callable[..., tuple[Tensor, ...]], num_inputs: int, num_outputs: int
) -> fx.Graph:
    """``(*inputs, *grad_outputs) -> (*outputs, *grad_inputs)`` in torch's own operations.

    Raises:
        NotSimple: The function writes into a tensor, reads one that is no argument, or does with a
            size what is neither a number of rows nor of units.
    """
    try:
        first, second = (_run(forward, num_inputs, num_outputs, shape) for shape in (PLAIN, OTHER))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        # As of a leaf that is written into. What is wrong with the step itself, the tracer says.
        raise NotSimple(str(error)) from None
    return _joined(first, second)


def _run(
    forward: Callable[..., tuple[Tensor, ...]],
    num_inputs: int,
    num_outputs: int,
    shape: tuple[int, int],
) -> fx.Graph:
    given = [torch.zeros(shape, dtype=torch.float64, requires_grad=True) for _ in range(num_inputs)]
    incoming = [torch.zeros(shape, dtype=torch.float64) for _ in range(num_outputs)]
    recorder = _Recorder()
    for i, value in enumerate([*given, *incoming]):
        recorder.placeholder(f"arg{i}_1", value)
    with torch.enable_grad(), recorder:
        outputs = forward(*given)
        live = [(o, g) for o, g in zip(outputs, incoming, strict=True) if o.requires_grad]
        found = _gradient([o for o, _ in live], [g for _, g in live], given)
        grads = [torch.zeros_like(v) if g is None else g for v, g in zip(given, found, strict=True)]
    recorder.graph.output(tuple(map(recorder.node, [*outputs, *grads])))
    for node in list(recorder.graph.nodes):
        if node.target is aten.detach.default:  # as autograd keeps what it reads: the same values
            node.replace_all_uses_with(node.args[0], lambda user: user.op != "output")
    recorder.graph.eliminate_dead_code()
    return recorder.graph


def _gradient(
    outputs: list[Tensor], grads: list[Tensor], inputs: list[Tensor]
) -> Iterable[Tensor | None]:
    """`torch.autograd.grad`, which imports a computer algebra system to look at given gradients."""
    if not outputs:
        return (None,) * len(inputs)
    # A graph is kept of the gradient too (the second True), or torch would add up in place.
    engine: Any = torch.autograd.Variable._execution_engine  # pyright: ignore
    return engine.run_backward(
        tuple(outputs), tuple(grads), True, True, tuple(inputs), True, accumulate_grad=False
    )


def _joined(first: fx.Graph, second: fx.Graph) -> fx.Graph:
    """One graph of two of unlike sizes."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    sizes: dict[int, fx.Node] = {}
    pairs = list(_pairs(first.nodes, second.nodes))
    twins = dict(pairs)
    like: fx.Node | None = None

    def size(axis: int) -> fx.Node:
        assert like is not None
        if axis not in sizes:
            sizes[axis] = graph.call_function(aten.sym_size.int, (like, axis))
        return sizes[axis]

    def join(a: Any, b: Any) -> Any:
        if isinstance(a, fx.Node):
            if twins.get(a) is not b:
                raise NotSimple("an operation that depends on sizes")
            return copies[a]
        if type(a) is not type(b):
            raise NotSimple("an argument that depends on sizes")
        if isinstance(a, tuple | list):
            return type(a)(join(x, y) for x, y in _pairs(a, b))
        if a == b:
            return a
        for axis in range(2):
            if (a, b) == (PLAIN[axis], OTHER[axis]):
                return size(axis)
        raise NotSimple(f"a number that depends on sizes, {a!r}")

    for a, b in pairs:
        if a.op != b.op or (a.op == "call_function" and a.target is not b.target):
            raise NotSimple("operations that depend on sizes")
        if a.op == "placeholder":
            copies[a] = graph.placeholder(str(a.target))
            like = like or copies[a]
            continue
        args = join(a.args, b.args)
        if a.op == "output":
            graph.output(args[0])
            break
        if a.kwargs.keys() != b.kwargs.keys():
            raise NotSimple("arguments that depend on sizes")
        named = {name: join(value, b.kwargs[name]) for name, value in a.kwargs.items()}
        copies[a] = graph.create_node("call_function", a.target, args, named, name=a.name)
    graph.lint()
    return graph


def _pairs(a: Iterable[Any], b: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    try:
        yield from zip(a, b, strict=True)
    except ValueError:
        raise NotSimple("a number of operations that depends on sizes") from None
