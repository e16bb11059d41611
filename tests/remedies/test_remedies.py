"""Properties every remedy must have; a new remedy is tested by existing."""

import ast
import copy
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad.diagnosis
import steadygrad.nn as sg
from steadygrad import remedies
from steadygrad.remedies import REMEDIES, Applied, Remedy, parse
from steadygrad.remedies.hidden_only import HiddenOnly
from tests.remedies import remedy_clips, remedy_forms, remedy_penalties, remedy_structure

T, B, I, H = 7, 3, 4, 5  # all different, so that no axis can pass for another
FAULTS = set(steadygrad.diagnosis.FAULTS)
FAMILIES: dict[str, Any] = {"torch": nn, "ours": sg}
KINDS = ("RNN", "LSTM", "GRU")
HEAVY = ("soft-orthogonal", "gradient-penalty", "flossing")  # seconds for what others show in less
# What is left to treat after these is nothing, and they say so.
ONCE = ("gated", "layer-norm", "orthogonal", "spectral-bound", "spectral-margin")
# Some combinations here leave no scale at which the mean singular value is one.
pytestmark = [
    pytest.mark.filterwarnings("ignore:jacobian-scale. no scale"),
    pytest.mark.usefixtures("any_backend"),
]
# Remedies that leave the model as it is: they act on the loss or on its gradient.
UNCHANGING = tuple(name for name, r in REMEDIES.items() if r.change is Remedy.change)


class Tagger(nn.Module):
    """A recurrent layer between two others, as models have it."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.embed: nn.Module = nn.Linear(I, I)
        self.layer = layer
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x))[0])


def make(name: str, **options: Any) -> Remedy:
    """The remedy with options that show within a few steps."""
    return REMEDIES[name](**(dict(REMEDIES[name].few_steps) | options))


class Symbols(nn.Module):
    """An embedding of the sign of the first feature."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(2, I)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding((x[..., 0] > 0).long())


class InARow(nn.Module):
    """Recurrent layers one after the other, each its own module."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> tuple[Tensor]:
        for layer in self.layers:
            x = layer(x)[0]
        return (x,)


def build(kind: str, family: str = "torch", **options: Any) -> Tagger:
    """A model in float64, seeded, with two layers in both directions unless said."""
    torch.manual_seed(0)
    if kind == "TWO":  # two layers in two modules
        return Tagger(InARow(nn.RNN(I, H), nn.RNN(H, H)), H).double()
    if kind == "EMBED":
        model = Tagger(nn.RNN(I, H), H)
        model.embed = Symbols()
        return model.double()
    options = {"num_layers": 2, "bidirectional": True} | options
    layer = getattr(FAMILIES[family], kind)(I, H, **options)
    return Tagger(layer, H * (1 + options["bidirectional"])).double()


def suitable(name: str) -> list[str]:
    """Kinds of layer that a remedy treats."""
    found = [kind for kind in KINDS if make(name).applicable(build(kind))]
    assert found, f"{name} suits none of {', '.join(KINDS)}: no test here could try it"
    return found


def cases() -> list[Any]:
    """Remedies with layers; by default torch's first that is suitable and our last."""
    found = []
    for name, family in itertools.product(REMEDIES, FAMILIES):
        kinds = suitable(name)
        for kind in kinds:
            marks = [] if kind == kinds[0 if family == "torch" else -1] else [pytest.mark.slow]
            found.append(
                pytest.param(name, family, kind, marks=marks, id=f"{name}-{family}-{kind}")
            )
    return found


CASES = cases()
# Of the loss in the steps of one training: steady, then a spike, then small.
SCALES = (1e3, 1.1e3, 0.9e3, 1.2e3, 3e4, 1e3, 1e5, 1.0)


def sequences() -> Tensor:
    return torch.randn(T, B, I, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def x() -> Tensor:
    return sequences()


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything a remedy may touch: weights by bits, modules by identity and kind, flags."""
    state: dict[str, Any] = {f"weight {k}": v.clone() for k, v in model.state_dict().items()}
    for path, module in model.named_modules():
        state[f"module {path}"] = (id(module), type(module))
        flags = {k: v for k, v in vars(module).items() if not k.startswith("_")}
        flags["loop_clip"] = getattr(module, "loop_clip", None)  # a property
        state[f"flags {path}"] = repr(sorted(flags.items(), key=lambda item: item[0]))
    for name, parameter in model.named_parameters():
        state[f"parameter {name}"] = (id(parameter), parameter.requires_grad)
    return state


def assert_same(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    assert list(before) == list(after)
    for key, value in before.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(after[key], value, rtol=0, atol=0, msg=key)
        else:
            assert after[key] == value, key


def differs(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    try:
        assert_same(before, after)
    except AssertionError:
        return True
    return False


def backward(
    model: nn.Module, x: Tensor, scale: float = 1e3, applied: Applied | None = None
) -> list[nn.Parameter]:
    """Fill the gradients, large enough for every clip to act."""
    model.zero_grad()
    loss = model(x).square().sum() * scale
    (loss if applied is None else loss + applied.penalty(loss)).backward()
    return list(model.parameters())


def treat(remedy: Remedy, params: Iterable[nn.Parameter]) -> Mapping[str, Tensor]:
    """One step of a remedy on the gradients of ``params``."""
    return remedy.begin(nn.ParameterList(params))()


# Being complete.


def test_no_remedy_is_left_out() -> None:
    folder = Path(remedies.__file__).parent
    written = {
        path.stem
        for path in folder.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Remedy" for base in node.bases)
    }
    imported = {remedy.__module__.rpartition(".")[2] for remedy in REMEDIES.values()}
    assert written == imported, f"not imported in remedies/__init__.py: {written - imported}"


@pytest.mark.parametrize("remedy", REMEDIES.values(), ids=list(REMEDIES))
def test_every_remedy_states_what_it_is(remedy: type[Remedy]) -> None:
    assert remedy.__dataclass_params__.frozen  # pyright: ignore[reportAttributeAccessIssue]
    assert getattr(remedy, "__final__", False)
    assert remedy.helps and set(remedy.helps) <= FAULTS
    assert remedy.claim
    assert "References:" in (remedy.__doc__ or "") and ".. math::" in (remedy.__doc__ or "")
    for option in remedy.fields():
        assert f"{option.name}:" in (remedy.__doc__ or ""), f"{option.name} is not documented"


@pytest.mark.parametrize("remedy", REMEDIES.values(), ids=list(REMEDIES))
def test_every_option_has_another_value(remedy: type[Remedy]) -> None:
    assert set(remedy.other) == {option.name for option in remedy.fields()}
    for options in (remedy.short, remedy.few_steps):
        remedy(**options)


def but_heavy(values: Mapping[str, Any]) -> list[Any]:
    """Each value by its name; those that take seconds are for the slow tests."""
    slow = pytest.mark.slow
    return [pytest.param(v, id=n, marks=slow if n in HEAVY else ()) for n, v in values.items()]


@pytest.mark.parametrize("remedy", but_heavy(REMEDIES))
def test_the_claim_holds_where_it_is_demonstrated(remedy: type[Remedy]) -> None:
    before = torch.get_rng_state()
    shown = remedy.for_short_training().demonstrate()
    assert shown.holds is True, shown.text
    assert shown == remedy.for_short_training().demonstrate()  # the same numbers each time
    assert torch.equal(torch.get_rng_state(), before)


def test_a_remedy_without_a_demonstration_says_so() -> None:
    @final
    @dataclasses.dataclass(frozen=True)
    class Silent(Remedy):
        name: ClassVar[str] = "silent"

    shown = Silent().demonstrate()
    assert shown.holds is None and "not measured" in shown.text


@pytest.mark.parametrize("name", REMEDIES)
def test_ranks_are_of_faults_that_it_helps_and_shared_by_none(name: str) -> None:
    remedy = REMEDIES[name]
    assert set(remedy.rank) <= set(remedy.helps)
    for fault, rank in remedy.rank.items():
        others = [n for n, r in REMEDIES.items() if r.rank.get(fault) == rank]
        assert others == [name], f"{fault}: {others} have the same rank {rank}"
        assert name in remedies.ranked(fault)


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_every_fault_has_a_remedy_or_else_advice(fault: str) -> None:
    has_remedy = any(fault in remedy.helps for remedy in REMEDIES.values())
    assert has_remedy or steadygrad.diagnosis.FAULTS[fault].advice


# Options, and the text form.


OPTIONS = [(name, option.name) for name, kind in REMEDIES.items() for option in kind.fields()]


@functools.lru_cache
def outcome(remedy: Remedy, kind: str) -> list[Tensor]:
    """All gradients of a few steps, the last of them broken, and the weights after a step."""
    model, x = build(kind), sequences()
    torch.manual_seed(7)
    applied = remedy.apply(model)
    optimizer = torch.optim.SGD(model.parameters())
    treatment = remedy.begin(model, optimizer)
    found: list[Tensor] = []
    for scale in (*SCALES, float("nan")):
        params = backward(model, x, SCALES[0] if scale != scale else scale, applied=applied)
        if scale != scale:
            _entry(params, scale)
        treatment()
        found += [p.grad.clone() for p in params if p.grad is not None]
        if scale == SCALES[-1]:
            optimizer.step()
    return [t.nan_to_num(nan=1.2345) for t in (*found, *model.state_dict().values())]


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=lambda value: value)
def test_every_option_changes_the_result(name: str, option: str) -> None:
    value = REMEDIES[name].other[option]
    pair = make(name), make(name, **{option: value})
    for kind in (*KINDS, "TWO", "EMBED"):  # on some of them it may change nothing
        if all(remedy.applicable(build(kind)) for remedy in pair):
            one, two = (outcome(remedy, kind) for remedy in pair)
            if len(one) != len(two) or not all(map(torch.equal, one, two)):
                return
    pytest.fail(f"{name}: {option}={value} makes no difference on any layer")


@pytest.mark.parametrize(("name", "option"), OPTIONS, ids=lambda value: value)
def test_text_is_read_back(name: str, option: str) -> None:
    value = REMEDIES[name].other[option]
    remedy = REMEDIES[name](**{option: value})
    assert remedy.spec.startswith(f"{name}:{option}=")
    assert parse(remedy.spec) == remedy
    assert parse(name) == REMEDIES[name]() and parse(name).spec == name
    assert parse(name.replace("-", "_")) == parse(name)
    assert parse(f" {name} : {option} = {remedy.spec.partition('=')[2]} ") == remedy
    assert remedy.options[option] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip", "no remedy 'clip'.*there are: .*chrono-init, .*clip-norm, "),
        ("", "no remedy ''"),
        ("clip-norm:norm=1", r"no option 'norm'.*max_norm \(a number, 1.0\)"),
        ("clip-norm:max_norm=big", "max_norm must be a number, got 'big'"),
        ("clip-norm:max_norm", "expected option=value"),
        ("clip-norm:max_norm=1,max_norm=2", "twice"),
        ("clip-norm:max_norm=-1", "max_norm must be a number above 0, got -1.0"),
        ("clip-norm:max_norm=nan", "max_norm must be a number above 0"),
        ("clip-value:max_value=0", "max_value must be a number above 0"),
        ("gated:cell=lstmm", "cell must be 'gru' or 'lstm', got 'lstmm'"),
        ("gated:forget_bias=x", "forget_bias must be a number or none, got 'x'"),
        ("gated:carry=1", "carry must be true or false, got '1'"),
        ("forget-bias:value=inf", "value must be a finite number"),
        ("orthogonal-init:gain=0", "gain must be a finite number above 0"),
        ("identity-init:scale=inf", "scale must be a finite number above 0"),
        ("chrono-init:lag=2", "lag must be a finite number of steps above 2"),
        ("nonfinite:often=true", r"no option 'often'; options of nonfinite: action \('skip' or"),
        ("irnn:input_std=0", "input_std must be a finite number above 0"),
    ],
)
def test_a_wrong_text_is_refused_in_full(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


@pytest.mark.parametrize("remedy", REMEDIES.values(), ids=list(REMEDIES))
def test_variants_are_the_defaults_and_others(remedy: type[Remedy]) -> None:
    variants = remedy.variants()
    assert variants[0] == remedy()
    assert len(set(variants)) == len(variants) == 1 + len(remedy.also_try)


# Undoing.


@pytest.mark.parametrize(("name", "family", "kind"), CASES)
def test_apply_and_undo_leave_no_trace(name: str, family: str, kind: str, x: Tensor) -> None:
    model = build(kind, family)
    before, output = snapshot(model), model(x)
    applied = make(name).apply(model)
    model(x)
    if name in UNCHANGING:
        assert applied.changed == "nothing before training"
    else:
        assert differs(before, snapshot(model)) or not torch.equal(model(x), output)
        assert "layer" in applied.changed
    applied.undo()
    assert_same(before, snapshot(model))
    torch.testing.assert_close(model(x), output, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="undone already"):
        applied.undo()


# Of those that leave the model as it is, two stand for all: more pairs would tell nothing new.
PAIRED = [name for name in REMEDIES if name not in UNCHANGING or name in ("omega", "clip-norm")]


def is_sampled(first: str, second: str) -> bool:
    """Whether a pair is tried by default: each remedy before and after itself and two others."""
    return (PAIRED.index(second) - PAIRED.index(first)) % len(PAIRED) in (0, 1, 7)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(a, b, marks=[] if is_sampled(a, b) else pytest.mark.slow)
        for a, b in itertools.product(PAIRED, PAIRED)
    ],
)
def test_two_remedies_are_undone_in_reverse(first: str, second: str, x: Tensor) -> None:
    model = build(suitable(first)[0])
    before = snapshot(model)
    a = make(first).apply(model)
    for _ in range(2):
        model(x)  # a remedy may act in the first calls
    between = snapshot(model)
    if not make(second).applicable(model):
        # What is cut cannot be walked back over; what is held in a form has no weights to set.
        cut = (first, second) == ("truncate", "omega")
        is_held = any(map(nn.utils.parametrize.is_parametrized, model.modules()))
        assert suitable(second) != list(KINDS) or is_held or cut or first == second
        a.undo()
        assert_same(before, snapshot(model))
        return
    b = make(second).apply(model)
    model(x)
    b.undo()
    assert_same(between, snapshot(model))
    a.undo()
    assert_same(before, snapshot(model))


def test_a_failure_half_way_leaves_the_model_as_it_was() -> None:
    @final
    @dataclasses.dataclass(frozen=True)
    class Stumble(Remedy):
        name: ClassVar[str] = "stumble"

        def change(self, model: nn.Module, applied: Applied) -> None:
            with torch.no_grad():
                for parameter in model.parameters():
                    applied.keep(parameter).zero_()
            raise KeyboardInterrupt

    model = build("LSTM")
    before = snapshot(model)
    with pytest.raises(KeyboardInterrupt):
        Stumble().apply(model)
    assert_same(before, snapshot(model))


def test_nan_and_infinity_come_back_as_they_were() -> None:
    model = build("RNN")
    weight = model.get_parameter("layer.weight_hh_l0")
    weight.data[0, :2] = torch.tensor([float("nan"), -float("inf")])
    before = weight.detach().view(torch.int64).clone()
    remedies.IdentityInit().apply(model).undo()
    assert torch.equal(weight.detach().view(torch.int64), before)


@pytest.mark.parametrize("name", REMEDIES)
def test_a_weight_that_is_no_number_stays_one_and_raises_nothing(name: str, x: Tensor) -> None:
    model = build(suitable(name)[0])
    remedy = make(name)
    applied = remedy.apply(model)
    treatment = remedy.begin(model, torch.optim.SGD(model.parameters(), 0.1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[0] = float("nan")
    params = backward(model, x, 1.0, applied)
    treatment()
    assert (name == "rollback") == all(bool(p.isfinite().all()) for p in params)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_learned_in_treated_weights_is_undone(family: str, x: Tensor) -> None:
    model = build("RNN", family)
    before = snapshot(model.layer)
    applied = remedies.IRNN(input_std=0.5).apply(model)
    torch.optim.SGD(backward(model, x), lr=1e-3).step()
    assert differs(before, snapshot(model.layer))
    applied.undo()
    assert_same(before, snapshot(model.layer))


def test_a_layer_used_twice_is_replaced_at_both_places() -> None:
    layer = nn.RNN(H, H)
    model = nn.ModuleDict({"low": nn.Sequential(layer), "high": layer, "same": layer})
    applied = remedies.Gated().apply(model)
    new = model["high"]
    assert isinstance(new, nn.GRU) and model["same"] is new
    assert model.get_submodule("low.0") is new
    applied.undo()
    assert model["high"] is layer and model["same"] is layer
    assert model.get_submodule("low.0") is layer


# Refusing.


@pytest.mark.parametrize("name", REMEDIES)
def test_an_unsuitable_model_is_refused_and_left_alone(name: str) -> None:
    model = nn.Sequential(nn.Linear(I, H)).requires_grad_(False)
    before = snapshot(model)
    remedy = make(name)
    assert not remedy.applicable(model)
    with pytest.raises(ValueError, match=f"^{name}(:.*)? does not suit this Sequential: "):
        remedy.apply(model)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize(
    ("name", "model", "reason"),
    [
        ("irnn", build("LSTM"), "no plain recurrence"),
        ("gated", build("GRU", "ours"), "no plain recurrent layer"),
        ("gated", nn.RNN(I, H), "put it inside a module"),
        ("gated", sg.RNN(I, H), "put it inside a module"),
        ("forget-bias", build("RNN"), "no gate that keeps"),
        ("chrono-init", build("RNN", "ours"), "no gate that keeps"),
        ("chrono-init", build("GRU", bias=False), "bias=True"),
        ("forget-bias", build("LSTM", bias=False), "bias=True"),
        ("identity-init", build("LSTM", bidirectional=False, proj_size=2), "square"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_reason_is_given(name: str, model: nn.Module, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make(name).apply(model)


@pytest.mark.parametrize("name", sorted(set(REMEDIES) - set(UNCHANGING)))
def test_parametrised_weights_are_refused_or_treated(name: str, x: Tensor) -> None:
    model = build(suitable(name)[0])
    nn.utils.parametrizations.weight_norm(model.layer, "weight_hh_l0")
    remedy, before = make(name), snapshot(model)
    if not remedy.applicable(model):
        with pytest.raises(ValueError, match="parametrised"):
            remedy.apply(model)
        return
    output = model(x)
    applied = remedy.apply(model)
    assert differs(before, snapshot(model)) or not torch.equal(model(x), output)
    applied.undo()
    assert_same(before, snapshot(model))


# Claims, each measured more closely than its remedy does, on torch's layers and on ours.

Claim = Callable[[str], None]
CLAIMS: dict[str, Claim] = {
    **remedy_clips.CLAIMS,
    **remedy_penalties.CLAIMS,
    **remedy_forms.CLAIMS,
    **remedy_structure.CLAIMS,
}


def claim(name: str) -> Callable[[Claim], Claim]:
    def register(measure: Claim) -> Claim:
        CLAIMS[name] = measure
        return measure

    return register


def vector(grads: list[Tensor]) -> np.ndarray:
    return np.concatenate([grad.numpy().ravel() for grad in grads])


def clipped(remedy: Remedy, family: str, scale: float) -> tuple[np.ndarray, np.ndarray, Any]:
    """Gradient before and after a clip, and what the clip reports."""
    model = build("LSTM", family)
    x = torch.randn(T, B, I, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    params = [*backward(model, x, scale), nn.Parameter(torch.zeros(2))]  # the last: no gradient
    before = vector([p.grad.clone() for p in params if p.grad is not None])
    report = treat(remedy, params)
    return before, vector([p.grad for p in params if p.grad is not None]), report


@claim("clip-norm")
def clip_norm_bounds_the_length_and_keeps_the_direction(family: str) -> None:
    before, after, report = clipped(remedies.ClipNorm(0.25), family, 1e3)
    norm = np.linalg.norm(before)
    assert norm > 1 and report["grad_norm"].item() == pytest.approx(norm)
    # torch divides by norm + 1e-6.
    np.testing.assert_allclose(after, before * 0.25 / norm, rtol=1e-6)
    assert np.linalg.norm(after) <= 0.25
    assert report["grad_norm_clipped"].item() == pytest.approx(np.linalg.norm(after), rel=1e-5)
    assert report["clipped"].item() is True
    before, after, report = clipped(remedies.ClipNorm(0.25), family, 1e-6)
    np.testing.assert_array_equal(after, before)
    assert report["clipped"].item() is False
    assert report["grad_norm_clipped"].item() == report["grad_norm"].item()


@claim("clip-value")
def clip_value_bounds_every_entry(family: str) -> None:
    before, after, report = clipped(remedies.ClipValue(0.25), family, 1e3)
    np.testing.assert_array_equal(after, np.clip(before, -0.25, 0.25))
    assert report["clipped"].item() is True and (np.abs(before) > 0.25).any()
    assert report["grad_norm"].item() == pytest.approx(np.linalg.norm(before))
    assert report["grad_norm_clipped"].item() == pytest.approx(np.linalg.norm(after))
    before, after, report = clipped(remedies.ClipValue(0.25), family, 1e-6)
    np.testing.assert_array_equal(after, before)
    assert report["clipped"].item() is False
    many = nn.Parameter(torch.zeros(100))
    many.grad = torch.full((100,), 0.2)  # long, but no entry of it is
    assert treat(remedies.ClipValue(0.25), [many])["clipped"].item() is False
    p = nn.Parameter(torch.zeros(3))
    p.grad = torch.tensor([float("inf"), -float("inf"), float("nan")])
    treat(remedies.ClipValue(2.0), [p])
    np.testing.assert_array_equal(p.grad.numpy(), [2.0, -2.0, np.nan])


def _entry(params: list[nn.Parameter], value: float) -> None:
    grad = params[0].grad
    assert grad is not None
    grad.view(-1)[0] = value


@claim("learning-rate")
def learning_rate_scales_the_step_and_not_the_schedule(family: str) -> None:
    ends = {}
    for factor in (None, 0.5, 4.0):
        model = build("LSTM", family)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        if factor is not None:
            remedies.LearningRate(factor).begin(model, optimizer)
        before = [p.detach().clone() for p in model.parameters()]
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        for _ in range(3):
            optimizer.step()
            schedule.step()
        assert schedule.get_last_lr() == [0.1 * 0.5**3]
        ends[factor] = [p.detach() - b for p, b in zip(model.parameters(), before, strict=True)]
    for factor in (0.5, 4.0):
        for ours, plain in zip(ends[factor], ends[None], strict=True):
            torch.testing.assert_close(ours, factor * plain)


@claim("bias-reset")
def bias_reset_centres_the_gate(family: str) -> None:
    for gate, rows in {"all": slice(None), "forget": slice(H, 2 * H)}.items():
        model = build("LSTM", family)
        remedies.BiasReset(gate).apply(model)
        for name, bias in model.named_parameters():
            if "layer.bias" in name:
                assert not bias[rows].any()
                assert gate == "all" or bool(bias[:H].all())
    for gate, left in {"all": False, "candidate": True}.items():
        layer = steadygrad.Recurrent(steadygrad.cells.ModReLU(), I, H)
        nn.init.constant_(layer.get_parameter("mod_bias_l0"), -3.0)
        remedies.BiasReset(gate).apply(layer)
        assert bool(layer.get_parameter("mod_bias_l0").any()) == left


@claim("nonfinite")
def nonfinite_lets_no_broken_entry_through(family: str) -> None:
    for action in ("skip", "zero", "raise"):
        before, after, report = clipped(remedies.Nonfinite(action), family, 1e3)
        np.testing.assert_array_equal(after, before)
        assert report["nonfinite"].item() is False
    for broken in (float("nan"), float("inf"), -float("inf")):
        params = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))]
        params[0].grad = torch.ones(2)
        params[1].grad = torch.tensor([1.0, broken, 2.0])
        with pytest.raises(FloatingPointError, match=r"in 1 of 2 parameters: 1;"):
            treat(remedies.Nonfinite("raise"), params)
        zero = [nn.Parameter(p.detach().clone()) for p in params]
        for copy_, p in zip(zero, params, strict=True):
            copy_.grad = None if p.grad is None else p.grad.clone()
        assert treat(remedies.Nonfinite("zero"), zero)["nonfinite"].item() is True
        torch.testing.assert_close(zero[0].grad, torch.ones(2), rtol=0, atol=0)
        torch.testing.assert_close(zero[1].grad, torch.tensor([1.0, 0.0, 2.0]), rtol=0, atol=0)
        report = treat(remedies.Nonfinite("skip"), params)
        assert report["skipped"].item() is True and report["nonfinite"].item() is True
        for p in params:
            torch.testing.assert_close(p.grad, torch.zeros_like(p), rtol=0, atol=0)
    large = nn.Parameter(torch.zeros(2))
    large.grad = torch.tensor([1e30, 1e30])  # finite, though its square is not
    assert treat(remedies.Nonfinite("skip"), [large])["skipped"].item() is False
    torch.testing.assert_close(large.grad, torch.tensor([1e30, 1e30]), rtol=0, atol=0)


@claim("rollback")
def rollback_puts_back_the_weights_of_the_step_before(family: str) -> None:
    for bad in (float("nan"), float("inf")):
        model = build("LSTM", family)
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        treatment = remedies.Rollback().begin(model, optimizer)
        x, expected = torch.randn(T, B, I, dtype=torch.float64), list[torch.Tensor]()
        for step in range(6):
            if step == 3:
                with torch.no_grad():  # from outside, between two steps
                    next(model.layer.parameters())[0, 0] = bad
            params = backward(model, x, 1.0)
            if step == 2:
                expected = [p.detach().clone() for p in params]
            elif step == 4:
                _entry(params, bad)  # a broken gradient costs its own step alone
            before = [p.detach().clone() for p in params]
            report = treatment()
            assert bool(report["restored"]) == (step == 3)
            assert bool(report["skipped"]) == bool(report["nonfinite"]) == (step in (3, 4))
            torch.testing.assert_close(params, expected if step == 3 else before, rtol=0, atol=0)
            gradients = [p.grad for p in params if p.grad is not None]
            assert all(bool(g.any()) == (step not in (3, 4)) for g in gradients)
            optimizer.step()
        assert all(p.isfinite().all() for p in model.parameters())


@claim("chrono-init")
def chrono_init_spreads_the_time_constants(family: str) -> None:
    for kind, keeping in (("LSTM", 1), ("GRU", 1)):
        torch.manual_seed(0)
        model = nn.Sequential(getattr(FAMILIES[family], kind)(2, 2000))
        remedies.ChronoInit(lag=50).apply(model)
        layer = dict(model[0].named_parameters())
        rows = (layer["bias_ih_l0"] + layer["bias_hh_l0"]).detach().view(-1, 2000)
        keep = rows[keeping].sigmoid()
        times = 1 / (1 - keep)
        quantiles = times.quantile(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
        expected = torch.tensor([2.0, 14.0, 26.0, 38.0, 50.0])
        torch.testing.assert_close(quantiles, expected, rtol=0.06, atol=0.1)
        if kind == "LSTM":  # the input gate makes up for what is kept
            torch.testing.assert_close(rows[0].sigmoid(), 1 - keep)
        others = rows[2:]
        assert others.abs().max().item() <= 2 / 2000**0.5 and others.abs().sum() > 0


def layers(model: nn.Module) -> list[dict[str, nn.Parameter]]:
    """Parameters by layer and direction, ``weight_hh`` and so on without the suffix."""
    found: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        stem, mark, suffix = name.rpartition(".")[2].partition("_l")
        if mark:
            found.setdefault(suffix, {})[stem] = parameter
    assert len(found) == 4
    return list(found.values())


def silence(layer: nn.Module, keep_bias: bool = True) -> None:
    """Set all weights to 0, so that what is left of the recurrence is its gates' biases."""
    for name, parameter in layer.named_parameters():
        if "weight" in name or not keep_bias:
            nn.init.zeros_(parameter)


@claim("forget-bias")
def forget_bias_holds_the_gate_at_its_sigmoid(family: str) -> None:
    value = 1.5
    held = torch.tensor(value, dtype=torch.float64).sigmoid().item() ** T
    zeros = torch.zeros(T, B, I, dtype=torch.float64)
    for kind in ("LSTM", "GRU"):
        model = build(kind, family, num_layers=1, bidirectional=False)
        layer = model.layer
        silence(layer)
        for stem in ("bias_ih_l0", "bias_hh_l0"):  # no input and no candidate, so h is 0 · f^T
            layer.get_parameter(stem).data[2 * H : 3 * H] = 0
        remedies.ForgetBias(value).apply(model)
        memory = torch.rand(1, B, H, dtype=torch.float64, requires_grad=True)
        state = (torch.zeros_like(memory), memory) if kind == "LSTM" else memory
        last = layer(zeros, state)[1]
        (last[1] if kind == "LSTM" else last).sum().backward()
        torch.testing.assert_close(memory.grad, torch.full_like(memory, held))


@claim("orthogonal-init")
def orthogonal_init_sets_every_singular_value(family: str) -> None:
    for kind, gates in (("RNN", 1), ("LSTM", 4), ("GRU", 3)):
        model = build(kind, family)
        remedies.OrthogonalInit(gain=0.7).apply(model)
        for layer in layers(model):
            sigma = torch.linalg.svdvals(layer["weight_hh"].view(gates, H, H))
            torch.testing.assert_close(sigma, torch.full_like(sigma, 0.7))


@claim("identity-init")
def identity_init_sets_the_chosen_blocks(family: str) -> None:
    for kind, gates, candidate in (("RNN", 1, 0), ("LSTM", 4, 2), ("GRU", 3, 2)):
        identity = 0.7 * torch.eye(H, dtype=torch.float64)
        model = build(kind, family)
        before = [layer["weight_hh"].detach().clone() for layer in layers(model)]
        remedies.IdentityInit(scale=0.7).apply(model)
        for layer, old in zip(layers(model), before, strict=True):
            expected = old.view(gates, H, H)
            expected[candidate] = identity
            torch.testing.assert_close(
                layer["weight_hh"].detach(), expected.view(-1, H), rtol=0, atol=0
            )
        remedies.IdentityInit(scale=0.7, blocks="all").apply(model)
        for layer in layers(model):
            torch.testing.assert_close(
                layer["weight_hh"].detach(), identity.repeat(gates, 1), rtol=0, atol=0
            )


@claim("irnn")
def irnn_passes_the_gradient_times_scale(family: str) -> None:
    model = build("RNN", family, num_layers=1, bidirectional=False)
    remedies.IRNN(scale=0.9).apply(model)
    h = torch.rand(1, B, H, dtype=torch.float64).add_(0.1).requires_grad_()
    model.layer(torch.zeros(T, B, I, dtype=torch.float64), h)[1].sum().backward()
    torch.testing.assert_close(h.grad, torch.full_like(h, 0.9**T))
    dead = torch.full_like(h, -0.1).requires_grad_()
    last = model.layer(torch.zeros(T, B, I, dtype=torch.float64), dead)[1]
    assert last.abs().sum().item() == 0  # ReLU, and not a linear unit


@claim("gated")
def gated_passes_the_gradient_without_the_matrix(family: str) -> None:
    zeros = torch.zeros(T, B, I, dtype=torch.float64)
    for value in (1.5, 3.0):
        model = build("RNN", family, num_layers=1, bidirectional=False)
        h = torch.rand(1, B, H, dtype=torch.float64, requires_grad=True)
        silence(model.layer)
        (lost,) = torch.autograd.grad(model.layer(zeros, h)[1].sum(), h)
        assert lost.abs().sum().item() == 0  # without its matrix a plain recurrence has no way
        remedies.Gated(forget_bias=value).apply(model)
        silence(model.layer)
        held = torch.tensor(value, dtype=torch.float64).sigmoid().item() ** T
        (kept,) = torch.autograd.grad(model.layer(zeros, h)[1].sum(), h)
        torch.testing.assert_close(kept, torch.full_like(h, held))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", but_heavy({name: name for name in CLAIMS}))
def test_claim(name: str, family: str) -> None:
    CLAIMS[name](family)


# What single remedies owe beyond their claim.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_gated_keeps_the_interface(family: str, cell: Any, batch_first: bool, x: Tensor) -> None:
    model = build("RNN", family, batch_first=batch_first, dropout=0.5).eval()
    x = x.transpose(0, 1) if batch_first else x
    y, h_n = model.layer(x)
    weights = layers(model)
    remedies.Gated(cell=cell).apply(model)
    new_y, new_h_n = model.layer(x, torch.zeros_like(h_n))
    assert new_y.shape == y.shape and new_h_n.shape == h_n.shape and new_y.dtype == y.dtype
    torch.testing.assert_close(new_y, model.layer(x)[0])  # no state given is a state of zeros
    ours = [m for m in model.layer.modules() if isinstance(m, sg.Recurrent)]
    assert bool(ours) == (family == "ours")
    assert not any(m.training for m in model.modules())
    for old, new in zip(weights, layers(model), strict=True):
        for stem in ("weight_ih", "bias_ih"):  # the candidate stands third in both cells
            rows = slice(2 * H, 3 * H)
            torch.testing.assert_close(new[stem][rows], old[stem], rtol=0, atol=0)
    # The gradient reaches every weight of the new layer.
    model.train()(x).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.layer.parameters())


def test_hidden_only_is_its_lstm(x: Tensor) -> None:
    lstm = nn.LSTM(I, H, 2).double()
    h_0 = torch.randn(2, B, H, dtype=torch.float64)
    expected, (h_n, _) = lstm(x, (h_0, torch.zeros(2, B, H, dtype=torch.float64)))
    y, last = HiddenOnly(lstm)(x, h_0)
    torch.testing.assert_close(y, expected, rtol=0, atol=0)
    torch.testing.assert_close(last, h_n, rtol=0, atol=0)
    packed = nn.utils.rnn.pack_padded_sequence(x, [T, 5, 2])
    got, _ = HiddenOnly(lstm)(packed)
    torch.testing.assert_close(got.data, lstm(packed)[0].data, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "name"), [("LSTMCell", "forget-bias"), ("RNNCell", "irnn")])
def test_cells_of_torch_are_treated_too(kind: str, name: str) -> None:
    model = nn.Sequential(getattr(nn, kind)(I, H))
    before = snapshot(model)
    applied = make(name).apply(model)
    assert differs(before, snapshot(model))
    h = torch.ones(B, H)
    if name == "irnn":
        torch.testing.assert_close(model[0](torch.zeros(B, I), h), h)
    applied.undo()
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("name", ["orthogonal-init", "identity-init"])
def test_torch_and_ours_are_treated_alike(kind: str, name: str, x: Tensor) -> None:
    outputs = []
    for family in FAMILIES:
        model = build(kind, family)
        torch.manual_seed(3)
        make(name).apply(model)
        outputs.append(model(x))
    torch.testing.assert_close(outputs[0], outputs[1])


@pytest.mark.parametrize(("name", "family", "kind"), CASES)
def test_a_second_application_is_fine(name: str, family: str, kind: str, x: Tensor) -> None:
    model = build(kind, family)
    before = snapshot(model)
    remedy = make(name)
    first = remedy.apply(model)
    if not remedy.applicable(model):
        assert name in ONCE
        first.undo()
    else:
        again = remedy.apply(model)
        assert model(x).isfinite().all()
        again.undo()
        first.undo()
    assert_same(before, snapshot(model))


def test_a_copy_of_a_remedied_model_is_independent(x: Tensor) -> None:
    model = build("RNN")
    applied = remedies.Gated(cell="lstm").apply(model)
    twin = copy.deepcopy(model)
    applied.undo()
    assert isinstance(twin.layer, HiddenOnly) and twin(x).isfinite().all()
