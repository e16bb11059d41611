"""The recurrence printed as one C file, compiled by the system, loaded by ctypes.

From a stage's graph to lines of C: `operations`, `stage_print`. Around them the loops over time:
`values` (what is kept, and where), `forward`, `backward` with `gathered` (gradients of weights),
`around` (scratch memory, threads, entries), put together by `source`. C text that is the same for
every cell: `preamble`, `circle`, `functions`, `gemm` with `tiles`, `crew` and `chunks`, and `loop`.
From text to a library: `build`, `tools`. Calls: `kernel`, by way of `call`, `slots`, `threads`,
`pool` and `records`; `stream_call` for one step at a time.
"""
