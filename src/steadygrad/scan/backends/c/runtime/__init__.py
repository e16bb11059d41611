"""C that every printed file contains: products, functions of a real, threads."""
