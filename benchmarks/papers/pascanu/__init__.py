"""Pascanu, Mikolov and Bengio 2013: temporal order."""
