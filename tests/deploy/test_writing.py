"""A trained language model writes: from its folder alone, and never what it does not know."""

import itertools
from pathlib import Path

import pytest
import torch

import steadygrad as sg
from steadygrad.cli.app import run as cli
from steadygrad.deploy import TextModel
from steadygrad.errors import InputError
from steadygrad.tasks.text_spec import UNKNOWN, TextSpec
from steadygrad.train import TrainConfig, train
from steadygrad.train.sampling import sample

TEXT = "the cat sat on the mat.\n" * 100


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text(TEXT)
    out = folder / "run"
    config = TrainConfig(
        folder / "a.txt",
        window=16,
        hidden=16,
        max_steps=30,
        validate_every=30,
        learning_rate=1e-2,
        budget=0.0,
        lag="none",
        threads=1,
        out=out,
    )
    assert train(config).margin
    (folder / "a.txt").unlink()
    return out.rename(folder / "moved")


@pytest.fixture
def model(run: Path) -> TextModel:
    found = sg.load(run)
    assert isinstance(found, TextModel)
    return found


def test_the_coldest_text_is_the_most_probable_one(model: TextModel) -> None:
    """By hand: the whole text so far through the module each time, no state carried."""
    codes = model.spec.encode("the ")
    for _ in range(12):
        with torch.no_grad():
            logits = model.module(torch.tensor(codes)[:, None])[0]
        codes.append(int(logits[-1, 0].argmax()))
    wanted = model.spec.decode(codes[4:])
    assert model.generate("the ", length=12, temperature=0) == wanted


def test_a_seed_fixes_the_text_and_a_stream_answers_line_by_line(model: TextModel) -> None:
    first = model.generate(length=40, seed=1)
    assert len(first) == 40 and first == model.generate(length=40, seed=1)
    stream = model.stream(seed=2)
    answers = [stream.push("the cat"), stream.push("on the mat.")]
    assert all("\n" not in answer for answer in answers)
    with pytest.raises(InputError, match="Q"):
        stream.push("Q")


def test_what_is_unknown_is_never_drawn(model: TextModel) -> None:
    spec = TextSpec((*model.spec.vocabulary[:-1], UNKNOWN), "char", 16)
    generator = torch.Generator().manual_seed(0)
    drawn = sample(model.module, spec, [0], 100.0, generator)
    assert UNKNOWN not in {spec.vocabulary[c] for c in itertools.islice(drawn, 300)}


def test_the_command_line_writes_and_refuses_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["generate", str(run), "--prompt", "the", "--length", "5", "--seed", "1"]) == 0
    assert len(capsys.readouterr().out) == 3 + 5 + 1
    for arguments in (["--temperature", "-1"], ["--length", "0"], ["--prompt", "Q"]):
        assert cli(["generate", str(run), *arguments]) == 2
        said = capsys.readouterr().err.strip().splitlines()
        assert len(said) == 1
    assert cli(["forecast", str(run), str(run)]) == 2
