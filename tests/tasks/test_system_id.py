"""Records of systems: the official parts, as the benchmark's own package cuts them."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from steadygrad.errors import InputError
from steadygrad.tasks import SystemID
from steadygrad.tasks.base import Split
from steadygrad.tasks.system_id import System

SPLITS: tuple[Split, ...] = ("train", "val", "test")
DATA = Path(os.environ.get("STEADYGRAD_DATA", "/nowhere"))
TANKS = DATA / "cascaded_tanks" / "dataBenchmark.csv"
SILVERBOX = DATA / "silverbox" / "SNLS80mV.csv"
needs_data = pytest.mark.skipif(
    not (TANKS.exists() and SILVERBOX.exists()),
    reason="STEADYGRAD_DATA is not set, or has no cascaded_tanks and silverbox",
)
PARTS: dict[System, tuple[int, int, int]] = {
    "tanks": (700, 324, 1024),
    "silverbox-multisine": (48_796, 16_266, 21_688),
    "silverbox": (48_796, 16_266, 40_475),
    "silverbox-no-extrapolation": (48_796, 16_266, 32_000),
}


def columns(path: Path) -> dict[str, np.ndarray]:
    with path.open() as file:
        rows = [row for row in csv.reader(file) if row]
    return {
        name.strip(): np.array([float(row[k]) for row in rows[1:] if row[k]])
        for k, name in enumerate(rows[0])
        if name.strip()
    }


@needs_data
@pytest.mark.parametrize("name", ["tanks", pytest.param("silverbox", marks=pytest.mark.slow)])
def test_the_parts_are_those_of_the_benchmarks_own_package(name: str, tmp_path: Path) -> None:
    package = pytest.importorskip("nonlinear_benchmarks")
    save = pytest.importorskip("scipy.io").savemat
    # the loader takes what stands in its folder for downloaded and unpacked
    if name == "tanks":
        folder = tmp_path / "Cascaded_Tanks" / "CascadedTanksFiles"
        folder.mkdir(parents=True)
        folder.with_suffix(".zip").touch()
        file = {name: values[:, None] for name, values in columns(TANKS).items()}
        save(folder / "dataBenchmark.mat", file)
        train, test = package.Cascaded_Tanks(dir_placement=tmp_path)
        tests = (test,)
    else:
        folder = tmp_path / "Silverbox" / "SilverboxFiles"
        folder.mkdir(parents=True)
        folder.with_suffix(".zip").touch()
        file = {name: values[None] for name, values in columns(SILVERBOX).items()}
        save(folder / "SNLS80mV.mat", file)
        train, tests = package.Silverbox(dir_placement=tmp_path)
    systems: list[System] = [system for system in PARTS if system.startswith(name)]
    for system, test in zip(systems, tests, strict=True):
        task = SystemID(system=system)
        parts = [task.record("test", scaled=False)]
        if system == systems[0]:
            parts = [task.record("train", scaled=False), task.record("val", scaled=False), *parts]
        assert test.state_initialization_window_length == task.washout
        for k, official in enumerate(("u", "y")):
            ours = torch.cat([part[k] for part in parts]).ravel().numpy()
            theirs = [getattr(p, official) for p in (train, test)[-len(parts) :]]
            np.testing.assert_array_equal(ours, np.concatenate(theirs))
        assert tuple(len(task.record(split)[0]) for split in SPLITS) == PARTS[system]


@needs_data
def test_scaling_knows_the_training_part_alone() -> None:
    task = SystemID(system="tanks")
    (u, y), (_, raw) = task.record("train"), task.record("train", scaled=False)
    for series in (u, y):
        assert float(series.mean()) == pytest.approx(0, abs=1e-5)
        assert float(series.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert task.unit == pytest.approx(float(raw.std(correction=0)))
    test, asked = task.record("test")[1], task.record("test", scaled=False)[1]
    torch.testing.assert_close(
        test.double() * task.unit + raw.mean(), asked, atol=1e-5, rtol=1e-6, check_dtype=False
    )


@needs_data
def test_a_record_that_is_not_the_official_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cascaded_tanks").mkdir()
    text = TANKS.read_text()
    (tmp_path / "cascaded_tanks" / TANKS.name).write_text(text.replace("3", "4", 1))
    monkeypatch.setenv("STEADYGRAD_DATA", str(tmp_path))
    with pytest.raises(InputError, match="damaged or another version"):
        SystemID(system="tanks").record("train", scaled=False)
