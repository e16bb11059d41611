"""Engelken 2023: gradient flossing on delayed exclusive or."""
