"""Trained models at work: forecasts, text, streams and export, from a run's folder alone."""

from typing import TYPE_CHECKING

from steadygrad._room import on_first_use

if TYPE_CHECKING:
    from steadygrad.deploy.exporting import Exported as Exported
    from steadygrad.deploy.exporting import export as export
    from steadygrad.deploy.forecasting import ForecastModel as ForecastModel
    from steadygrad.deploy.forecasting import Forecasts as Forecasts
    from steadygrad.deploy.forecasting import ForecastStream as ForecastStream
    from steadygrad.deploy.loading import load as load
    from steadygrad.deploy.writing import TextModel as TextModel
    from steadygrad.deploy.writing import TextStream as TextStream
else:
    # The help of the command line must not wait for torch.
    _HOMES = {
        **dict.fromkeys(("ForecastModel", "ForecastStream", "Forecasts"), "forecasting"),
        **dict.fromkeys(("Exported", "export"), "exporting"),
        "load": "loading",
        **dict.fromkeys(("TextModel", "TextStream"), "writing"),
    }
    __getattr__, __all__, __dir__ = on_first_use(__name__, _HOMES)
