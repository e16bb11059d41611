"""Sutskever, Martens, Dahl and Hinton 2013: initialisation and momentum."""
