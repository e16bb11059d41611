"""The tolerance between back ends: it follows eager's error, and is not blind."""

import pytest
import torch
from torch import Tensor

from tests.helpers.tolerance import assert_as_near

F64 = torch.float64


@pytest.fixture
def exact() -> list[Tensor]:
    return [torch.randn(50, 20, dtype=F64), torch.randn(20, dtype=F64) * 1e-3]


def off(exact: list[Tensor], by: float) -> list[Tensor]:
    """In float32, ``by`` units in the last place of the largest value away."""
    eps = torch.finfo(torch.float32).eps
    scales = [x[x.isfinite()].abs().max() for x in exact]
    pairs = zip(exact, scales, strict=True)
    return [(x + by * eps * scale * torch.rand_like(x)).float() for x, scale in pairs]


def test_an_error_like_eagers_passes_and_one_of_ten_times_fails(exact: list[Tensor]) -> None:
    assert_as_near(off(exact, 8), off(exact, 8), exact)
    assert_as_near(off(exact, 800), off(exact, 800), exact)
    with pytest.raises(AssertionError, match="eager's"):
        assert_as_near(off(exact, 80), off(exact, 8), exact)


def test_one_wrong_number_among_many_fails(exact: list[Tensor]) -> None:
    ours = off(exact, 8)
    ours[1][3] += 1e-6
    with pytest.raises(AssertionError, match="tensor 1"):
        assert_as_near(ours, off(exact, 8), exact)


def test_what_is_not_finite_has_to_be_so_in_both(exact: list[Tensor]) -> None:
    exact[0][2, 3] = torch.inf
    assert_as_near(off(exact, 8), off(exact, 8), exact)
    for place, value in (((2, 3), torch.nan), ((2, 3), 1.0), ((0, 0), torch.nan)):
        ours = off(exact, 8)
        ours[0][place] = value
        with pytest.raises(AssertionError, match="tensor 0"):
            assert_as_near(ours, off(exact, 8), exact)


def test_what_is_missing_is_missing_in_all(exact: list[Tensor]) -> None:
    with pytest.raises(AssertionError, match="which tensors"):
        assert_as_near([None, exact[1]], exact, exact)


def test_float64_is_held_to_eager_itself(exact: list[Tensor]) -> None:
    with pytest.raises(AssertionError):
        assert_as_near([x + 1e-6 for x in exact], exact, exact)
