"""A trained model and its data side, read back from the folder of its run."""

from pathlib import Path

from steadygrad.deploy.forecasting import ForecastModel
from steadygrad.deploy.writing import TextModel
from steadygrad.errors import InputError
from steadygrad.train.model_file import read_model


def load(run: str | Path) -> ForecastModel | TextModel:
    """Read a trained model back, wherever its folder lies now; its data need not be there.

    Args:
        run: The folder of a run of ``steadygrad train``, or its ``model.safetensors`` alone.

    Returns:
        For a table a `ForecastModel`, for a text a `TextModel`; ``module`` of either is the
        ``torch.nn.Module``, in evaluation mode on the CPU.

    Raises:
        InputError: No run, none that has come to its end, a damaged file, or one of a version that
            did not keep what it was trained on.

    Example::

        model = sg.load("runs/sales")
        print(model.forecast("new_rows.csv"))
        model.forecast(frame).frame().plot(x="date", y="forecast")
    """
    path = Path(run)
    module, facts = read_model(path)
    kind = None if facts.data is None else facts.data.get("kind")
    if kind == "forecast":
        return ForecastModel(module, facts)
    if kind == "text":
        return TextModel(module, facts)
    raise InputError(f"{path}: was trained on no file of yours, so there is no data side to use")
