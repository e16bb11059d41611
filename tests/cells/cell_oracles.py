"""Second formulations of the cells, from the papers, in numpy: one sequence, plain loops.

They share no code and no layout with the library: weights come as one matrix per gate, states are
vectors, and every equation is written out as the named paper has it. Where torch has the layer, it
is the oracle.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from steadygrad.nn import Recurrent

Array = NDArray[np.float64]
Loop = Callable[["Net", Array], Iterator[Array]]


def sig(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


@dataclass
class Net:
    """One layer's weights, a matrix per gate; biases of both kinds; per-unit parameters."""

    W: dict[str, Array]
    R: dict[str, Array]
    bx: dict[str, Array]
    bh: dict[str, Array]
    unit: dict[str, Array]
    size: int

    def a(self, gate: str, x: Array, h: Array) -> Array:
        """Net input of a gate that sees x and h, both biases added."""
        return self.W[gate] @ x + self.R[gate] @ h + self.bx[gate] + self.bh[gate]

    @property
    def zero(self) -> Array:
        return np.zeros(self.size)


def read(layer: Recurrent, gates: str, recurrent: str | None = None) -> Net:
    """Cut the layer's weights, whose rows are stacked in the order given here."""
    values = {n.removesuffix("_l0"): p.detach().numpy() for n, p in layer.named_parameters()}
    size = layer.hidden_size

    def cut(stacked: Array, names: str) -> dict[str, Array]:
        rows = {g: stacked[i * size : (i + 1) * size] for i, g in enumerate(names.split())}
        assert len(stacked) == size * len(rows)
        return rows

    recurrent = gates if recurrent is None else recurrent
    none = {"weight_hh": np.zeros((0, size)), "bias_hh": np.zeros(0)}  # a cell without products
    values = values if recurrent else none | values
    unit = {n: v for n, v in values.items() if not n.startswith(("weight", "bias"))}
    return Net(
        cut(values["weight_ih"], gates),
        cut(values["weight_hh"], recurrent),
        cut(values["bias_ih"], gates),
        cut(values["bias_hh"], recurrent),
        unit,
        size,
    )


def outputs(
    layer: Recurrent, x: Tensor, gates: str, loop: Loop, recurrent: str | None = None
) -> Tensor:
    """Run a loop over every sequence of ``x (T, B, I)``."""
    net = read(layer, gates, recurrent)
    rows = [np.stack(list(loop(net, x[:, b].numpy()))) for b in range(x.shape[1])]
    return torch.from_numpy(np.stack(rows, 1))


LSTM_GATES = "input forget candidate output"
GRU_GATES = "reset update candidate"


def elman(phi: Callable[[Array], Array]) -> Loop:
    """Elman 1990; Pascanu et al. 2013, section 2."""

    def loop(net: Net, xs: Array) -> Iterator[Array]:
        h = net.zero
        for x in xs:
            h = phi(net.a("candidate", x, h))
            yield h

    return loop


def lstm_1997(net: Net, xs: Array) -> Iterator[Array]:
    """Hochreiter and Schmidhuber 1997, appendix A.1, with g in [-2, 2] and h in [-1, 1]."""
    y, s = net.zero, net.zero
    for x in xs:
        y_in, y_out = sig(net.a("input", x, y)), sig(net.a("output", x, y))
        net_c = net.a("candidate", x, y)
        s = s + y_in * (4 / (1 + np.exp(-net_c)) - 2)
        y = y_out * (2 / (1 + np.exp(-s)) - 1)
        yield y


def graves(variant: str = "vanilla") -> Loop:
    """Graves 2013, equations 7 to 11, and the changes of Greff et al. 2017, section 3."""

    def loop(net: Net, xs: Array) -> Iterator[Array]:
        h, c = net.zero, net.zero
        i = f = o = net.zero
        for x in xs:
            old = {"input": i, "forget": f, "output": o}

            def gate(
                name: str, memory: Array, x: Array = x, h: Array = h, old: dict[str, Array] = old
            ) -> Array:
                a = net.a(name, x, h)
                if variant != "NP":
                    a = a + net.unit[f"peephole_{name}"] * memory
                if variant == "FGR":
                    for source, value in old.items():
                        key = f"{name}_from_{source}"
                        a = a + net.R[key] @ value + net.bh[key]
                return sig(a)

            one = np.ones(net.size)
            i = one if variant == "NIG" else gate("input", c)
            f = one if variant == "NFG" else (one - i if variant == "CIFG" else gate("forget", c))
            z = net.a("candidate", x, h)
            c = f * c + i * (z if variant == "NIAF" else np.tanh(z))
            o = one if variant == "NOG" else gate("output", c)
            h = o * (c if variant == "NOAF" else np.tanh(c))
            yield h

    return loop


def greff_blocks(variant: str) -> tuple[str, str]:
    """Blocks of W and of R of a variant."""
    without = {"NIG": "input", "NFG": "forget", "NOG": "output", "CIFG": "forget"}.get(variant)
    gates = " ".join(g for g in LSTM_GATES.split() if g != without)
    guards = ("input", "forget", "output")
    more = "".join(f" {a}_from_{b}" for a in guards for b in guards) if variant == "FGR" else ""
    return gates, gates + more


def coupled(net: Net, xs: Array) -> Iterator[Array]:
    """Greff et al. 2017, section 3: CIFG, here without peepholes."""
    h, c = net.zero, net.zero
    for x in xs:
        i = sig(net.a("input", x, h))
        c = c + i * (np.tanh(net.a("candidate", x, h)) - c)
        h = sig(net.a("output", x, h)) * np.tanh(c)
        yield h


def zoneout_lstm(keep_c: float, keep_h: float) -> Loop:
    """Krueger et al. 2016: at test time the expectation of both masks."""

    def loop(net: Net, xs: Array) -> Iterator[Array]:
        h, c = net.zero, net.zero
        for x in xs:
            i, f = sig(net.a("input", x, h)), sig(net.a("forget", x, h))
            new_c = f * c + i * np.tanh(net.a("candidate", x, h))
            new_h = sig(net.a("output", x, h)) * np.tanh(new_c)
            c = keep_c * c + (1 - keep_c) * new_c
            h = keep_h * h + (1 - keep_h) * new_h
            yield h

    return loop


def gru_before(net: Net, xs: Array) -> Iterator[Array]:
    """Cho et al. 2014, equations 5 to 8."""
    h = net.zero
    for x in xs:
        r, z = sig(net.a("reset", x, h)), sig(net.a("update", x, h))
        h = z * h + (1 - z) * np.tanh(net.a("candidate", x, r * h))
        yield h


def gru_after(keep: float = 0.0) -> Loop:
    """The torch documentation of GRU; with the expectation of zoneout."""

    def loop(net: Net, xs: Array) -> Iterator[Array]:
        h = net.zero
        for x in xs:
            r, z = sig(net.a("reset", x, h)), sig(net.a("update", x, h))
            inner = r * (net.R["candidate"] @ h + net.bh["candidate"])
            n = np.tanh(net.W["candidate"] @ x + net.bx["candidate"] + inner)
            h = keep * h + (1 - keep) * ((1 - z) * n + z * h)
            yield h

    return loop


def mgu(net: Net, xs: Array) -> Iterator[Array]:
    """Zhou et al. 2016."""
    h = net.zero
    for x in xs:
        f = sig(net.a("forget", x, h))
        h = (1 - f) * h + f * np.tanh(net.a("candidate", x, f * h))
        yield h


def mut(number: int) -> Loop:
    """Jozefowicz et al. 2015, section 4, x projected where the paper adds x itself."""

    def loop(net: Net, xs: Array) -> Iterator[Array]:
        h = net.zero
        for x in xs:
            if number == 1:
                z = sig(net.W["update"] @ x + net.bx["update"])
                projected = np.tanh(net.W["candidate"] @ x + net.bx["candidate"])
            else:
                z = sig(net.a("update", x, np.tanh(h) if number == 3 else h))
                projected = net.W["candidate"] @ x + net.bx["candidate"]
            r = sig(net.a("reset", x, h))
            inner = net.R["candidate"] @ (r * h) + net.bh["candidate"]
            h = np.tanh(inner + projected) * z + h * (1 - z)
            yield h

    return loop


def ind_rnn(phi: Callable[[Array], Array], bound: float = 0.0) -> Loop:
    """Li et al. 2018, equation 2, unit by unit."""

    def loop(net: Net, xs: Array) -> Iterator[Array]:
        u = net.unit["u"]
        u = bound * np.tanh(u / bound) if bound else u
        h = [0.0] * net.size
        for x in xs:
            inputs = net.W["candidate"] @ x + net.bx["candidate"]
            h = [float(phi(inputs[n] + u[n] * h[n])) for n in range(net.size)]
            yield np.array(h)

    return loop


def clockwork(modules: int) -> Loop:
    """Koutník et al. 2014, section 3: module by module, each hearing itself and the slower."""

    def loop(net: Net, xs: Array) -> Iterator[Array]:
        cut = [range(net.size)[_first(m, modules, net.size) : _first(m + 1, modules, net.size)]
               for m in range(modules)]  # fmt: skip
        h = net.zero
        for t, x in enumerate(xs):
            new = h.copy()
            for m, units in enumerate(cut):
                if t % 2**m == 0:
                    heard = [j for other in cut[m:] for j in other]
                    for i in units:
                        a = net.W["candidate"][i] @ x + net.R["candidate"][i, heard] @ h[heard]
                        new[i] = np.tanh(a + net.bx["candidate"][i] + net.bh["candidate"][i])
            h = new
            yield h

    return loop


def _first(module: int, modules: int, size: int) -> int:
    return -(-module * size // modules)


def layer_norm_lstm(layer: Recurrent, x: Tensor, joint: bool, memory: bool) -> Tensor:
    """Ba et al. 2016, equations 20 to 22 (joint), Hou et al. 2019 (per gate), by torch's own."""
    p: Any = {n.removesuffix("_l0"): v for n, v in layer.named_parameters()}
    gates, size = LSTM_GATES.split(), layer.hidden_size

    def norm(v: Tensor) -> Tensor:
        if joint:
            return F.layer_norm(v, (4 * size,))
        return torch.cat([F.layer_norm(part, (size,)) for part in v.chunk(4, 1)], 1)

    def stacked(kind: str) -> Tensor:
        return torch.cat([p[f"{kind}_{gate}"] for gate in gates])

    h = c = x.new_zeros(x.shape[1], size)
    out = []
    for x_t in x:
        a = stacked("gain_x") * norm(F.linear(x_t, p["weight_ih"], p["bias_ih"]))
        a = a + stacked("gain_h") * norm(F.linear(h, p["weight_hh"], p["bias_hh"]))
        i, f, g, o = (a + stacked("shift")).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        seen = F.layer_norm(c, (size,), p["gain_c"], p["shift_c"]) if memory else c
        h = o.sigmoid() * seen.tanh()
        out.append(h)
    return torch.stack(out)


def layer_norm_gru(layer: Recurrent, x: Tensor, joint: bool) -> Tensor:
    """Ba et al. 2016, equations 23 to 25, reset after the normalised product."""
    p: Any = {n.removesuffix("_l0"): v for n, v in layer.named_parameters()}
    gates, size = GRU_GATES.split(), layer.hidden_size

    def term(kind: str, v: Tensor) -> tuple[Tensor, ...]:
        gain = torch.cat([p[f"gain_{kind}_{g}"] for g in gates])
        shift = torch.cat([p[f"shift_{kind}_{g}"] for g in gates])
        if joint:
            return (gain * F.layer_norm(v, (3 * size,)) + shift).chunk(3, 1)
        normed = torch.cat([F.layer_norm(part, (size,)) for part in v.chunk(3, 1)], 1)
        return (gain * normed + shift).chunk(3, 1)

    h = x.new_zeros(x.shape[1], size)
    out = []
    for x_t in x:
        xr, xz, xn = term("x", F.linear(x_t, p["weight_ih"], p["bias_ih"]))
        hr, hz, hn = term("h", F.linear(h, p["weight_hh"], p["bias_hh"]))
        z = (xz + hz).sigmoid()
        h = z * h + (1 - z) * (xn + (xr + hr).sigmoid() * hn).tanh()
        out.append(h)
    return torch.stack(out)


def torch_layer(
    kind: Callable[..., nn.RNNBase], **options: Any
) -> Callable[[Recurrent, Tensor], Tensor]:
    """Torch's own layer with the same weights."""

    def run(layer: Recurrent, x: Tensor) -> Tensor:
        theirs = kind(layer.input_size, layer.hidden_size, dtype=torch.float64, **options)
        theirs.load_state_dict(layer.state_dict())
        return theirs(x)[0]

    return run
