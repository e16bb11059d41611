"""The character models of the lesson: trained, and read on the page as by autograd in float64."""

import json

import pytest
import torch

from steadygrad.errors import InputError
from steadygrad.learn import RememberLesson
from steadygrad.learn.remember import (
    CELLS,
    LAGS,
    LETTERS,
    RememberResult,
    _scene,
    by_lag,
    packed,
    reach,
    train,
)
from tests.learn.scripts import compute

SENTENCE = "oh dear! the white rabbit ran late"


@pytest.fixture(scope="module")
def result() -> RememberResult:
    return RememberLesson(sentence=SENTENCE, at=20, hidden=16, updates=40).run()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("place", [1, 19, len(SENTENCE) - 1])
def test_the_page_reads_the_model_as_autograd_does(
    result: RememberResult, cell: str, place: int
) -> None:
    case = {"sentence": SENTENCE, "at": place, "cell": cell, "decades": 6}
    (made,) = compute("remember", "remember", case, data=_scene(result).data)
    model = train(cell, 16, 40, 0)
    expected = reach(cell, model, SENTENCE, place)
    assert made["norms"] == pytest.approx(expected.gradient, rel=1e-5)
    assert made["text"]["chance"] == pytest.approx(expected.chance, rel=1e-5)
    assert made["text"]["far"] == expected.letters_back


def test_the_page_computes_in_float64_what_the_packed_weights_say() -> None:
    """Weights that float32 holds exactly: the page and autograd agree to float64's precision."""
    model = train("lstm", 8, 3, 1)
    with torch.no_grad():
        # The page is given the sum of both biases, rounded.
        dict(model.layer.named_parameters())["bias_hh_l0"].zero_()
    data = {
        "letters": LETTERS,
        "models": {"lstm": packed(model), "rnn": packed(train("rnn", 8, 3, 1))},
    }
    case = {"sentence": SENTENCE, "at": 25, "cell": "lstm", "decades": 6}
    (made,) = compute("remember", "remember", case, data=data)
    assert made["norms"] == pytest.approx(reach("lstm", model, SENTENCE, 25).gradient, rel=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_training_lowers_the_bits_a_letter(cell: str) -> None:
    before, after = (reach(cell, train(cell, 16, n, 0), SENTENCE, 5).bits for n in (0, 60))
    assert before == pytest.approx(torch.log2(torch.tensor(float(len(LETTERS)))).item(), abs=0.3)
    assert after < before - 1


def test_the_gradient_by_lag_is_that_of_single_places() -> None:
    model = train("rnn", 8, 0, 0)
    share = by_lag(model)
    assert len(share) == len(LAGS) and max(share) <= 0
    assert share[-1] < share[1]


def test_the_record_has_numbers_and_no_weights(result: RememberResult) -> None:
    record = result.to_record()
    assert "models" not in record
    assert len(record["reach"][0]["gradient"]) == 19
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(
    ("sentence", "at", "says"),
    [("a", 0, "2 to 100 letters"), ("abc", 9, "at must be 2 to 3"), ("abc", 1, "have a past")],
)
def test_a_sentence_without_a_past_is_refused(sentence: str, at: int, says: str) -> None:
    with pytest.raises(InputError, match=says):
        RememberLesson(sentence=sentence, at=at).run()


def test_letters_that_the_models_do_not_know_are_spaces(result: RememberResult) -> None:
    case = {"sentence": "A 9é Rabbit", "at": 10, "cell": "rnn", "decades": 6}
    plain = {"sentence": "a    rabbit", "at": 10, "cell": "rnn", "decades": 6}
    one, other = compute("remember", "remember", case, plain, data=_scene(result).data)
    assert one["norms"] == other["norms"]
