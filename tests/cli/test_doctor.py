"""dvae-eval doctor: a sound installation passes, and a broken one is told so."""

import dataclasses
import json

import pytest

from dvae_cli.commands.doctor import self_test
from dvae_cli.main import main as dvae_eval
from tests.commands import status_of


def test_a_sound_installation_passes_and_says_what_it_is(capsys):
    assert status_of(dvae_eval, "doctor") == 0
    captured = capsys.readouterr()
    for word in ("torch", "cpu", "threads", "digits: built in"):
        assert word in captured.out
    assert "FAILED" not in captured.out
    assert "estimating its log Z by parallel tempering ..." in captured.err


def test_json_is_all_there_is(capsys, monkeypatch):
    monkeypatch.setattr(self_test, "STEPS", {"enumerating": self_test._exact})
    assert status_of(dvae_eval, "doctor", "--json", "--quiet") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert captured.err == ""
    assert found["passed"] is True
    assert {"versions", "devices", "threads", "data", "checks"} <= set(found)


@pytest.mark.parametrize(("step", "shift"), [("_exact", 1e-6), ("_tempered", 0.5)])
def test_a_wrong_number_is_found(capsys, monkeypatch, step, shift):
    """An estimator that is off, by little where the number is exact, must not pass."""
    right = self_test.estimate_log_z

    def wrong(*args, **kwargs):
        result = right(*args, **kwargs)
        return dataclasses.replace(result, log_z=result.log_z + shift)

    monkeypatch.setattr(self_test, "estimate_log_z", wrong)
    monkeypatch.setattr(self_test, "STEPS", {step: getattr(self_test, step)})
    assert status_of(dvae_eval, "doctor", "-q") == 1
    assert "FAILED" in capsys.readouterr().out


def test_a_check_that_breaks_does_not_end_the_others(capsys, monkeypatch):
    monkeypatch.setattr(self_test, "STEPS", {"dividing": lambda: 1 / 0, "enumerating": self_test._exact})
    assert status_of(dvae_eval, "doctor", "-q") == 1
    out = capsys.readouterr().out
    assert "FAILED  dividing: failed (ZeroDivisionError: division by zero)" in out
    assert "ok      difference of exact log Z" in out
