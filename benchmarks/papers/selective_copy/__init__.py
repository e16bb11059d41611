"""Gu and Dao 2023: selective copying."""
