"""The demo and what it is made of: the pixels, the short trainings, the story, its command."""

import functools
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from steadygrad.bench import demo_run
from steadygrad.bench.demo_fit import Reader, Recipe, one_thread
from steadygrad.bench.demo_run import Demo, Story
from steadygrad.cli import demo as command
from steadygrad.diagnosis import Diagnosis, diagnose
from steadygrad.diagnosis.forks import NOTHING
from steadygrad.errors import InputError
from steadygrad.record import read
from steadygrad.remedies import parse
from steadygrad.tasks.pixels import UNIT, Pixels, _images, split_rows

TINY = Recipe(hidden=24, epochs=2, trial_epochs=1, fresh_seeds=3, learning_rate=0.03)


@pytest.fixture(scope="module")
def task() -> Pixels:
    return Pixels()


# The pixels.


def test_every_image_is_in_one_part(task: Pixels) -> None:
    parts = [split_rows(split) for split in ("train", "val", "test")]
    assert sorted(torch.cat(parts).tolist()) == list(range(1797))
    assert [len(part) for part in parts] == [1078, 360, 359]
    assert task.facts()["train"] == 1078


def test_pixels_come_in_reading_order(task: Pixels) -> None:
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    batch = task.batches("val", 5)[0]
    assert batch.inputs.shape == (64, 5, 1)
    for column, image in enumerate(split_rows("val")[:5].tolist()):
        for t in range(64):
            pixel = digits.images[image][t // 8][t % 8] / 16
            assert batch.inputs[t, column, 0].item() == pytest.approx(pixel)
        assert batch.targets[column].item() == digits.target[image]


def test_shuffling_is_fixed_by_seed_and_epoch(task: Pixels) -> None:
    def order(shuffle: tuple[int, int] | None) -> list[int]:
        return torch.cat([b.targets for b in task.batches("train", 64, shuffle)]).tolist()

    first = order((3, 1))
    assert first == order((3, 1))
    assert first != order((3, 2)) and first != order((4, 1)) and first != order(None)
    assert sorted(first) == sorted(order(None))


def test_scores_count_right_answers(task: Pixels) -> None:
    answers = torch.eye(10)[torch.tensor([3, 3, 7])]
    total = task.tally(answers, torch.tensor([3, 4, 7])) + task.tally(
        answers, torch.tensor([1, 1, 1])
    )
    assert task.figures(total)[UNIT] == pytest.approx(100 * 2 / 6)
    (naive,) = task.naive("test")
    usual = int(torch.bincount(task.part("train")[1]).argmax())
    share = 100 * (task.part("test")[1] == usual).double().mean().item()
    assert naive.name == f"always {usual}" and naive.value == pytest.approx(share)
    assert 5 < naive.value < 15


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    _images.cache_clear()
    with pytest.raises(InputError, match=r"pip install 'steadygrad\[demo\]'"):
        Pixels().facts()


# What is left of the gradient.


X = 0.1 * torch.randn(30, 4, 2, generator=torch.Generator().manual_seed(0))


def probe(model: nn.Module) -> Diagnosis:
    return diagnose(model, lambda: model(X), lag=29)


def test_the_ratio_of_a_model_is_that_of_its_worst_layer() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.low, self.high = nn.RNN(2, 6), nn.RNN(6, 6)
            nn.init.orthogonal_(self.high.get_parameter("weight_hh_l0"))

        def forward(self, x: Tensor) -> Tensor:
            return self.high(self.low(x)[0])[0][-1].square().mean()

    found = probe(Two())
    each = [flow.left.at(29) for flow in found.flow.values()]
    assert len(each) == 2 and each[0] != each[1]
    # Of a stack the whole way is that to its lowest layer.
    assert found.log10_ratio == each[0]


# The story.


def tiny(task: Pixels, out: Path, recipe: Recipe = TINY) -> Story:
    return Demo(task, recipe, out, lambda what, done, total: None).run()


@pytest.fixture(scope="module")
def told() -> list[tuple[str, int, int]]:
    return []


@pytest.fixture(scope="module")
def story(
    task: Pixels, told: list[tuple[str, int, int]], tmp_path_factory: pytest.TempPathFactory
) -> Story:
    def tell(what: str, done: int, total: int) -> None:
        told.append((what, done, total))

    return Demo(task, TINY, tmp_path_factory.mktemp("demo"), tell).run()


def scores(story: Story) -> list[tuple[str, int, float]]:
    return [(f.candidate, f.seed, f.score) for f in story.choice.forks]


@pytest.mark.slow
def test_the_verdict_chooses_the_remedies(story: Story) -> None:
    assert story.before.verdict == "vanishing"
    assert story.before.horizon is not None and story.before.horizon < story.lag == 56
    prescribed = {name.partition(":")[0] for name in story.before.findings[0].remedies}
    first = [f.candidate for f in story.choice.forks if f.stage == "first"]
    assert {name.partition(":")[0] for name in first[1:]} == prescribed
    assert "orthogonal-init:gain=1.1" in first and first[0] == NOTHING
    assert len(set(first)) == len(first)


def test_what_is_kept_has_beaten_nothing_under_fresh_seeds(story: Story) -> None:
    fresh = [f for f in story.choice.forks if f.stage == "fresh"]
    assert {f.candidate for f in fresh} == {NOTHING, story.choice.kept}
    for name in (NOTHING, story.choice.kept):
        seeds = [f.seed for f in fresh if f.candidate == name]
        assert seeds == [TINY.seed + 1 + n for n in range(TINY.fresh_seeds)]
    assert story.choice.least is not None and story.choice.least > 0


def test_trials_start_where_the_first_run_started(task: Pixels, story: Story) -> None:
    demo = Demo(task, TINY, Path(), lambda what, done, total: None)
    left = demo.probe(demo.made(None, TINY.seed)[0]).log10_ratio
    for fork in story.choice.forks:
        assert fork.measured is not None
        assert (fork.measured.log10_ratio_before == left) == (fork.seed == TINY.seed)
    assert story.before.log10_ratio != left  # training moves it


def test_both_runs_have_the_same_budget(story: Story, told: list[tuple[str, int, int]]) -> None:
    assert story.after is not None
    lengths = []
    for trained in (story.before, story.after):
        run = read(trained.record)
        steps, losses = run.scalars("loss")
        assert len(losses) == TINY.epochs * 17  # 1078 images, 64 in a batch
        lengths.append(steps.tolist())
        epochs, values = run.scalars(f"val {UNIT}")
        assert len(epochs) == TINY.epochs and values.max() == pytest.approx(trained.validation)
        run.close()
    assert lengths[0] == lengths[1]
    done = {what: total for what, at, total in told if at == total}
    assert done.pop("plain RNN") == done.pop(f"RNN with {story.after.remedy}") == TINY.epochs
    assert set(done.values()) == {TINY.trial_epochs} and len(done) == len(story.choice.forks)


def test_the_records_hold_the_story(story: Story) -> None:
    assert story.after is not None
    before, after = read(story.before.record), read(story.after.record)
    assert story.choice.kept == story.after.remedy
    winner = parse(story.after.remedy)
    assert before.notes["verdict"] == "vanishing" and before.notes["lag"] == 56
    assert before.findings()[0]["fault"] == "vanishing"
    assert ("log10_grad", "rnn", "h") in before.quantities()
    (remedy,) = after.notes["remedies"]
    assert remedy["name"] == winner.name
    trials = after.notes["trials"]
    assert {t["remedy"] for t in trials if t["kept"]} == {winner.name}
    assert len(trials) == len(story.choice.forks) and after.notes["choice"] == story.choice.why
    for run, trained in ((before, story.before), (after, story.after)):
        ours, naive = run.notes["scores"]
        assert ours["value"] == pytest.approx(trained.test) and ours["ours"] is True
        assert naive["value"] == pytest.approx(story.naive.value)
        run.close()
    page = story.report.read_text(encoding="utf-8")
    assert winner.name in page and "56 steps" in page


@pytest.mark.slow
def test_the_test_images_have_no_part_in_the_choice(
    task: Pixels, story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "demo"  # where the first has been: a second one replaces it
    shutil.copytree(story.report.parent, out)
    x, digits = _images()[0], _images()[1].clone()
    digits[split_rows("test")] = (digits[split_rows("test")] + 1) % 10
    monkeypatch.setattr("steadygrad.tasks.pixels._images", lambda: (x, digits))
    other = tiny(task, out)
    assert scores(other) == scores(story)
    assert other.before.validation == story.before.validation
    assert other.after is not None and story.after is not None
    assert other.after.validation == story.after.validation
    assert other.before.test != story.before.test
    for name in ("before.db", "after.db"):
        run = read(out / name)
        assert len(run.scalars("loss")[0]) == TINY.epochs * 17
        run.close()
    page = (out / story.report.name).read_text(encoding="utf-8")
    assert page != story.report.read_text(encoding="utf-8")


@pytest.mark.slow
def test_where_nothing_beats_nothing_the_model_stays(
    task: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = torch.zeros_like(_images()[0]), _images()[1]
    torch.manual_seed(TINY.seed)
    answer = int(Reader(task, TINY.hidden)(x[:1].transpose(0, 1)).argmax())
    right = torch.full_like(y, answer)  # without any learning
    monkeypatch.setattr("steadygrad.tasks.pixels._images", lambda: (x, right))
    ended = tiny(task, tmp_path, replace(TINY, epochs=1))
    assert ended.before.test == 100
    assert ended.after is None and ended.choice.kept is None
    assert len(ended.choice.forks) > 1 and ended.choice.forks[0].candidate == NOTHING
    assert ended.report.exists() and not (tmp_path / "after.db").exists()


def test_a_folder_that_cannot_be_written_is_refused_at_once(task: Pixels, tmp_path: Path) -> None:
    def tell(what: str, done: int, total: int) -> None:
        raise AssertionError("it began to train")

    (tmp_path / "report.html").mkdir()
    with pytest.raises(InputError, match="is a folder, where a file should be written"):
        Demo(task, TINY, tmp_path, tell).run()
    (tmp_path / "after.db").write_text("precious")
    with pytest.raises(InputError, match="was not written by Steadygrad"):
        Demo(task, TINY, tmp_path, tell).run()
    assert (tmp_path / "after.db").read_text() == "precious"


@pytest.mark.slow
def test_a_shorter_second_demo_replaces_the_first(
    task: Pixels, story: Story, tmp_path: Path
) -> None:
    out = tmp_path / "demo"
    shutil.copytree(story.report.parent, out)
    again = tiny(task, out, replace(TINY, epochs=1))
    assert again.after is not None
    for name in ("before.db", "after.db"):
        run = read(out / name)
        assert len(run.scalars("loss")[0]) == 17
        run.close()
    page = (out / story.report.name).read_text(encoding="utf-8")
    assert page != story.report.read_text(encoding="utf-8")


# The command.


@pytest.mark.parametrize("is_terminal", [False, True])
def test_the_command_tells_the_story(
    story: Story,
    is_terminal: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Told(Demo):  # the same story, told in no time
        def run(self) -> Story:
            for done in range(3):
                self.tell("plain RNN", done, 2)
            return story

    monkeypatch.setattr(demo_run, "Demo", Told)
    monkeypatch.setattr(
        command, "Console", functools.partial(command.Console, force_terminal=is_terminal)
    )
    assert command.demo(tmp_path) == 0
    said = capsys.readouterr().out
    assert story.after is not None
    for part in ("plain RNN", "vanishing", story.after.remedy, f"{story.after.test:.1f}", "kept"):
        assert part in said
    assert ("plain RNN: 2 epochs" in said) == (not is_terminal)


def test_json_is_one_strict_document(
    story: Story,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = replace(story.before, log10_ratio=-float("inf"))
    for outcome, code in ((story, 0), (replace(story, before=before, after=None), 1)):
        told = outcome

        class Told(Demo):
            def run(self, told: Story = told) -> Story:
                return told

        monkeypatch.setattr(demo_run, "Demo", Told)
        assert command.demo(tmp_path, json=True) == code

        def refuse(word: str) -> Any:
            raise AssertionError(f"{word} is no JSON")

        document = json.loads(capsys.readouterr().out, parse_constant=refuse)
        assert document["before"]["verdict"] == "vanishing"
        assert document["before"]["findings"][0]["remedies"]
        assert (document["after"] is None) == (code == 1)
        assert len(document["trials"]) == len(story.choice.forks)
    assert document["before"]["log10_ratio"] == "-inf"


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_bad_seed_is_refused(seed: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--seed"):
        command.demo(tmp_path, seed)


def test_shares_beyond_a_float_are_written() -> None:
    assert command._share(-1000.0) == "1e-1000" and command._share(-float("inf")) == "0"
    assert command._share(-11.94) == "1.1e-12" and command._share(0.0) == "1"


def test_one_thread_gives_the_threads_back() -> None:
    threads = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_the_demo_shows_what_it_promises(
    seed: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.demo(tmp_path, seed, json=True) == 0
    document = json.loads(capsys.readouterr().out)
    before, after = document["before"], document["after"]
    assert before["verdict"] == "vanishing" and before["horizon"] < document["lag"]
    assert after["verdict"] == "healthy" and after["horizon"] >= document["lag"]
    assert after["test"] >= 90 and after["test"] - before["test"] >= 30
    assert document["seconds"] < 120
