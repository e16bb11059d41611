"""Ways to run a scan: in plain torch, in parallel over time, or compiled to C."""
