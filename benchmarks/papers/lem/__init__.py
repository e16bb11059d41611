"""Rusch, Mishra, Erichson and Mahoney 2022: long expressive memory on a FitzHugh-Nagumo neuron."""
