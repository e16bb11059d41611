"""The parts of a watch: what it knows, and who finds that out."""
