"""Prints the two loops of a cell as C.

`operations` has a line of C for every operation, `stage` prints a graph of them as loops over
units. Around the stages `forward` and `backward` (with `weight_grads`) print the loops over time,
in memory that `plan` has laid out; `entry` prints what calls them, `file` puts all together.
`tiles` prints the innermost loops of matrix products.
"""
