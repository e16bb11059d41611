"""The watch in loops of other people's making: closures, wrapped optimisers, loggers, pages."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from steadygrad.diagnosis.watching.sinks import MOST, Memory
from steadygrad.loggers import Logger, loggers
from steadygrad.loggers.base import Maps
from steadygrad.record import read


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(3, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def batches(steps: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(30, 4, 3, generator=generator) for _ in range(steps)]


def train(step: Callable[[torch.optim.Optimizer, Reader, Tensor], object], **options: Any) -> Any:
    torch.manual_seed(0)
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = sg.watch(model, optimizer, every=1, lag=20, **options)
    for x in batches(6):
        step(optimizer, model, x)
    watch.close()
    return watch


def plain(optimizer: torch.optim.Optimizer, model: Reader, x: Tensor) -> None:
    optimizer.zero_grad()
    loss = model(x).square().mean()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()


def by_position(optimizer: torch.optim.Optimizer, model: Reader, x: Tensor) -> None:
    optimizer.step(_closure(optimizer, model, x))


def by_name(optimizer: torch.optim.Optimizer, model: Reader, x: Tensor) -> None:
    optimizer.step(closure=_closure(optimizer, model, x))


def _closure(optimizer: torch.optim.Optimizer, model: Reader, x: Tensor) -> Callable[[], Any]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
        return loss

    return closure


@pytest.mark.parametrize("step", [by_position, by_name])
def test_a_step_with_a_closure_is_measured_as_one_without(step: Any) -> None:
    expected, found = train(plain), train(step)
    assert found.step == expected.step == 6
    for name in ("grad_norm", "grad_norm_clipped", "clipped_share", "horizon", "update_ratio"):
        assert found.latest[name] == pytest.approx(expected.latest[name], rel=1e-6), name
    assert found.latest["clipped_share"] == 1.0
    assert found.verdict == expected.verdict == "vanishing"
    np.testing.assert_allclose(
        found.flow["rnn"].log10_grad, expected.flow["rnn"].log10_grad, rtol=1e-6
    )


def test_lbfgs_counts_one_step_however_often_it_evaluates() -> None:
    model = Reader()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)
    watch = sg.watch(model, optimizer, every=1, lag=20)
    calls = 0
    for x in batches(3):

        def closure(x: Tensor = x) -> Tensor:
            nonlocal calls
            calls += 1
            optimizer.zero_grad()
            loss = model(x).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)  # pyright: ignore[reportArgumentType]
    assert calls > 3 and watch.step == 3
    assert watch.flow and watch.verdict != "not measured yet"


def test_a_closure_that_turns_non_finite_is_blamed_where_it_broke() -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = sg.watch(model, optimizer, every=1)
    for i, x in enumerate(batches(3)):
        if i == 2:
            x[7, 1, 0] = torch.nan
        by_name(optimizer, model, x)
    (finding,) = [f for f in watch.findings if f.fault == "nonfinite"]
    assert finding.step == 3 and "7" in finding.text


class Wrapper:
    """As accelerate's and Lightning's: keeps the optimiser and hands calls on."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        self.optimizer.step()


class LikeAccelerate(torch.optim.Optimizer):
    """Derives from Optimizer and never calls its ``__init__``."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, closure: Any = None) -> Any:
        return self.optimizer.step()


@pytest.mark.parametrize("wrap", [Wrapper, LikeAccelerate])
def test_a_wrapped_optimizer_is_watched(wrap: Any) -> None:
    model = Reader()
    optimizer = wrap(torch.optim.SGD(model.parameters(), 0.1))
    watch = sg.watch(model, optimizer, every=1)
    for x in batches(2):
        model(x).square().mean().backward()
        optimizer.step()
    assert watch.step == 2 and watch.flow


@pytest.mark.parametrize("wrong", [object(), "adam", LikeAccelerate(None)])  # type: ignore[arg-type]
def test_what_holds_no_optimizer_is_refused_in_words(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a torch\.optim\.Optimizer"):
        sg.watch(Reader(), wrong)


def test_a_page_without_a_record(tmp_path: Path) -> None:
    watch = train(plain)
    page = watch.save(tmp_path / "report.html")
    text = page.read_text(encoding="utf-8")
    assert "rnn" in text and watch.verdict in text.lower()
    assert page.parent == tmp_path and len(list(tmp_path.iterdir())) == 1


def test_the_memory_writes_the_record_that_would_have_been(tmp_path: Path) -> None:
    from steadygrad.record import Record

    with Record.create(tmp_path / "a.db", config={}) as record:
        train(plain, record=record)
    watch = train(plain)
    watch._seen.sinks.memory.write(tmp_path / "b.db", {})
    with read(tmp_path / "a.db") as one, read(tmp_path / "b.db") as two:
        for name in ("grad_norm", "horizon", "update_ratio"):
            for x, y in zip(one.scalars(name), two.scalars(name), strict=True):
                np.testing.assert_array_equal(x, y)
        assert [f["fault"] for f in one.findings()] == [f["fault"] for f in two.findings()]
        assert one.notes["verdict"] == two.notes["verdict"]


def test_the_memory_is_bounded_and_keeps_the_whole_training_in_view(tmp_path: Path) -> None:
    memory = Memory()
    steps = 3 * MOST + 5
    for step in range(steps):
        memory.scalars(step, {"loss": step})
    memory.write(tmp_path / "x.db", {})
    with read(tmp_path / "x.db") as run:
        at, values = run.scalars("loss")
    assert len(at) <= MOST + 1 and at[0] == 0 and at[-1] > steps - 8
    np.testing.assert_array_equal(at, values)


def test_printing_a_watch_says_what_it_knows() -> None:
    watch = train(plain)
    assert watch.verdict in str(watch) and "step 6" in str(watch) and "grad_norm" in str(watch)
    assert all(isinstance(v, float) for v in watch.scalars().values())
    assert "verdict" not in watch.scalars()


def test_a_function_as_a_logger_is_told_numbers_and_findings() -> None:
    told: list[tuple[int, dict[str, Any]]] = []
    watch = train(plain, log=lambda step, values: told.append((step, values)))
    steps = [step for step, values in told if "grad_norm" in values]
    assert steps == [1, 2, 3, 4, 5, 6]
    faults = {values["fault"] for _, values in told if "finding" in values}
    assert {f.fault for f in watch.findings} <= faults


def test_an_unknown_logger_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="tensorboard"):
        loggers("tensorbord")
    with pytest.raises(TypeError, match="callable"):
        loggers(3)  # type: ignore[arg-type]
    mine = Logger()
    assert loggers([mine]) == [mine] and loggers(None) == []


def test_the_picture_is_white_where_all_is_left_and_black_where_nothing_is() -> None:
    maps = Maps()
    maps.add("log10_grad", "rnn", np.array([-np.inf, -12.0, -6.0, 0.0]), "h")
    drawn = maps.add("log10_grad", "rnn", np.array([np.nan, 3.0]), "h")
    assert drawn is not None and drawn[0] == "gradient/rnn/h"
    np.testing.assert_array_equal(drawn[1], [[0, 0, 128, 255], [0, 0, 0, 255]])
    assert maps.add("log10_ratio", "rnn", np.zeros(2), "h") is None


def test_a_watched_model_is_pickled_and_copied_without_the_watch(tmp_path: Path) -> None:
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    watch = sg.watch(model, optimizer, every=1)
    x = batches(1)[0]
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        twin(x).sum().backward()
        torch.testing.assert_close(twin(x), model(x))
    torch.save(model, tmp_path / "model.pt")
    plain(optimizer, model, x)
    assert watch.step == 1
    pickle.loads(pickle.dumps(optimizer))
