"""Layers with a matrix as state by name: stacked, as the model of a training, in a benchmark."""

import pytest
import torch
from torch import nn

from steadygrad.bench.trial import Trial
from steadygrad.errors import InputError
from steadygrad.nn import MEMORIES, MatrixMemory, MemoryStack, is_memory, memories
from steadygrad.train.model import Ends, SequenceModel, detach

named = pytest.mark.parametrize("name", sorted(MEMORIES))


def test_every_layer_of_the_kind_has_a_name() -> None:
    shown = [v for v in vars(__import__("steadygrad.nn").nn).values() if isinstance(v, type)]
    kinds = {v for v in shown if issubclass(v, MatrixMemory) and v is not MatrixMemory}
    assert kinds <= set(MEMORIES.values()) and len(kinds) == len(MEMORIES) - 1  # and mLSTM
    assert is_memory("Delta_Net:heads=2") is is_memory("lstm") is False
    assert is_memory("delta_net:heads=2")


@named
def test_a_stack_is_its_layers_one_after_another(name: str) -> None:
    torch.manual_seed(0)
    stack = memories(f"{name}:heads=2", 3, 8, num_layers=2)
    assert isinstance(stack, MemoryStack)
    x = torch.randn(11, 4, 3)
    whole, last = stack(x)
    by_hand = x
    for layer in stack.layers:
        by_hand = layer(by_hand)[0]
    torch.testing.assert_close(whole, by_hand)
    first, state = stack(x[:4])
    second, end = stack(x[4:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    for one, other in zip(end, last, strict=True):
        torch.testing.assert_close(one, other)


def test_dropout_lies_between_the_layers() -> None:
    stack = memories("gla", 3, 4, num_layers=2, dropout=1.0)
    seen: list[torch.Tensor] = []
    for layer in stack.layers:
        layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    stack(torch.ones(5, 1, 3))
    assert seen[0].eq(1).all() and seen[1].eq(0).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("delta-net:head=2", "delta-net has no option 'head'; did you mean 'heads'"),
        ("delta-net:heads=3", "DeltaNet: hidden_size 64 cannot be cut into 3 heads"),
        ("gla:form=x", "option form must be 'chunked' or 'recurrent'"),
    ],
)
def test_what_is_wrong_is_said_before_any_work(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trial("associative-recall", text).check()


def test_options_reach_the_layer() -> None:
    Trial("associative-recall", "gated-delta-net:heads=4,key_size=8").check()
    (layer,) = memories("gated-delta-net:heads=4,key_size=8", 3, 16).layers
    assert layer.heads == 4 and layer.key_size == 8
    assert memories("rwkv7", 3, 16).layers[0].heads == 1


@named
def test_a_text_is_learnt_from_batch_to_batch(name: str) -> None:
    """The state is carried over, also where a layer has several."""
    torch.manual_seed(0)
    model = SequenceModel(Ends("symbols", True, 5, 5), name, 8, layers=2)
    codes = torch.randint(5, (9, 2))
    whole, _ = model(codes)
    first, state = model(codes[:4])
    second, _ = model(codes[4:], detach(state))
    torch.testing.assert_close(torch.cat([first, second]), whole)
    nn.functional.cross_entropy(second.flatten(0, 1), codes[4:].flatten()).backward()
    assert all(p.grad is not None for p in model.recurrent.parameters())
