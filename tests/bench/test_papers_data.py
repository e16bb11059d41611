"""What the rows of papers are trained on, and the small models written for them."""

import random

import torch
from benchmarks.papers.forget_bias.xml import SYMBOLS, document, stream
from benchmarks.papers.reversal.__main__ import Language


def test_every_tag_of_a_document_is_closed_in_turn() -> None:
    for seed in range(30):
        text, opened = document(random.Random(seed)), []
        for tag in text.replace(">", "> ").split():
            assert tag[0] == "<" and tag[-1] == ">"
            if tag[1] == "/":
                assert opened.pop() == tag[2:-1]
            else:
                opened.append(tag[1:-1])
                assert 2 <= len(opened[-1]) <= 10 and opened[-1].isalpha()
        assert not opened


def test_half_of_all_documents_are_empty_and_none_opens_over_fifty_tags() -> None:
    texts = [document(random.Random(seed)) for seed in range(2000)]
    assert 0.45 < sum(not text for text in texts) / len(texts) < 0.55  # closes at once: stops
    assert max(text.count("</") for text in texts) <= 50


def test_a_stream_is_made_of_documents_and_of_its_seed() -> None:
    first, again, other = stream(500, 1), stream(500, 1), stream(500, 2)
    assert first.shape == (500,) and torch.equal(first, again) and not torch.equal(first, other)
    text = "".join(SYMBOLS[i] for i in first)
    assert text[0] == "<" and text[1] != "/"


def test_the_made_up_language_translates_and_moves_words() -> None:
    language = Language(words=6, length=5)
    torch.manual_seed(0)
    source, target = language.draw(40)
    for sentence, told in zip(source.t().tolist(), target.t().tolist(), strict=True):
        order, t = [], 0
        while t < 5:  # a second formulation: word by word, from the left
            if sentence[t] < 3 and t < 4:
                order += [sentence[t + 1], sentence[t]]
                t += 2
            else:
                order.append(sentence[t])
                t += 1
        assert told == [language.dictionary[w] for w in order]
    assert sorted(language.dictionary.tolist()) == list(range(6))
