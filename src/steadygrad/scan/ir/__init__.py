"""Intermediate representation of a step: pointwise stages, products, and their derivatives."""
