"""The cascaded tanks of nonlinearbenchmark.org: many models, one protocol."""
