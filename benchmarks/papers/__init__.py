"""Published results, trained again: one folder a paper."""
