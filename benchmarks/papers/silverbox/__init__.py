"""The Silverbox of nonlinearbenchmark.org: many models, one protocol."""
