"""Arjovsky, Shah and Bengio 2016: copy memory, where an LSTM stays at the baseline."""
