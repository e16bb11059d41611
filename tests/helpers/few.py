"""A few cells, enough for what does not depend on the cell; `test_cells` looks at every one."""

FEW = ("elman", "gru", "gru-original", "lstm")
