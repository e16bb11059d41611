"""Delétang et al. 2023: regular and stack languages, trained short and scored long."""
