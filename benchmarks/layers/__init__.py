"""Our recurrent layers against their peers: see `benchmarks.layers.__main__`."""
