"""Hou et al. 2019: quantised LSTMs on characters of Penn Treebank."""
