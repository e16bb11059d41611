"""Measurements: each script prints its own numbers."""
