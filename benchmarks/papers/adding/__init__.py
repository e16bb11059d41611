"""Adding as in Le et al. 2015: which cells leave the baseline, and which stay at it."""
