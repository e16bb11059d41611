"""Real frameworks, where installed: the verdict is right, the clip is seen, a page is drawn."""

import copy
import sqlite3
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import steadygrad as sg
from tests.integrations.problem import CLIP, LAG, STEPS, Reader, data, expected

# What other people's packages warn of is not ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.parametrize("healthy", [False, True]),
]


def check(watch: Any, healthy: bool, page: Path | None = None, clipped: bool = True) -> None:
    assert watch.verdict == expected(healthy), watch
    assert watch.flow["rnn"].time_steps == STEPS
    if clipped:
        assert watch.latest["clipped_share"] == 1.0
    if page is not None:
        headline = "nothing is wrong" if healthy else "vanish"
        assert headline in page.read_text(encoding="utf-8").lower()


def loader(size: int = 16) -> Any:
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data()), batch_size=size)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_lightning(healthy: bool, accumulate: int, tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning.pytorch")
    from steadygrad.integrations.lightning import SteadygradCallback

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = Reader(healthy)

        def training_step(self, batch: Any, index: int) -> Tensor:
            x, y = batch
            return nn.functional.binary_cross_entropy_with_logits(self.model(x), y)

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 1e-4)

    watching = SteadygradCallback(LAG, tmp_path / "report.html", every=1)
    trainer = lightning.Trainer(
        max_epochs=1, gradient_clip_val=CLIP, accumulate_grad_batches=accumulate, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[watching], accelerator="cpu", default_root_dir=str(tmp_path),
    )  # fmt: skip
    trainer.fit(Module(), loader())
    assert watching.watch.step == 4 // accumulate
    assert watching.verdict == expected(healthy), watching.watch
    assert watching.watch.latest["clipped_share"] == 1.0
    assert (tmp_path / "report.html").exists()


def test_huggingface(healthy: bool, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from steadygrad.integrations.huggingface import SteadygradCallback

    class Model(Reader):
        def forward(self, x: Tensor, labels: Tensor) -> Any:  # type: ignore[override]
            out = super().forward(x)
            loss = nn.functional.binary_cross_entropy_with_logits(out, labels)
            return {"loss": loss, "logits": out}

    x, y = data()
    rows = [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)]
    watching = SteadygradCallback(LAG, tmp_path / "report.html", every=1)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), num_train_epochs=1, per_device_train_batch_size=16,
        max_grad_norm=CLIP, learning_rate=1e-4, report_to=[], use_cpu=True, save_strategy="no",
        logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    trainer = transformers.Trainer(
        Model(healthy), arguments, train_dataset=rows, callbacks=[watching]
    )
    trainer.train()
    check(watching.watch, healthy, tmp_path / "report.html")


def test_accelerate_takes_the_plain_watch(healthy: bool) -> None:
    accelerate = pytest.importorskip("accelerate")
    model = Reader(healthy)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model, optimizer, batches = accelerator.prepare(model, optimizer, loader())
    watch = sg.watch(model, optimizer, lag=LAG, every=1)
    for x, y in batches:
        with accelerator.accumulate(model):
            accelerator.backward(nn.functional.binary_cross_entropy_with_logits(model(x), y))
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad()
    assert watch.step == 2
    check(watch, healthy)


def test_opacus(healthy: bool) -> None:
    opacus = pytest.importorskip("opacus")
    from steadygrad.integrations.opacus import OutputOnly

    layer = sg.RNN(1, 16, batch_first=True)
    layer.load_state_dict(Reader(healthy).rnn.state_dict())
    twin, x = copy.deepcopy(layer), data()[0][:3]
    single = opacus.GradSampleModule(OutputOnly(copy.deepcopy(layer)), loss_reduction="sum")
    single(x).sin().sum().backward()
    for name, parameter in single._module.layer.named_parameters():
        for row, found in enumerate(parameter.grad_sample):
            loss = twin(x[row : row + 1])[0].sin().sum()
            (own,) = torch.autograd.grad(loss, twin.get_parameter(name))
            torch.testing.assert_close(found, own, rtol=1e-4, atol=1e-5)

    model = Reader(healthy)
    model.rnn, model.forward = OutputOnly(layer), lambda x: model.head(model.rnn(x)[:, -1])  # type: ignore[method-assign]
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    private, optimizer, batches = opacus.PrivacyEngine().make_private(
        module=model, optimizer=optimizer, data_loader=loader(), noise_multiplier=1.0,
        max_grad_norm=CLIP, poisson_sampling=False,
    )  # fmt: skip
    watch = sg.watch(private, optimizer, lag=LAG, every=1)
    for x, y in batches:
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(private(x), y).backward()
        optimizer.step()
    assert watch.verdict == expected(healthy), watch
    assert watch.latest["clipped_share"] == 1.0


def test_skorch(healthy: bool, tmp_path: Path) -> None:
    skorch = pytest.importorskip("skorch")
    from steadygrad.integrations.skorch import SteadygradCallback

    x, y = data()
    net = skorch.NeuralNet(
        Reader, nn.BCEWithLogitsLoss, module__healthy=healthy, optimizer=torch.optim.Adam, lr=1e-4,
        max_epochs=1, batch_size=16, train_split=None, verbose=0,
        callbacks=[
            ("clip", skorch.callbacks.GradientNormClipping(CLIP)),
            ("watch", SteadygradCallback(LAG, tmp_path / "report.html", {"every": 1})),
        ],
    )  # fmt: skip
    net.fit(x.numpy(), y.numpy())
    (watching,) = [c for name, c in net.callbacks_ if name == "watch"]
    check(watching.watch, healthy, tmp_path / "report.html")
    assert net.history[-1, "gradient_verdict"] == expected(healthy)


def test_ignite(healthy: bool, tmp_path: Path) -> None:
    engine = pytest.importorskip("ignite.engine")
    from steadygrad.integrations.ignite import attach

    model = Reader(healthy)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)

    def step(_: Any, batch: Any) -> float:
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(batch[0]), batch[1])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        return loss.item()

    trainer = engine.Engine(step)
    watching = attach(trainer, model, optimizer, LAG, tmp_path / "report.html", every=1)
    trainer.run(loader(), max_epochs=1)
    check(watching.watch, healthy, tmp_path / "report.html")
    assert trainer.state.metrics["gradient/clipped_share"] == 1.0


def test_keras_on_torch_is_refused_in_words(healthy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    with pytest.raises(TypeError, match=r"expected a torch\.optim\.Optimizer"):
        sg.watch(Reader(healthy), keras.optimizers.Adam())


def test_tensorboard(healthy: bool, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from steadygrad.loggers import TensorBoardLogger

    model = Reader(healthy)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    logger = TensorBoardLogger(tmp_path)
    with sg.watch(model, optimizer, lag=LAG, every=1, log=logger):
        for x, y in loader():
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
            optimizer.step()
    name = "tensorboard.backend.event_processing.event_accumulator"
    events = pytest.importorskip(name).EventAccumulator(str(tmp_path)).Reload()
    assert [e.step for e in events.Scalars("gradient/grad_norm")] == [1, 2, 3, 4]
    assert "gradient/rnn/h" in events.Tags()["images"]
    assert ("gradient/findings/text_summary" in events.Tags()["tensors"]) is not healthy


def test_loggers_of_experiments(
    healthy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb, mlflow = pytest.importorskip("wandb"), pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri(f"file://{tmp_path}/mlruns")
    run = wandb.init(project="x", dir=str(tmp_path), settings=wandb.Settings(silent=True))
    model = Reader(healthy)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    with sg.watch(model, optimizer, lag=LAG, every=1, log=["wandb", "mlflow"]):
        for step, (x, y) in enumerate(loader()):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
            optimizer.step()
            run.log({"mine": step}, step=step)  # dropped, if ours were ahead
        (found,) = mlflow.search_runs(output_format="list")
    assert np.isfinite(run.summary["gradient/grad_norm"])
    assert run.summary["gradient/step"] == 4 and run.summary["mine"] == 3
    run.finish()
    assert found.data.metrics["gradient/grad_norm"] > 0
    assert [p.name for p in tmp_path.glob("mlruns/**/rnn/*.png")] == ["h.png"]
    assert any(tmp_path.glob("wandb/**/media/images/gradient/rnn/*.png"))


def test_trackio(healthy: bool) -> None:
    trackio = pytest.importorskip("trackio")
    project = f"steadygrad-{uuid.uuid4()}"
    trackio.init(project=project, embed=False)
    model = Reader(healthy)
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    with sg.watch(model, optimizer, lag=LAG, every=1, log="trackio"):
        for x, y in loader():
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(x), y).backward()
            optimizer.step()
    trackio.finish()
    (path,) = Path(trackio.utils.TRACKIO_DIR).glob(f"{project}*.db")
    with sqlite3.connect(path) as data_base:
        logged = "".join(str(row) for row in data_base.execute("select metrics from metrics"))
    path.unlink()
    assert "gradient/grad_norm" in logged and "gradient/rnn/h" in logged
    assert ("vanishing in rnn" in logged) is not healthy


def test_stable_baselines3(healthy: bool, tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3")
    sb3 = pytest.importorskip("sb3_contrib")
    from steadygrad.integrations.stable_baselines3 import SteadygradCallback

    watching = SteadygradCallback(lag=None, every=1)
    agent = sb3.RecurrentPPO("MlpLstmPolicy", "CartPole-v1", n_steps=32, batch_size=32, n_epochs=1)
    agent.learn(64, callback=watching)
    assert watching.watch.step >= 2
    assert watching.watch.latest["grad_norm"] > 0
