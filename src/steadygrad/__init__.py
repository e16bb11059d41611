"""Gradients through time in recurrent networks: measured, named, repaired."""

from steadygrad._version import __version__ as __version__
from steadygrad.nn import GRU as GRU
from steadygrad.nn import LSTM as LSTM
from steadygrad.nn import RNN as RNN
from steadygrad.nn import Recurrent as Recurrent
