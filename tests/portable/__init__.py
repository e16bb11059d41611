"""Checks that vary the arithmetic on one machine; ``make test-portable`` runs them."""
