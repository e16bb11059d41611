"""Skip connections, layer normalisation and reversal in a model; windows with carried state."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.errors import InputError
from steadygrad.remedies import LayerNorm, Skip, SourceReversal, Windows
from steadygrad.train import TrainConfig, train
from tests.remedies.remedy_penalties import FAMILIES, H, I, Reader, data

KINDS = ("RNN", "LSTM", "GRU")
Remedies = (Skip(), LayerNorm(), SourceReversal())


@pytest.mark.parametrize("remedy", Remedies, ids=lambda r: r.name)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_layouts_and_states_are_as_the_layer_has_them(
    remedy: sg.remedies.Remedy, family: str, kind: str
) -> None:
    x = data()[0]
    models = [Reader(family, kind, batch_first=flag) for flag in (False, True, False)]
    for model in models:
        torch.manual_seed(3)
        remedy.apply(model)
    state: Any = torch.randn(1, x.shape[1], H, dtype=x.dtype)
    state = (state, state.sin()) if kind == "LSTM" else state
    output, last = models[0].layer(x, state)
    other, other_last = models[1].layer(x.transpose(0, 1), state)
    packed, packed_last = models[2].layer(nn.utils.rnn.pack_sequence(list(x.unbind(1))), state)
    torch.testing.assert_close(other.transpose(0, 1), output)
    torch.testing.assert_close(nn.utils.rnn.pad_packed_sequence(packed)[0], output)
    torch.testing.assert_close(other_last, last)
    torch.testing.assert_close(packed_last, last)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", KINDS)
def test_layer_norm_carries_every_weight(family: str, kind: str) -> None:
    model = Reader(family, kind, num_layers=2, bidirectional=True)
    before = {n: p.detach().clone() for n, p in model.layer.named_parameters()}
    LayerNorm(gain=0.1).apply(model)
    after = dict(model.layer.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    gains = [value for name, value in after.items() if name.startswith("gain")]
    assert gains and all((g == 0.1).all() for g in gains)


def test_each_packed_sequence_is_turned_by_itself() -> None:
    model = Reader("torch", "GRU")
    x = data()[0]
    rows = [x[:3, 0], x[:7, 1], x[:5, 2]]
    expected = torch.stack([model.layer(r.flip(0))[1][0] for r in rows])
    SourceReversal().apply(model)
    packed = nn.utils.rnn.pack_sequence(rows, enforce_sorted=False)
    torch.testing.assert_close(model.layer(packed)[1][0], expected)
    torch.testing.assert_close(model.layer(input=packed)[1][0], expected)


def test_a_wrong_layer_is_answered_with_the_right_ones() -> None:
    with pytest.raises(ValueError, match=r"no recurrent layer 'decoder'; there are: layer"):
        SourceReversal("decoder").apply(Reader("torch"))


def test_the_future_is_not_shown_to_a_model_of_text(tmp_path: Path) -> None:
    file = tmp_path / "book.txt"
    file.write_text("one word and another word. " * 200)
    config = TrainConfig(file, remedies=("source-reversal",), out=tmp_path / "run")
    with pytest.raises(InputError, match="shows the future"):
        train(config)
    assert replace(config, remedies=()).remedies == ()


# Windows.


def read_in_windows(layer: nn.Module, windows: Windows) -> list[Tensor]:
    """Outputs of every row, its sequences one after the other."""
    state, rows = None, [[] for _ in range(windows.batch)]
    for window in windows:
        output, state = layer(window.inputs, window.carry(state))
        for row, length in enumerate(window.lengths.tolist()):
            rows[row].append(output[:length, row])
    return [torch.cat(parts).detach() for parts in rows]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 7, 10, 50])
def test_windows_with_carried_state_compute_what_the_whole_stream_computes(
    kind: str, steps: int
) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, kind)(2, 4).double()
    series = torch.randn(83, 2, dtype=torch.float64)
    windows = Windows(series, batch=4, steps=steps)
    assert windows.dropped == 3 and len(windows) == -(-20 // steps)
    whole = layer(series[:80].view(4, 20, 2).transpose(0, 1))[0]
    for row, output in enumerate(read_in_windows(layer, windows)):
        torch.testing.assert_close(output, whole[:, row])


def test_sequences_of_any_length_never_meet() -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(2, 4).double()
    lengths = [5, 12, 1, 9, 3]
    sequences = [torch.randn(n, 2, dtype=torch.float64) for n in lengths]
    windows = Windows(sequences, batch=2, steps=4)
    rows = torch.cat(read_in_windows(layer, windows))
    alone = [layer(s.unsqueeze(1))[0].squeeze(1).detach() for s in sequences]
    # Row 0 reads 0, 2, 3 and row 1 reads 1, 4: whichever is free first takes the next.
    torch.testing.assert_close(rows, torch.cat([alone[i] for i in (0, 2, 3, 1, 4)]))
    assert sum(int(w.mask.sum()) for w in windows) == sum(lengths)


def test_targets_go_along_and_padding_is_masked() -> None:
    inputs = [torch.arange(1.0, n + 1)[:, None] for n in (5, 2)]
    targets = [10 * x.squeeze(1) for x in inputs]
    windows = list(Windows(inputs, targets, batch=2, steps=3))
    assert [w.lengths.tolist() for w in windows] == [[3, 2], [2, 0]]
    assert [w.fresh.tolist() for w in windows] == [[True, True], [False, True]]
    for window in windows:
        assert window.targets is not None
        assert torch.equal(window.targets[window.mask], 10 * window.inputs[window.mask].squeeze(1))
        assert window.inputs[~window.mask].abs().sum() == 0


def test_the_gradient_stops_at_the_border_and_a_broken_state_at_a_fresh_row() -> None:
    layer = nn.GRU(1, 3)
    first, second = Windows(torch.randn(8, 1), batch=1, steps=4)
    x = first.inputs.clone().requires_grad_()
    _, state = layer(x)
    output, _ = layer(second.inputs, second.carry(state))
    assert not torch.autograd.grad(output.sum(), x, allow_unused=True)[0]
    assert torch.equal(second.carry(state), state)
    assert torch.equal(first.carry(torch.full_like(state, float("nan"))), torch.zeros_like(state))
    pair = second.carry((state, state))
    assert isinstance(pair, tuple) and not pair[0].requires_grad
    assert first.carry(None) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"inputs": [], "batch": 2, "steps": 3}, "at least one step"),
        ({"inputs": torch.zeros(1, 2), "batch": 2, "steps": 3}, "batch=2 steps"),
        ({"inputs": torch.zeros(4, 2), "batch": 0, "steps": 3}, "at least 1, got 0, 3"),
        (
            {"inputs": torch.zeros(8, I), "targets": torch.zeros(4), "batch": 2, "steps": 3},
            r"targets must be as long as inputs, \[4, 4\], got \[2, 2\]",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Windows(**given)


@pytest.mark.parametrize("batch_first", [False, True])
def test_reversal_turns_time_and_not_rows_of_symbols(batch_first: bool) -> None:
    codes = torch.randint(5, (7, 3))  # (T, B)
    if batch_first:
        codes = codes.t()
    layer = sg.Recurrent("gru", 5, 4, batch_first=batch_first)
    expected, _ = layer(codes.flip(1 if batch_first else 0))
    SourceReversal().apply(layer)
    assert torch.equal(layer(codes)[0], expected)
