"""The torch.nn surface: drop-in layers, and any cell as a layer."""

from steadygrad.nn.orthogonal import orthogonal_ as orthogonal_
from steadygrad.nn.orthogonal import rebase_ as rebase_
from steadygrad.nn.packed import Packed as Packed
from steadygrad.nn.packed import pack as pack
from steadygrad.nn.packed import unpack_ as unpack_
from steadygrad.nn.parametrised import free_ as free_
from steadygrad.nn.quantise import dequantise_ as dequantise_
from steadygrad.nn.quantise import follow_adam as follow_adam
from steadygrad.nn.quantise import quantise_ as quantise_
from steadygrad.nn.recurrent import LayerTap as LayerTap
from steadygrad.nn.recurrent import Recurrent as Recurrent
from steadygrad.nn.spectrum import spectral_margin_ as spectral_margin_
from steadygrad.nn.stream import Stream as Stream
from steadygrad.nn.torch_twins import GRU as GRU
from steadygrad.nn.torch_twins import LSTM as LSTM
from steadygrad.nn.torch_twins import RNN as RNN
from steadygrad.nn.torch_twins import cell_of as cell_of
from steadygrad.nn.torch_twins import twin_of as twin_of
