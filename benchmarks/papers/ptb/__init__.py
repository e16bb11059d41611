"""Cooijmans et al. 2016: an LSTM on characters of Penn Treebank."""
