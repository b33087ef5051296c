"""Shell completion: the scripts, and what the programs answer to them."""

import os
import shutil
import subprocess
import sys

import pytest

from dvae_cli.commands.completion import PROGRAMS, SHELLS
from tests.places import PACKAGE_ROOTS

MODULES = {"dvae-eval": "dvae_cli.main", "dvae-train": "dvae_cli.train"}


def script(shell, cli):
    status, out, _ = cli("completion", shell)
    assert status == 0
    return out


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_name_both_programs_and_are_accepted_by_their_shells(shell, cli, tmp_path):
    source = script(shell, cli)
    for program in PROGRAMS:
        assert f"_{program.replace('-', '_').upper()}_COMPLETE={shell}_complete" in source
    if shutil.which(shell):
        (tmp_path / "source").write_text(source)
        subprocess.run([shell, "-n", tmp_path / "source"], check=True)


@pytest.mark.parametrize(
    ("program", "words", "answer"),
    [
        ("dvae-eval", "log", "logz"),
        ("dvae-eval", "table --kind abl", "ablation"),
        ("dvae-eval", "figure posterior-l", "posterior-layers"),
        ("dvae-train", "--smoothing power", "power-function"),
        ("dvae-train", "--list-pre", "--list-presets"),
    ],
)
def test_programs_complete(program, words, answer):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(PACKAGE_ROOTS),
        f"_{program.replace('-', '_').upper()}_COMPLETE": "bash_complete",
        "COMP_WORDS": f"{program} {words}",
        "COMP_CWORD": str(len(words.split())),
    }
    code = f"from {MODULES[program]} import main; main()"
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == [f"plain,{answer}"]


def test_an_unknown_shell_is_refused(cli):
    status, _, err = cli("completion", "tcsh")
    assert status == 2
    assert "tcsh" in err
