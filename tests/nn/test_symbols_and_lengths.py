"""Codes of symbols against one-hot features, and lengths against torch's packed sequences."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from steadygrad.flow.capture import Capture
from steadygrad.flow.replay import Replay, rows_of
from steadygrad.nn import GRU, LSTM, Recurrent
from steadygrad.scan import LoopClip
from steadygrad.scan.backends.c import build

T, B, I, H = 7, 4, 6, 5
BACKENDS = ["eager", *(["c"] if build.compiler() else [])]
LENGTHS = torch.tensor([3, 7, 1, 5])


def codes(*shape: int) -> Tensor:
    return torch.randint(I, shape, generator=torch.Generator().manual_seed(1))


def passes(layer: Recurrent, given: Any, taped: bool = False, **options: Any) -> list[Tensor]:
    output, last = layer(given, **options)
    last = last if isinstance(last, tuple) else (last,)
    values = [output.data if hasattr(output, "batch_sizes") else output, *last]
    loss = torch.stack([(v**2 + v).sum() for v in values]).sum()
    source = given.data if hasattr(given, "batch_sizes") else given
    inputs = [*layer.parameters(), *([source] if source.requires_grad else [])]
    return [*values, *torch.autograd.grad(loss, inputs, create_graph=taped)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8], ids=str)
def test_codes_are_one_hot_features(backend: str, bias: bool, dtype: torch.dtype) -> None:
    layer = LSTM(I, H, 2, bias, bidirectional=True, dtype=torch.float64, backend=backend)
    given = codes(T, B)
    features = F.one_hot(given, I).double()
    wanted = passes(layer, features)
    for _ in range(2):
        torch.testing.assert_close(passes(layer, given.to(dtype)), wanted)
    torch.testing.assert_close(passes(layer, given, taped=True), wanted)
    with torch.no_grad():
        torch.testing.assert_close(layer(given)[0], wanted[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [{"truncate": 3}, {"checkpoint": True}], ids=str)
def test_codes_may_be_packed_unbatched_batch_first_and_cut(backend: str, options: Any) -> None:
    layer = GRU(I, H, dtype=torch.float64, backend=backend, **options)
    layer.loop_clip = LoopClip(0.5, "norm", "preactivation")
    given = codes(T, B)
    features = F.one_hot(given, I).double()
    packed = [pack_padded_sequence(x, LENGTHS, enforce_sorted=False) for x in (given, features)]
    torch.testing.assert_close(passes(layer, packed[0]), passes(layer, packed[1]))
    torch.testing.assert_close(passes(layer, given), passes(layer, features))
    torch.testing.assert_close(passes(layer, given[:, 0]), passes(layer, features[:, 0]))
    layer.batch_first = True
    torch.testing.assert_close(passes(layer, given), passes(layer, features))


def test_codes_that_have_no_input_are_refused() -> None:
    layer = LSTM(I, H)
    with pytest.raises(ValueError, match=r"LSTM: expected codes from 0 to 5 .*got 0 to 6"):
        layer(torch.tensor([[0], [6]]))
    with pytest.raises(ValueError, match="got -1 to 2"):
        layer(torch.tensor([[-1], [2]]))
    with pytest.raises(ValueError, match="input dtype"):  # features that are whole numbers
        layer(torch.zeros(T, B, I, dtype=torch.int64))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("form", ["features", "codes"])
def test_lengths_are_torchs_packing(backend: str, batch_first: bool, form: str) -> None:
    layer = LSTM(
        I, H, 2, bidirectional=True, batch_first=batch_first, dtype=torch.float64, backend=backend
    )
    theirs = nn.LSTM(I, H, 2, bidirectional=True, batch_first=batch_first, dtype=torch.float64)
    theirs.load_state_dict(layer.state_dict())
    shape = (B, T) if batch_first else (T, B)
    if form == "codes":
        given: Tensor = codes(*shape)
        features = F.one_hot(given, I).double()
    else:
        given = features = torch.randn(*shape, I, dtype=torch.float64, requires_grad=True)
    packed = pack_padded_sequence(features, LENGTHS, batch_first, enforce_sorted=False)
    output, last = theirs(packed)
    padded, _ = pad_packed_sequence(output, batch_first, total_length=T)
    loss = torch.stack([(v**2 + v).sum() for v in (padded, *last)]).sum()
    inputs = [*theirs.parameters(), *([features] if features.requires_grad else [])]
    wanted = [padded, *last, *torch.autograd.grad(loss, inputs)]
    torch.testing.assert_close(passes(layer, given, lengths=LENGTHS), wanted)
    torch.testing.assert_close(passes(layer, given, lengths=LENGTHS.tolist()), wanted)
    steps = padded if not batch_first else padded.transpose(0, 1)
    assert all((steps[n:, b] == 0).all() for b, n in enumerate(LENGTHS.tolist()))


def test_what_is_padded_is_never_read() -> None:
    layer = LSTM(I, H)
    x = torch.randn(T, B, I)
    clean, last = layer(x, lengths=LENGTHS)
    for b, n in enumerate(LENGTHS.tolist()):
        x[n:, b] = float("nan")
    output, again = layer(x, lengths=LENGTHS)
    assert torch.equal(output, clean)
    assert all(torch.equal(a, b) for a, b in zip(again, last, strict=True))


@pytest.mark.parametrize(
    ("given", "lengths", "words"),
    [
        (torch.zeros(T, B, I), [1, 2, 3], r"lengths of shape \(4,\)"),
        (torch.zeros(T, B, I), torch.ones(B), r"whole numbers, got torch.float32"),
        (torch.zeros(T, B, I), [0, 1, 2, 3], "lengths from 1 to 7, .*got 0 to 3"),
        (torch.zeros(T, B, I), [8, 1, 2, 3], "got 1 to 8"),
        (torch.zeros(T, I), [8], "belong to a padded batch.*got 2-D"),
    ],
)
def test_wrong_lengths_are_refused(given: Tensor, lengths: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LSTM(I, H)(given, lengths=lengths)


@pytest.mark.parametrize("form", ["features", "codes"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_diagnosis_sees_lengths_and_codes(form: str, batch_first: bool) -> None:
    layer = LSTM(I, H, bidirectional=True, batch_first=batch_first)
    shape = (B, T) if batch_first else (T, B)
    given = codes(*shape) if form == "codes" else torch.randn(*shape, I)
    seen: dict[bool, Any] = {}
    layer.on_tap = lambda _, reverse, tap: seen.update({reverse: tap})
    with Capture(nn.ModuleDict({"rnn": layer})) as caught:
        output, (h, c) = layer(given, lengths=LENGTHS)
        (call,) = caught.calls
        loss = (output**2).sum() + h.sum() + (c**2).sum()
        grads = torch.autograd.grad(loss, (output, h, c), retain_graph=True)
        loss.backward()
        replay = Replay(layer, rows_of(call, (grads[0], grads[1:])))
        assert replay.reproduces(call, B) < 1e-5
        found = replay.backward()
    for reverse, tap in seen.items():
        torch.testing.assert_close(
            found[0, reverse].log10_norm, tap.log10_norm, rtol=1e-3, atol=1e-3
        )
        assert found[0, reverse].present.sum() == LENGTHS.sum()
