"""Structure and data: the measure of every claim, on layers of torch and ours."""

import torch
from torch import Tensor, nn

from steadygrad import remedies
from tests.remedies.remedy_penalties import Claim, H, I, Reader, claimer, data

CLAIMS: dict[str, Claim] = {}
claim = claimer(CLAIMS)


def at_input(model: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(model(x).square().sum(), x)
    return grad


@claim("skip")
def skip_reaches_the_input_past_a_layer_that_passes_nothing(family: str) -> None:
    for kind in ("RNN", "LSTM", "GRU"):
        for width in (I, H):  # by a learned matrix, and by the identity
            model = Reader(family, kind)
            if width == H:
                model.layer = type(model.layer)(H, H).double()
            with torch.no_grad():
                for name, parameter in model.layer.named_parameters():
                    if name.startswith("weight"):
                        parameter.zero_()
            x = torch.randn(9, 4, width, dtype=torch.float64)
            assert at_input(model, x).abs().sum() == 0
            remedies.Skip(scale=0.5).apply(model)
            way = torch.eye(H, dtype=torch.float64)
            if width == I:
                way = model.get_parameter("layer.project.weight").detach()
            output = model(x).detach()
            expected = 0.5 * (2 * output @ model.head.weight.detach()) @ way
            torch.testing.assert_close(at_input(model, x)[-1], expected)


@claim("layer-norm")
def layer_norm_makes_a_scaling_of_the_weights_nothing(family: str) -> None:
    x = data()[0]
    for kind in ("RNN", "LSTM", "GRU"):
        model = Reader(family, kind, num_layers=2, bidirectional=True)
        model.head = nn.Linear(2 * H, 2).double()
        plain = model(x)
        remedies.LayerNorm().apply(model)
        assert not torch.allclose(plain, model(x), rtol=0.01)
        outputs = []
        for _ in range(2):
            with torch.no_grad():
                for name, parameter in model.layer.named_parameters():
                    if name.startswith(("weight", "bias")):
                        parameter.mul_(100.0)
            outputs.append(model(x))
        # From the first scaling on the 1e-5 under the root is small against any variance.
        torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-3, atol=1e-5)


@claim("source-reversal")
def source_reversal_turns_the_gradient_round(family: str) -> None:
    x = data()[0]
    for kind in ("RNN", "GRU"):
        model = Reader(family, kind)
        before = at_input(model, x.flip(0))
        remedies.SourceReversal().apply(model)
        after = at_input(model, x)
        torch.testing.assert_close(after, before.flip(0))
        assert after[0].norm() > 10 * after[-1].norm()
