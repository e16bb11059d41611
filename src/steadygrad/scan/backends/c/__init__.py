"""The recurrence printed as one C file, compiled by the system, loaded by ctypes.

`printer` writes the two loops of a cell, `runtime` holds the C headers that they are built on, both
together are one text. `build` makes a library of it. `kernel` calls that, with the help of `call`
and `slots` (the argument words), `threads` and `openmp` (how work is split), `pool` (memory) and
`records` (what taps read); `stream_call` calls it for one step at a time.
"""
