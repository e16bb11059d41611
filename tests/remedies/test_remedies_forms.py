"""Constraints and initialisations: what they owe beyond their claims."""

import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.init import he_, rotation_
from steadygrad.remedies import JacobianScale, Orthogonal, RotationInit, SpectralBound
from tests.remedies.remedy_penalties import FAMILIES, H, I, Reader, data, loss_of

HELD = [Orthogonal(), sg.remedies.SpectralMargin(), SpectralBound(0.5)]


@pytest.mark.parametrize("remedy", HELD, ids=lambda r: r.name)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_undone_after_training_the_old_parameters_are_back(
    remedy: sg.remedies.Remedy, family: str, kind: str
) -> None:
    model = Reader(family, kind, num_layers=2)
    before = {name: (id(p), p.detach().clone()) for name, p in model.named_parameters()}
    output = model(data()[0])
    applied = remedy.apply(model)
    optimizer = torch.optim.SGD(model.layer.parameters(), lr=0.1)
    loss_of(model).backward()
    optimizer.step()
    applied.undo()
    assert list(dict(model.named_parameters())) == list(before)
    for name, parameter in model.named_parameters():
        assert id(parameter) == before[name][0]
        if "weight_hh" in name:  # what the remedy changed; the rest has learned and stays so
            assert torch.equal(parameter, before[name][1])
    assert type(model.layer) is type(Reader(family, kind).layer)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(before[name][1])
    torch.testing.assert_close(model(data()[0]), output, rtol=0, atol=0)


@pytest.mark.parametrize("remedy", HELD, ids=lambda r: r.name)
def test_cells_of_torch_are_held_too(remedy: sg.remedies.Remedy) -> None:
    cell = nn.GRUCell(I, H)
    applied = remedy.apply(nn.Sequential(cell))
    weight = cell.weight_hh
    assert isinstance(weight, Tensor)
    blocks = weight.detach().view(3, H, H)
    assert torch.linalg.matrix_norm(blocks, 2).max() <= 1.1 + 1e-5
    applied.undo()
    assert type(cell) is nn.GRUCell


def test_a_matrix_within_its_bound_stays_as_it_is() -> None:
    model = Reader("torch")
    weight = model.get_parameter("layer.weight_hh_l0").detach().clone()
    SpectralBound(100.0).apply(model)
    torch.testing.assert_close(model.layer.weight_hh_l0, weight, rtol=0, atol=0)


@pytest.mark.parametrize("remedy", [*HELD, RotationInit()], ids=lambda r: r.name)
def test_what_has_no_square_blocks_or_a_form_of_its_own_is_refused(
    remedy: sg.remedies.Remedy,
) -> None:
    with pytest.raises(ValueError, match="not square"):
        remedy.apply(nn.LSTM(I, H, proj_size=2))
    with pytest.raises(ValueError, match="form of its own"):
        remedy.apply(sg.Recurrent("exprnn", I, H))


def test_an_odd_rotation_leaves_one_unit_and_bad_blocks_are_refused() -> None:
    weight = rotation_(torch.empty(5, 5))
    assert weight[4, 4] == 1 and weight[4, :4].abs().sum() == 0
    torch.testing.assert_close(weight @ weight.t(), torch.eye(5))
    with pytest.raises(ValueError, match="square"):
        rotation_(torch.empty(4, 5))
    with pytest.raises(ValueError, match="row blocks"):
        he_(torch.empty(4, 5), 3)


def test_scaling_happens_once_in_training_and_keeps_directions() -> None:
    model = Reader("ours")
    start = model.layer.weight_hh_l0.detach().clone()
    JacobianScale().apply(model)
    model.eval()
    loss_of(model)
    assert torch.equal(model.layer.weight_hh_l0, start)
    model.train()
    loss_of(model)
    ratio = model.layer.weight_hh_l0.detach() / start
    assert ratio.std() < 1e-12 and ratio.mean() > 1.2
    with torch.no_grad():
        model.layer.weight_hh_l0.copy_(start)
    loss_of(model)
    assert torch.equal(model.layer.weight_hh_l0, start)


def test_a_target_out_of_reach_is_said() -> None:
    model = Reader("ours", "LSTM")
    with torch.no_grad():
        model.layer.bias_ih_l0[H : 2 * H] = 10.0  # the cell state alone has slopes of one
    JacobianScale(target=0.1).apply(model)
    with pytest.warns(UserWarning, match=r"no scale of layer\.l0 brings the mean .* to 0\.1"):
        loss_of(model)
