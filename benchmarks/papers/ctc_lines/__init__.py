"""Graves et al. 2006: printed lines read by connectionist temporal classification."""
