"""Counts for the promises of docs/reliability.md: kills, fuzzed files, flipped bits, mutations."""
