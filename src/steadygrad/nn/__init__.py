"""The torch.nn surface: drop-in layers, and any cell as a layer."""

from steadygrad.nn.recurrent import LayerTap as LayerTap
from steadygrad.nn.recurrent import Recurrent as Recurrent
from steadygrad.nn.stream import Stream as Stream
from steadygrad.nn.torch_twins import GRU as GRU
from steadygrad.nn.torch_twins import LSTM as LSTM
from steadygrad.nn.torch_twins import RNN as RNN
from steadygrad.nn.torch_twins import cell_of as cell_of
from steadygrad.nn.torch_twins import twin_of as twin_of
