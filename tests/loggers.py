"""Stand-ins for Weights & Biases and MLflow: what the recipes of the documentation call, written down.

They take what the real ones do (wandb 0.31, mlflow-skinny 3.17, which the recipes were run with), and no more.
"""

from contextlib import contextmanager
from types import ModuleType


class Wandb(ModuleType):
    def __init__(self):
        super().__init__("wandb")
        self.begun, self.rows, self.finished = [], [], 0

    def init(self, *, project, id, resume, config):
        self.begun.append((project, id, resume, config))
        return self

    def log(self, data, *, step):
        # As the real one, which takes no earlier step and would drop the row with a warning.
        if not self.rows or step >= self.rows[-1][0]:
            self.rows.append((step, data))

    def finish(self):
        self.finished += 1


class Mlflow(ModuleType):
    def __init__(self):
        super().__init__("mlflow")
        self.rows, self.params, self.artifacts, self.active = [], {}, [], False

    @contextmanager
    def start_run(self, *, run_name):
        self.active = True
        yield run_name
        self.active = False

    def log_params(self, params):
        assert self.active
        self.params |= params

    def log_metrics(self, metrics, *, step):
        assert self.active
        assert all(isinstance(value, int | float) for value in metrics.values())
        self.rows.append((step, metrics))

    def log_artifact(self, path):
        self.artifacts.append(path)


def stand_ins():
    """Return both by the names under which they are imported."""
    return {"wandb": Wandb(), "mlflow": Mlflow()}
