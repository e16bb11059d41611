"""Sutskever, Vinyals and Le 2014: source reversal, on a made-up language."""
