"""Prints the two loops of a cell as C."""
