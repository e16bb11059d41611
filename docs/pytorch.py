"""The page of what torch can do to a layer: ``python -m docs.pytorch`` tries it and writes it."""

from pathlib import Path

import torch
from benchmarks.machinery import TRIED, tried
from torch import nn

import steadygrad as sg

PAGE = Path(__file__).with_suffix(".md")
KINDS: tuple[type[nn.Module], ...] = (sg.LSTM, sg.GRU, sg.RNN, nn.LSTM)
TOP = """\
# What PyTorch can do to a layer

<!-- Made by `python -m docs.pytorch`; edit docs/pytorch.py instead. -->

Tried with torch {torch} on a CPU by `benchmarks/machinery`. A number is the largest difference from
plain calls of the same layer, or from torch's layer with the same weights, in float64 (in float32
for compiled and exported graphs); else stands the first line of what torch or we answer. Two
refusals of ours are answered otherwise by torch's layers: `torch.jit.script` and `quantize_dynamic`
take `layer.to_torch()`; for gradients by sample, take `vmap` of `grad`, or Opacus.

"""
END = """
Inside a graph the layer is one operator, `torch.ops.steadygrad.scan`, a call for each layer and
direction; it runs the compiled kernel, and its numbers of time steps and rows stay free. To load a
program of `torch.export` in a new process, import `steadygrad.scan` first. A cell of your own goes
along if its class stands at the top of a module that can be imported.

- `torch.compile`: one graph, with `resets`, `lengths` (a tensor), `burn_in`, `truncate`,
  `checkpoint` and a `loop_clip` in it. The pieces of `truncate` and `checkpoint` stand in the graph
  one by one, so another number of time steps compiles anew; else steps and rows stay free. The
  graph breaks at the layer (`fullgraph=True` says so) if a watch is on it, or the call has a
  `PackedSequence`, whose number of rows only its values tell: give `lengths=` instead.
- Functional transforms, batches of gradients, fake tensors and traces do not report to a watch: a
  backward pass under them is not seen, and counts as not measured.
- `torch.func.vmap` over inputs folds into the batch. Over weights, and for gradients of weights by
  sample, it is a loop over samples.
- Forward-mode derivatives and derivatives of derivatives run the steps in torch's own operations.
- Under `autocast` output and state have its dtype, as those of `nn.LSTM` by oneDNN and cuDNN (shown
  above is `nn.LSTM` without oneDNN, which has none in 16 bits on many processors); of a GRU on a
  CPU, as of `nn.GRU` there, the dtype of its initial state (of its input without one) if wider.
  Inside, everything is computed in the dtype of the weights, for every cell: 16 bits lose a
  gradient that is carried over many steps. Double stays double.
- `torch.fx.symbolic_trace` takes the layers for leaves, as it does torch's.
- `torch.jit.script` reads the source of a layer, and what runs here is made from a cell: put
  `layer.to_torch()` in its place, or use `torch.jit.trace`, which takes the layer as it is.
- `torch.ao.quantization` converts torch's own classes alone and the layer says so; see
  `steadygrad.nn.quantise_`, or put `layer.to_torch()` in its place.

`python -m benchmarks.torch_suite DIR` runs PyTorch's own tests of recurrent layers with ours in
their place. Those of a fork for torch 2.13 to 2.15 that pass on torch's layers all pass on ours:
21 of `test_nn.py`, 102 of `test_modules.py`, 12 of `nn/test_packed_sequence.py` and 1 of
`nn/test_pruning.py`. No exception is argued.

## Export

```python
import steadygrad as sg

done = sg.deploy.export(sg.LSTM(3, 8), "layer.onnx", states=True)
print(done)  # shows inputs, outputs, which sizes are free, and the error that was measured
```

`.onnx` and `.pt2`, of a layer (also of `torch.nn`), a model around layers, or the folder of a run
(`steadygrad export RUN model.onnx`). LSTM, GRU and RNN become ONNX's operators of these names;
every other cell becomes a Scan whose body is made from the cell's equations. `states=True` makes
the state an input and an output, for streams; `lengths=True` takes rows of several lengths;
`resets=True` takes where segments of the rows begin, and makes every cell a Scan, as ONNX's own
operators cannot do that. The file is run in ONNX Runtime at two sizes before it is put in its
place, and refused above an error of 1e-5, relative to the largest value where that is above one.
ONNX needs `pip install steadygrad[onnx]`.

`python -m benchmarks.onnx_parity` exports each of the 43 cells, 64 units, and runs the file at 48
steps x 8 rows, whole and in pieces: 40 are within 6e-6 of the layer. The three others are refused,
as ONNX lacks what makes their weights: `exprnn`, `scornn`, `urnn`. ONNX Runtime and the layer are
at most 1e-5 off a float64 run, whichever of the two. Figures: `benchmarks/results/onnx_parity.txt`.
"""


def page() -> str:
    """The whole page."""
    named = [f"`{'nn' if k is nn.LSTM else 'sg'}.{k.__name__}`" for k in KINDS]
    rows = [f"| | {' | '.join(named)} |", "|---" * (len(KINDS) + 1) + "|"]
    for what in TRIED:
        told = [tried(what, kind) for kind in KINDS]
        rows.append(f"| {what} | {' | '.join(told)} |")
    return TOP.format(torch=torch.__version__.partition("+")[0]) + "\n".join(rows) + "\n" + END


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
