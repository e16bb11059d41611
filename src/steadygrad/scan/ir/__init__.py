"""A cell's step, traced: stages of pointwise work, products between them, and their derivatives."""
