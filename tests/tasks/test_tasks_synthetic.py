"""Tasks drawn at random: answered without error by a program that remembers, and not without."""

import importlib
import math
import pkgutil
from collections.abc import Callable
from dataclasses import fields
from itertools import islice
from typing import Any, get_args

import pytest
import torch
from torch import Generator, Tensor

from steadygrad import tasks
from steadygrad.errors import InputError
from steadygrad.spec import read_spec, write_spec
from steadygrad.tasks import TASKS, Benchmark, Synthetic
from steadygrad.tasks.formal_language import FormalLanguage
from steadygrad.tasks.synthetic import NATS, SQUARED_ERROR, WRONG, Regression

DRAWN: dict[str, type[Synthetic]] = {
    name: kind
    for name, kind in TASKS.items()
    if issubclass(kind, Synthetic) and name != "narma"  # it does not remember but compute
}
# Another value for each option that is a number; literals are tried one by one.
OTHER: dict[str, Any] = {
    "length": 40, "symbols": 5, "recall": 4, "delay": 3, "pattern": 3, "values": 4, "every": True,
    "longest": 60,
    "pairs": 6,
}  # fmt: skip


def variants() -> list[Synthetic]:
    """Every task with its defaults, and with each option changed by itself."""
    found: list[Synthetic] = []
    for kind in DRAWN.values():
        found.append(kind())
        for option in fields(kind):  # type: ignore[arg-type]
            if option.name == "notes":
                continue
            hint: Any = option.type
            choices = get_args(hint) or (OTHER[option.name],)
            found += [kind(**{option.name: c}) for c in choices if c != option.default]
    return found


def sampled() -> list[Any]:
    """`variants` as parameters: those whose number alone differs are slow."""
    found = []
    for task in variants():
        given = [(getattr(task, f.name), f.default) for f in fields(task)]  # type: ignore[arg-type]
        is_number = any(type(v) in (int, float) and v != default for v, default in given)
        marks = [pytest.mark.slow] * is_number
        found.append(pytest.param(task, marks=marks, id=write_spec(task.name, task)))
    return found


@pytest.fixture(params=sampled())
def task(request: pytest.FixtureRequest) -> Synthetic:
    return request.param


def made(spec: str) -> Synthetic:
    return read_spec(spec, DRAWN, "task")


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


# ---- programs that remember, written from the papers' words, one sequence at a time ------------


def marked(task: Any, x: Tensor, y0: float) -> tuple[float, float]:
    at = [t for t in range(len(x)) if x[t, 1] == 1]
    values = [x[t, 0].item() for t in at]
    return (values[0], values[1]) if len(values) == 2 else (y0, values[0])


def add(task: Any, x: Tensor) -> float:
    a, b = marked(task, x, 0.0)
    return {"le": a + b, "martens": (a + b) / 2, "hochreiter": 0.5 + (a + b) / 4}[task.form]


def multiply(task: Any, x: Tensor) -> float:
    a, b = marked(task, x, 1.0)
    return a * b


def copy(task: Any, x: Tensor) -> list[int]:
    codes = x.argmax(-1).tolist()
    symbols = [c for c in codes if c < task.symbols]
    # Henaff et al.: the answer follows the delimiter, wherever it stands; else it ends the sequence
    silent = (
        codes.index(task.symbols + 1) + 1 if task.form == "henaff" else len(codes) - task.recall
    )
    told = [task.symbols] * silent + symbols
    return told + [task.symbols] * (len(codes) - len(told))


def selective(task: Any, x: Tensor) -> list[int]:
    codes = x.argmax(-1).tolist()
    found = [c for c in codes[: codes.index(task.symbols + 1)] if c < task.symbols]
    return [task.symbols] * (len(codes) - len(found)) + found


def associate(task: Any, x: Tensor) -> list[int]:
    codes, held, told = x.argmax(-1).tolist(), {}, []
    for before, now in zip([None, *codes], codes, strict=False):
        if task.symbols <= now < 2 * task.symbols:
            held[before] = now - task.symbols
        is_question = len(told) >= task.length
        told.append(held[now] if is_question else -1)
    return told


def memorise(task: Any, x: Tensor) -> list[int]:
    codes = x.argmax(-1).tolist()
    go = codes.index(task.values + 1)
    pattern = codes[: task.pattern]
    return [task.values] * (go + 1) + pattern


def order(task: Any, x: Tensor) -> int:
    seen = [c for c in x.argmax(-1).tolist() if c < 2]
    return sum(v * 2**k for k, v in enumerate(seen))


def xor(task: Any, x: Tensor) -> list[int]:
    s = [int(v) for v in x[:, 0]]
    d = task.delay
    return [-1 if t < 2 * d else int(s[t - d] != s[t - 2 * d]) for t in range(len(s))]


def parity(task: Any, x: Tensor) -> Any:
    odd = [int(x[: t + 1, 0].sum()) % 2 for t in range(len(x))]
    return odd if task.every else odd[-1]


def permutation(task: Any, x: Tensor) -> int:
    return int(x[0].argmax())


def even_pairs(task: Any, x: Tensor) -> int:
    text = "".join("ab"[c] for c in x.argmax(-1).tolist())
    return int(sum(text[k : k + 2] in ("ab", "ba") for k in range(len(text))) % 2 == 0)


def walk(task: Any, x: Tensor) -> int:
    place = 0
    for move in x.argmax(-1).tolist():
        place = {0: place, 1: (place + 1) % 5, 2: (place + 4) % 5}[move]
    return place


def told_after(task: Any, x: Tensor, arranged: Callable[[list[int]], list[int]]) -> list[int]:
    shown = [c for c in x.argmax(-1).tolist() if c < task.output_size]
    return [-1] * len(shown) + arranged(shown)


def bucket_sort(task: Any, x: Tensor) -> list[int]:
    return told_after(task, x, sorted)


def reverse_string(task: Any, x: Tensor) -> list[int]:
    return told_after(task, x, lambda shown: shown[::-1])


PROGRAMS: dict[str, Callable[[Any, Tensor], Any]] = {
    "adding": add, "multiplication": multiply, "copy": copy, "memorisation": memorise,
    "temporal-order": order, "delayed-xor": xor, "parity": parity, "permutation": permutation,
    "even-pairs": even_pairs, "cycle-navigation": walk, "bucket-sort": bucket_sort,
    "reverse-string": reverse_string, "selective-copy": selective,
    "associative-recall": associate,
}  # fmt: skip


def answers(task: Synthetic, targets: Tensor) -> Tensor:
    """Outputs that say ``targets`` with certainty."""
    if isinstance(task, Regression):
        return targets
    return 100.0 * torch.nn.functional.one_hot(targets.clamp_min(0), task.output_size)


def test_a_program_that_remembers_makes_no_error(task: Synthetic) -> None:
    inputs, targets = task.draw(40, generator())
    told = [PROGRAMS[task.name](task, inputs[:, b]) for b in range(40)]
    said = torch.tensor(told, dtype=targets.dtype)
    said = said.T if task.every_step else said.reshape(targets.shape)
    torch.testing.assert_close(said, targets)
    figures = task.figures(task.tally(answers(task, said), targets))
    assert task.solved(figures)
    assert figures[task.deciding] == (100 if task.better[task.deciding] == "higher" else 0)


def blanks_then_a_guess(task: Any, inputs: Tensor) -> Tensor:
    """For ``S`` steps after the delimiter any symbol alike, blanks in all others."""
    since = torch.arange(len(inputs))[:, None] - inputs[..., task.symbols + 1].argmax(0)
    guessed = ((since > 0) & (since <= task.recall))[..., None]
    symbol = torch.arange(task.output_size) < task.symbols
    return torch.where(guessed == symbol, 0.0, -100.0)


def best_without_memory(task: Synthetic, inputs: Tensor, targets: Tensor) -> Tensor:
    """The constant mean, or the frequencies of the targets at each step."""
    if isinstance(task, Regression):
        return targets.mean().expand_as(targets)
    if getattr(task, "form", "") == "henaff":
        return blanks_then_a_guess(task, inputs)
    counts = torch.nn.functional.one_hot(targets.clamp_min(0), task.output_size).double()
    share = counts.mean(-2, keepdim=True).expand_as(counts)
    return share.clamp_min(1e-30).log()


def test_without_memory_the_closed_form_is_what_is_scored(task: Synthetic) -> None:
    drawn = [task.draw(2000, generator(s)) for s in range(3, 9)]
    tallies = [task.tally(best_without_memory(task, x, y), y) for x, y in drawn]
    figures = task.figures(torch.stack(tallies).sum(0))
    for unit, value in task.no_memory.items():
        if unit in (NATS, SQUARED_ERROR, "nats per step"):
            assert figures[unit] == pytest.approx(value, rel=0.03), unit
        else:  # the most frequent class of a sample is right a little more often than by chance
            assert figures[unit] == pytest.approx(value, abs=3.5), unit
    assert not task.solved(figures)


# Where the delimiter may stand, the first step being 1, as the papers print it; S = 4, T = 40.
DELIMITER = {
    "arjovsky": {44}, "tcn": {44, 45, 46, 47, 48}, "geotorch": {45}, "henaff": set(range(5, 45)),
}  # fmt: skip


@pytest.mark.parametrize("form", DELIMITER)
def test_the_forms_of_copying_are_laid_out_as_in_their_papers(form: str) -> None:
    task = made(f"copy:length=40,recall=4,form={form}")
    inputs, targets = task.draw(2000, generator())
    codes = inputs.argmax(-1)
    assert codes.shape == targets.shape == (48, 2000)
    assert (codes[:4] < 8).all() and (codes[4:] >= 8).all()
    assert {int(t) + 1 for t in (codes == 9).nonzero()[:, 0]} == DELIMITER[form]
    assert bool(((codes == 9).sum(0) == (5 if form == "tcn" else 1)).all())
    assert bool(((targets < 8).sum(0) == 4).all())
    if form != "henaff":
        assert torch.equal(targets[-4:], codes[:4])
    first = (targets < 8).double().argmax(0)  # where a sequence's first symbol is wanted
    assert task.required_lag == pytest.approx(float(first.double().mean()), abs=1)


@pytest.mark.parametrize("kind", [k for k in DRAWN.values() if issubclass(k, FormalLanguage)])
def test_formal_languages_are_scored_on_longer_strings_alone(kind: type[FormalLanguage]) -> None:
    task = kind(length=6, longest=20)  # pyright: ignore[reportCallIssue]
    per_symbol = 2 if task.every_step else 1
    lengths = {
        split: [len(b.inputs) // per_symbol for b in task.batches(split, 40, (0, 0))]
        for split in ("train", "val", "test")
    }
    assert set(lengths["train"]) == set(range(1, 7)) == set(lengths["val"])
    assert set(lengths["test"]) == set(range(7, 21)) and lengths["val"][0] == 6
    for batch in task.batches("test", 40):
        told = [PROGRAMS[task.name](task, batch.inputs[:, b]) for b in range(40)]
        assert torch.tensor(told).transpose(0, -1).tolist() == batch.targets.tolist()


def test_published_baselines() -> None:
    for length, nats in ((100, 0.17329), (200, 0.09452), (500, 0.03999), (1000, 0.02039)):
        assert made(f"copy:length={length}").no_memory["nats per step"] == pytest.approx(
            nats, abs=1e-5
        )
    assert made("adding").no_memory[SQUARED_ERROR] == pytest.approx(1 / 6)
    assert made("adding:form=martens").no_memory[SQUARED_ERROR] == pytest.approx(1 / 24)
    assert made("temporal-order:symbols=3").no_memory[NATS] == pytest.approx(math.log(8))


def test_the_answer_is_out_of_reach_below_the_required_lag(task: Synthetic) -> None:
    """In half of the sequences at least, what is asked for lies as far back as is said, or more."""
    inputs, _ = task.draw(200, generator())
    lag = task.required_lag
    assert lag is not None and 0 < lag < len(inputs)
    if task.every_step:
        return  # by construction, see the programs above
    steps = len(inputs)
    far = 0
    for b in range(200):
        told = PROGRAMS[task.name](task, inputs[:, b])
        changed = inputs[:, b].clone()
        changed[: steps - lag] = inputs[: steps - lag, b - 1]  # what lies further back, of another
        far += int(torch.as_tensor(told).ne(torch.as_tensor(_try(task, changed))).any())
    assert far >= 20


def _try(task: Synthetic, x: Tensor) -> Any:
    try:
        return PROGRAMS[task.name](task, x)
    except (IndexError, ValueError):
        return -1.0


def test_shapes_and_sizes(task: Synthetic) -> None:
    # strings of a formal language may be shorter in training
    batch = task.batches("val" if isinstance(task, FormalLanguage) else "train", 6)[0]
    steps = len(batch.inputs)
    assert task.time_steps <= steps <= 1.1 * task.time_steps + 1
    assert batch.inputs.shape == (steps, 6, task.input_size)
    assert batch.inputs.dtype == torch.float32 and batch.fresh
    outputs = torch.zeros(*((steps,) if task.every_step else ()), 6, task.output_size)
    loss = task.loss(outputs, batch.targets)
    assert loss.shape == () and loss.isfinite()
    assert set(task.figures(task.tally(outputs, batch.targets))) == set(task.better)


def test_batches_are_fresh_in_training_and_fixed_in_scoring(task: Synthetic) -> None:
    train = task.batches("train", 4, (0, 0))
    assert torch.equal(train[3].inputs, task.batches("train", 4, (0, 0))[3].inputs)
    for other in (
        train[4],
        task.batches("train", 4, (0, 1))[3],
        task.batches("train", 4, (1, 0))[3],
    ):
        assert not torch.equal(train[3].inputs, other.inputs)
    val, test = task.batches("val", 300), task.batches("test", 300)
    assert sum(b.inputs.shape[1] for b in val) == 1000
    assert sum(b.inputs.shape[1] for b in test) == 2000
    assert torch.equal(val[0].inputs, task.batches("val", 300, (9, 9))[0].inputs)
    assert not torch.equal(val[0].inputs, test[0].inputs)
    # torch seeds its generator with 32 bits: seeds that differ above them draw the same.
    scored = {hash(b.inputs.numpy().tobytes()) for b in (*val, *test)}
    trained = {
        hash(b.inputs.numpy().tobytes())
        for shuffle in ((0, 0), (0, 1), (1, 0), (1, 2))
        for b in islice(task.batches("train", 300, shuffle), 20)
    }
    assert not scored & trained and len(trained) == 80
    with pytest.raises(IndexError):
        val[len(val)]


def test_every_option_changes_what_is_drawn() -> None:
    for kind in DRAWN.values():
        plain = kind()
        for other in variants():
            if type(other) is kind and other != plain:
                x, y = plain.draw(50, generator())
                z, w = other.draw(50, generator())
                same = x.shape == z.shape and torch.equal(x, z) and torch.equal(y, w)
                if same and isinstance(plain, FormalLanguage):  # `longest` is of the test part
                    tests = [k.batches("test", 50)[0].inputs for k in (plain, other)]
                    same = tests[0].shape == tests[1].shape
                assert not same, other


def test_a_nan_answer_is_wrong() -> None:
    task = made("adding")
    _, y = task.draw(5, generator())
    figures = task.figures(task.tally(torch.full_like(y, math.nan), y))
    assert figures[WRONG] == 100 and not task.solved(figures)


def test_a_spec_is_read_back(task: Synthetic) -> None:
    assert read_spec(write_spec(task.name, task), TASKS, "task") == task


@pytest.mark.parametrize(
    "spec, message",
    [
        ("adding:length=3", "task adding: length 3: expected at least 20 steps"),
        ("adding:form=x", "must be 'le' or 'martens' or 'hochreiter'"),
        ("delayed-xor:delay=150", "length 300: expected above 2 delays, 300"),
        ("copy:recall=0", "recall 0: expected at least 1"),
        ("adding:lag=3", "adding has no option 'lag'; options of adding: length"),
        ("nonsense", "no task 'nonsense' in 'nonsense'; there are: adding"),
    ],
)
def test_bad_options_are_refused_in_one_line(spec: str, message: str) -> None:
    with pytest.raises((InputError, ValueError), match=message) as caught:
        read_spec(spec, TASKS, "task")
    assert "\n" not in str(caught.value)


def test_no_task_is_left_out() -> None:
    for module in pkgutil.iter_modules(tasks.__path__):
        importlib.import_module(f"steadygrad.tasks.{module.name}")
    found, written = [Benchmark], set()
    while found:
        kind = found.pop()
        found += kind.__subclasses__()
        if "name" in vars(kind) and kind.__module__.startswith("steadygrad.tasks."):
            written.add(kind)
    assert set(TASKS.values()) == written
    assert len({kind.name for kind in written}) == len(written)


def test_every_task_says_its_baseline_shapes_and_source() -> None:
    for kind in TASKS.values():
        text = kind.__doc__ or ""
        assert all(part in text for part in ("Shapes:", "Baseline:", "References:")), kind
