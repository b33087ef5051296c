"""The recipes of docs/how-to/log-a-training.md: each hands on every epoch's metrics, once."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest

from dvae_core import flat_metrics, train_model
from tests.loggers import stand_ins
from tests.places import ROOT

PAGE = ROOT / "docs" / "how-to" / "log-a-training.md"
SECTIONS = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.S | re.M))


def code(*sections):
    """Return the Python of these sections, in their order."""
    return "\n".join(
        block
        for name in sections
        for block in re.findall(r"^```py(?:thon)?\n(.*?)^```$", SECTIONS[name], re.S | re.M)
    )


@pytest.fixture
def run_recipe(tmp_path, monkeypatch):
    """Run recipes where nothing else is, and return their names and the stand-ins for what is not installed."""
    monkeypatch.chdir(tmp_path)
    others = stand_ins()
    for name, module in others.items():
        monkeypatch.setitem(sys.modules, name, module)

    def run(*sections):
        names = dict(others)
        exec(compile(code(*sections), str(PAGE), "exec"), names)
        return names

    return run


def lines(run):
    return [flat_metrics(json.loads(line)) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def test_a_csv_file_has_a_row_per_epoch_whatever_was_repeated(run_recipe):
    names = run_recipe("The callback", "A CSV file")

    def rows():
        with open("digits.csv", newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    assert rows() == lines("runs/csv")
    # Killed after two epochs were logged and before they were saved.
    saved = Path("runs/csv/checkpoint.pt").read_bytes()
    train_model(out="runs/csv", resume=True, epochs=5, callback=names["CsvLog"]("digits.csv"))
    Path("runs/csv/checkpoint.pt").write_bytes(saved)
    train_model(out="runs/csv", resume=True, callback=names["CsvLog"]("digits.csv"))
    assert [row["epoch"] for row in rows()] == [1, 2, 3, 4, 5]
    assert rows() == lines("runs/csv")


def test_weights_and_biases_gets_every_epoch(run_recipe):
    wandb = run_recipe("The callback", "Weights & Biases")["wandb"]
    assert [data for _, data in wandb.rows] == lines("runs/wandb-digits")
    assert [step for step, _ in wandb.rows] == [line["step"] for line in lines("runs/wandb-digits")]
    assert (wandb.begun[0][:3], wandb.finished) == (("dvae", "wandb-digits", "allow"), 1)


def test_mlflow_gets_every_epoch_and_the_model(run_recipe):
    mlflow = run_recipe("The callback", "MLflow")["mlflow"]
    assert [data for _, data in mlflow.rows] == lines("runs/mlflow-digits")
    assert mlflow.artifacts == ["runs/mlflow-digits/model.pt"]
    assert mlflow.params["n_left"] == 8
    assert not mlflow.active
