"""The torch.nn surface: drop-in layers, and any cell as a layer."""

from typing import TYPE_CHECKING

from steadygrad._room import public
from steadygrad.nn.attention import LuongAttention as LuongAttention
from steadygrad.nn.batch_norm_gru import BatchNormGRU as BatchNormGRU
from steadygrad.nn.batch_norm_lstm import BatchNormLSTM as BatchNormLSTM
from steadygrad.nn.bilstm import BiLSTM as BiLSTM
from steadygrad.nn.cnn_lstm import CNNLSTM as CNNLSTM
from steadygrad.nn.conv_lstm import ConvLSTM as ConvLSTM
from steadygrad.nn.deep_net import DeepNet as DeepNet
from steadygrad.nn.deep_recurrent import DeepRecurrent as DeepRecurrent
from steadygrad.nn.delta_net import DeltaNet as DeltaNet
from steadygrad.nn.dilated import Dilated as Dilated
from steadygrad.nn.encoder_decoder import EncoderDecoder as EncoderDecoder
from steadygrad.nn.encoder_decoder import reverse_in_time as reverse_in_time
from steadygrad.nn.gated_delta_net import GatedDeltaNet as GatedDeltaNet
from steadygrad.nn.gla import GLA as GLA
from steadygrad.nn.layer_view import LayerView as LayerView
from steadygrad.nn.layer_view import cell_of as cell_of
from steadygrad.nn.layer_view import twin_of as twin_of
from steadygrad.nn.layer_view import view as view
from steadygrad.nn.levenberg_marquardt import Fit as Fit
from steadygrad.nn.levenberg_marquardt import levenberg_marquardt as levenberg_marquardt
from steadygrad.nn.lru import LRU as LRU
from steadygrad.nn.m2rnn import M2RNN as M2RNN
from steadygrad.nn.matrix_memory import MatrixMemory as MatrixMemory
from steadygrad.nn.md_lstm import MDLSTM as MDLSTM
from steadygrad.nn.memories import MemoryStack as MemoryStack
from steadygrad.nn.memories import memory_name as _memory_name
from steadygrad.nn.memories import read_memory as _read_memory
from steadygrad.nn.mist import MIST as MIST
from steadygrad.nn.mlstm import MLSTM as MLSTM
from steadygrad.nn.narx import NARX as NARX
from steadygrad.nn.narx import Delays as Delays
from steadygrad.nn.narx_fit import fit_narx as fit_narx
from steadygrad.nn.orthogonal import orthogonal_ as orthogonal_
from steadygrad.nn.orthogonal import rebase_ as rebase_
from steadygrad.nn.packed import Packed as Packed
from steadygrad.nn.packed import pack as pack
from steadygrad.nn.packed import unpack_ as unpack_
from steadygrad.nn.parametrised import free_ as free_
from steadygrad.nn.quantise import dequantise_ as dequantise_
from steadygrad.nn.quantise import follow_adam as follow_adam
from steadygrad.nn.quantise import quantise_ as quantise_
from steadygrad.nn.quantised_lstm import QuantisedLSTM as QuantisedLSTM
from steadygrad.nn.recurrent import LayerTap as LayerTap
from steadygrad.nn.recurrent import Recurrent as Recurrent
from steadygrad.nn.reversible import Reversible as Reversible
from steadygrad.nn.rwkv7 import RWKV7 as RWKV7
from steadygrad.nn.spectrum import spectral_margin_ as spectral_margin_
from steadygrad.nn.step_gradient import Looped as Looped
from steadygrad.nn.step_gradient import StepGradient as StepGradient
from steadygrad.nn.stream import Stream as Stream
from steadygrad.nn.torch_twins import GRU as GRU
from steadygrad.nn.torch_twins import LSTM as LSTM
from steadygrad.nn.torch_twins import RNN as RNN
from steadygrad.scan import DeltaSteps as DeltaSteps
from steadygrad.scan import MatrixSteps as MatrixSteps

MEMORIES: dict[str, type[Looped]] = {
    value.__dict__["name"]: value
    for value in list(vars().values())
    if isinstance(value, type) and issubclass(value, Looped) and "name" in vars(value)
}
"""Layers with a matrix as state, by the name they have where a cell is named."""


def is_memory(text: str) -> bool:
    """Whether ``text`` names a layer with a matrix as state, ``gla`` or ``delta-net:heads=4``."""
    return _memory_name(text) in MEMORIES


def memories(
    text: str, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0
) -> MemoryStack:
    """Stack layers with a matrix as state, named as cells are.

    Args:
        text: ``name`` or ``name:option=value,option=value``; options are the arguments of the layer
            besides its sizes: ``gated-delta-net:heads=4,key_size=16``.
        input_size: Features of the input.
        hidden_size: Features of the output of each layer.
        num_layers: Number of layers.
        dropout: Between layers.

    Raises:
        InputError: No such layer or option, or a value that the layer refuses.
    """
    sizes = [input_size] + [hidden_size] * (num_layers - 1)
    return MemoryStack([_read_memory(text, MEMORIES, n, hidden_size) for n in sizes], dropout)


if not TYPE_CHECKING:  # they read the import lines above
    __all__, __dir__ = public(globals())
