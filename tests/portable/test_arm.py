"""Kernels as 64-bit Arm code; `python -m tests.portable.arm` prints the table of all ten cells."""

from pathlib import Path

import pytest
import torch

from tests.portable import arm
from tests.portable.emulated import missing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(missing() is not None, reason=missing() or ""),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("name", ["lstm", "gru-original", "mingru"])
def test_a_cell_on_arm_is_as_near_as_eager(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    rows = list(arm.rows_of(name, dtype, tmp_path / "kernels"))
    assert len(rows) == 3
    assert not [row for row in rows if row.fault]
