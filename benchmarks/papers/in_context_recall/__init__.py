"""Poli et al. 2024: in-context recall, one of MAD's six tasks."""
