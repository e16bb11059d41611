"""The GPU back end: a cell printed as two Triton kernels, one forward and one backward.

`backend` decides what runs here, `form` says what a printed kernel depends on, `printer` prints it
from the program of `steadygrad.scan.ir`, `module` makes functions of the text, `tiles` chooses
block sizes, `forward` and `backward` lay out memory and start the kernels. `runtime` holds what
printed kernels call; only it, `module` and `environment` import Triton, and only when needed.
"""
