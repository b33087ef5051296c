"""The README's own words, run as they stand."""

import re

from tests.places import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs_and_is_right(capsys):
    """The estimate's interval covers the exact value: fixed seed; by chance it would not in one run of twenty."""
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names = {}
    exec(code, names)
    exact, estimate = names["exact"], names["estimate"]
    assert exact.method == "exact"
    assert estimate.trustworthy
    assert abs(estimate.log_z - exact.log_z) < 4 * estimate.std_err
    assert str(estimate) in capsys.readouterr().out


def test_every_command_and_option_that_is_named_exists():
    from dvae_cli import train
    from dvae_cli.main import COMMANDS

    for command in re.findall(r"dvae-eval ([\w-]+)", README):
        assert command in COMMANDS
    options = {option for param in train.command.params for option in param.opts}
    for line in re.findall(r"dvae-train [^\n`]*", README):
        assert set(re.findall(r"--[a-z-]+", line)) <= options


def test_it_is_short_and_its_links_and_pictures_lead_somewhere():
    targets = [*re.findall(r"\]\((?!http)([^)#]+)", README), *re.findall(r'src="([^"]+)"', README)]
    assert "docs/images/logz.png" in targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
    assert README.count("\n") <= 120
    first_screen = "\n".join(README.splitlines()[:36])
    assert all(
        part in first_screen for part in ("make demo", "<img", "dvae-train", "dvae-eval logz", "dvae-eval ll")
    )
