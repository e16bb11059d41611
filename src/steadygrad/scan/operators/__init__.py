"""The scan as `torch.library` operators: what torch traces, transforms and exports.

`steadygrad.scan.function` is the fast path and knows plain tensors alone. Whatever else there is
(torch.compile and torch.export, fake and other subclasses of tensors, functional transforms,
forward-mode derivatives, dispatch modes, jit.trace) goes through these:

    scan(cell, names, reverse, sizes, tensors)             -> h after every step, last states
    scan_keep(cell, names, reverse, sizes, tensors)        -> the same, and what a backward needs
    scan_back(..., tensors, saved, grads, needed)          -> gradients of the tensors that need one

No argument is a size: the number of steps is that of the rows over that of the states, so steps and
batch stay symbols while torch traces. ``sizes``, rows at each time step, is there for rows of
unequal length alone.
"""

from steadygrad.scan.operators import autograd as autograd
from steadygrad.scan.operators import batching as batching
from steadygrad.scan.operators import kernels as kernels
from steadygrad.scan.operators.run import back as back
from steadygrad.scan.operators.run import is_plain as is_plain
from steadygrad.scan.operators.run import is_plain_gradient as is_plain_gradient
from steadygrad.scan.operators.run import is_profiled as is_profiled
from steadygrad.scan.operators.run import run_call as run_call
from steadygrad.scan.operators.run import scan_in_graph as scan_in_graph
from steadygrad.scan.operators.schema import clip_text as clip_text
from steadygrad.scan.operators.schema import operator_text as operator_text
from steadygrad.scan.operators.schema import with_options as with_options
