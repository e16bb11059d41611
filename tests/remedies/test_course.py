"""A course of remedies in a loop: as each remedy by hand, resumable, and undone as a whole."""

import copy

import pytest
import torch
from torch import Tensor, nn

from steadygrad.remedies import (
    AutoClip,
    ClipNorm,
    Course,
    Flossing,
    Gated,
    Nonfinite,
    Omega,
    OrthogonalInit,
    RecurrentDecay,
    Remedy,
    Skip,
)

T, B, I, H = 9, 4, 3, 6


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn: nn.Module = nn.RNN(I, H)
        self.head = nn.Linear(H, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][-1])


def batches(count: int) -> list[Tensor]:
    source = torch.Generator().manual_seed(1)
    return [torch.randn(T, B, I, dtype=torch.float64, generator=source) for _ in range(count)]


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return model(x).square().sum()


def steps(course: Course, optimizer: torch.optim.Optimizer, given: list[Tensor]) -> None:
    for x in given:
        loss = loss_of(course.model, x)
        optimizer.zero_grad()
        (loss + course.penalty(loss)).backward()
        course.gradients()
        optimizer.step()


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return len(one) == len(two) and all(map(torch.equal, one, two))


REMEDIES: list[Remedy] = [OrthogonalInit(), RecurrentDecay(0.1), Omega(), AutoClip(50.0)]


def test_a_course_is_its_remedies_by_hand() -> None:
    model = Reader()
    torch.manual_seed(3)
    course = Course(REMEDIES, model)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    course.begin(optimizer)
    steps(course, optimizer, batches(4))

    twin = Reader()
    torch.manual_seed(3)
    applied = [remedy.apply(twin) for remedy in REMEDIES]
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    clip = REMEDIES[-1].begin(twin, optimizer)
    for x in batches(4):
        loss = loss_of(twin, x)
        optimizer.zero_grad()
        (loss + sum(a.penalty(loss) for a in applied)).backward()
        clip()
        optimizer.step()
    torch.testing.assert_close(weights(model), weights(twin), rtol=1e-12, atol=0)


def test_without_remedies_it_does_nothing() -> None:
    model = Reader()
    course = Course((), model, optimizer := torch.optim.SGD(model.parameters(), 0.1))
    loss = loss_of(model, batches(1)[0])
    assert course.penalty(loss).item() == 0 and course.gradients() == {}
    assert course.state_dict() == {} and course.treatments == []
    steps(course, optimizer, batches(2))
    plain = Reader()
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    for x in batches(2):
        optimizer.zero_grad()
        loss_of(plain, x).backward()
        optimizer.step()
    assert same(weights(model), weights(plain))


def test_a_resumed_course_goes_on_bit_equal() -> None:
    flossing = Flossing(before=1, bout=1, bouts=1, every=3, rate=0.01, discard=1)
    remedies = [flossing, AutoClip(50.0)]

    def begun() -> tuple[Course, torch.optim.Optimizer]:
        course = Course(remedies, Reader())
        optimizer = torch.optim.SGD(course.model.parameters(), 0.1)
        course.begin(optimizer)
        return course, optimizer

    course, optimizer = begun()
    given = batches(6)
    steps(course, optimizer, given[:2])
    saved, middle = copy.deepcopy(course.state_dict()), copy.deepcopy(course.model.state_dict())
    steps(course, optimizer, given[2:])
    other, optimizer = begun()
    other.model.load_state_dict(middle)
    other.load_state_dict(saved | {"model/other": torch.zeros(1)})  # beside a whole checkpoint
    steps(other, optimizer, given[2:])
    assert same(weights(course.model), weights(other.model))
    forgetful, optimizer = begun()
    forgetful.model.load_state_dict(middle)
    steps(forgetful, optimizer, given[2:])
    assert not same(weights(course.model), weights(forgetful.model))


def test_a_state_of_other_remedies_is_refused() -> None:
    model = Reader()
    course = Course((AutoClip(),), model, torch.optim.SGD(model.parameters(), 0.1))
    for wrong in ({}, {"remedy/0/counts": torch.zeros(4)}):
        with pytest.raises(ValueError, match=r"does not fit.*expected tensors \{'remedy/0/"):
            course.load_state_dict(wrong)


def test_one_that_joins_acts_before_the_others() -> None:
    model = Reader()
    course = Course((ClipNorm(0.1),), model)
    with pytest.raises(RuntimeError, match="begin"):
        course.join(Nonfinite("zero"))
    course.begin(torch.optim.SGD(model.parameters(), 0.1))
    course.join(Nonfinite("zero"))
    assert course.joined == 1
    loss_of(model, batches(1)[0]).backward()
    grad = next(model.parameters()).grad
    assert grad is not None
    grad.view(-1)[0] = torch.nan
    done = course.gradients()
    assert list(done) == ["nonfinite", "clip-norm"] and bool(done["nonfinite"]["nonfinite"])
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
    with pytest.raises(RuntimeError, match="has begun"):
        course.apply(OrthogonalInit())


@pytest.mark.parametrize("remedy", [Gated(), Skip()], ids=lambda r: r.name)
def test_an_optimiser_made_too_early_is_refused_and_the_model_left(remedy: Remedy) -> None:
    model = Reader()
    before, layer = weights(model), model.rnn
    early = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(ValueError, match="made before the remedies"):
        Course((OrthogonalInit(), remedy), model, early)
    assert model.rnn is layer and same(before, weights(model))
    course = Course((remedy,), model)
    course.begin(torch.optim.SGD(model.parameters(), 0.1))
    # What trains a part on purpose is let through.
    Course((remedy,), model := Reader(), torch.optim.SGD(model.head.parameters(), 0.1))


def test_gradients_that_nobody_would_treat_are_told() -> None:
    course = Course((ClipNorm(),), Reader())
    with pytest.raises(RuntimeError, match=r"clip-norm would not act: call begin\(optimizer\)"):
        course.gradients()
    Course((OrthogonalInit(),), Reader()).gradients()  # nothing is to be done there
    begun = Course((), model := Reader(), torch.optim.SGD(model.parameters(), 0.1))
    with pytest.raises(RuntimeError, match="has begun already"):
        begun.begin(torch.optim.SGD(model.parameters(), 0.1))


def test_a_course_is_undone_as_a_whole() -> None:
    model = Reader()
    before = weights(model)
    Course((OrthogonalInit(), Gated()), model).undo()
    assert same(before, weights(model))
    with pytest.raises(ValueError, match="forget-bias"):
        from steadygrad.remedies import ForgetBias

        Course((OrthogonalInit(), ForgetBias()), model)
    assert same(before, weights(model))
