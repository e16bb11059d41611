"""NARX against LSTM in free run: cascaded tanks and Silverbox."""
