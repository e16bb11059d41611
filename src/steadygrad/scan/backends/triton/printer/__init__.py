"""Prints the two loops of a cell as Triton kernels.

`operations` has an expression for every operation, `graph` prints a graph of them on blocks of rows
and units, `blocks` prints loops over units and matrix products. Around these, `forward` and
`backward` print the loops over time in the memory that `plan` has laid out.

Both kernels run a sequence of phases at every time step. A phase reads only what an earlier phase,
or an earlier step, has written, so that one barrier after each phase is all the order they need.
"""
