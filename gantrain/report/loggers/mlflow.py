"""MLflow."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from gantrain.registry import LOGGERS
from gantrain.report.log import Line
from gantrain.report.loggers.base import Logger, read_identity, require
from gantrain.runtime.atomic import write_file

MAX_PARAMETER_LENGTH = 500  # Characters that every server accepts.


@LOGGERS.register("mlflow")
class MlflowLogger(Logger):
    """A run of an MLflow experiment. Its id is stored in the run folder, so that a resumed run continues it.

    Args:
        tracking_uri: A server, or a folder as ``file:...``; None for ``$MLFLOW_TRACKING_URI`` or MLflow's default.
        experiment: The name of the experiment, which is created if needed.
        run: The name of the run.
        folder: The run folder.
    """

    def __init__(self, *, tracking_uri: str | None, experiment: str, run: str, folder: Path) -> None:
        require("mlflow")
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._name = run
        self._folder = folder
        self._client: Any = None
        self._id = ""
        self._last: dict[str, int] = {}  # The last step of each curve on the server.

    def begin(self, step: int, settings: Mapping[str, Any], lines: Sequence[Line]) -> None:
        from mlflow import MlflowClient

        if self._client is None:
            self._client = MlflowClient(tracking_uri=self._tracking_uri)
            identity = self._folder / "mlflow_id.txt"
            if step > 0 and (known := read_identity(identity)):
                self._id = known
                self._client.update_run(self._id, status="RUNNING")
            else:
                experiment = self._client.get_experiment_by_name(self._experiment)
                number = experiment.experiment_id if experiment else self._client.create_experiment(self._experiment)
                self._id = str(self._client.create_run(number, run_name=self._name).info.run_id)
                write_file(identity, self._id)
        stored = self._client.get_run(self._id).data
        history = self._client.get_metric_history
        self._last = {name: max(point.step for point in history(self._id, name)) for name in stored.metrics}
        for key, value in settings.items():
            if key not in stored.params:  # Parameters can't be changed.
                self._client.log_param(self._id, key, str(value)[:MAX_PARAMETER_LENGTH])
        self._log_lines(lines)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            if step > self._last.get(name, -1):
                self._client.log_metric(self._id, name, value, timestamp=int(time.time() * 1000), step=step)
                self._last[name] = step

    def image(self, step: int, name: str, image: Image.Image) -> None:
        self._client.log_image(self._id, image, f"images/step_{step}_{name}.png")

    def end(self, status: str) -> None:
        ends = {"done": "FINISHED", "stopped": "KILLED"}
        self._client.set_terminated(self._id, status=ends.get(status.partition(":")[0], "FAILED"))
