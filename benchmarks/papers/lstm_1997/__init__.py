"""Hochreiter and Schmidhuber 1997: the first LSTM, online, with its truncated gradient."""
