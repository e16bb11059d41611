"""Jozefowicz, Zaremba and Sutskever 2015: the forget bias, on synthetic XML."""
