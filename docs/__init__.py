"""Pages that are made from the code; each is printed by the module of its name."""
