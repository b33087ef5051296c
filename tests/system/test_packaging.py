"""What a user installs: the wheel, the commands' start-up, and files that must tell the same story."""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import click
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from setuptools import find_packages

import dvae_core
from dvae_cli import main as eval_module
from tests.places import ROOT

PACKAGE_ROOTS = (ROOT, ROOT / "cli", ROOT / "reports")
PACKAGES = ("dvae_core", "dvae_eval", "dvae_reports", "dvae_cli")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


# --- start-up ---------------------------------------------------------------------------------------

MAX_HELP_CPU = 1.0  # seconds, user + system, of the whole interpreter
HEAVY = {"torch", "pymbar", "scipy", "matplotlib"}  # half a second of import each, or more
SHOW_HELP = """
import json, sys
from {module} import main
try:
    main(sys.argv[1:])
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def help_pages() -> list[tuple[str, tuple[str, ...]]]:
    """Both commands, and each subcommand."""
    subcommands = eval_module.group.list_commands(click.Context(eval_module.group))
    return [
        ("dvae_cli.train", ()),
        ("dvae_cli.main", ()),
        *(("dvae_cli.main", (name,)) for name in subcommands),
    ]


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(("module", "subcommand"), help_pages())
def test_help_answers_at_once(module, subcommand, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, PACKAGE_ROOTS))}
    command = [sys.executable, "-c", SHOW_HELP.format(module=module), *subcommand, "--help"]
    costs = []
    for _ in range(3):  # the best of three, since a busy machine can only add
        before = cpu_of_children()
        shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        costs.append(cpu_of_children() - before)
        assert shown.returncode == 0, shown.stderr
    assert "--help" in shown.stdout
    loaded = json.loads(shown.stderr.splitlines()[-1])
    assert not {name.partition(".")[0] for name in loaded} & HEAVY
    assert min(costs) < MAX_HELP_CPU


# --- the wheel --------------------------------------------------------------------------------------


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a stranger would, without this process's PYTHONPATH."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel from a copy of the tree, so that the checkout is not littered."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("dvae_core", "dvae_eval", "cli", "reports", "tests"):  # tests: must not be packed
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, tree)
    out = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, tree, cwd=tree)
    (built,) = out.glob("*.whl")
    return built


def test_wheel_has_all_of_the_packages_and_nothing_else(wheel):
    assert wheel.name == f"dvae_toolkit-{dvae_core.__version__}-py3-none-any.whl"
    info = f"dvae_toolkit-{dvae_core.__version__}.dist-info"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, info}
    packed = {name for name in names if not name.startswith(info)}
    assert packed == {
        path.relative_to(root).as_posix()
        for root in PACKAGE_ROOTS
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed >= {f"{package}/py.typed" for package in PACKAGES}
    assert packed >= {"dvae_core/data/digits.npz", "dvae_reports/templates/report.html.j2"}
    assert f"{info}/licenses/LICENSE" in names


def required(distribution: str, found: set[str] | None = None) -> set[str]:
    """The installed distributions that ``distribution`` needs, directly or not, without extras."""
    found = set() if found is None else found
    name = canonicalize_name(distribution)
    if name not in found:
        found.add(name)
        for requirement in map(Requirement, metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                required(requirement.name, found)
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """A new environment outside the checkout: the wheel and what it declares to need; its bin folder.

    The third-party distributions are linked in from the environment of the tests, since a new copy of
    torch would take minutes.  Only those that the wheel requires: an import of anything else fails, as
    it would for a user.
    """
    home = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", home, cwd=home)
    run(home / "bin/python", "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=home)
    (site,) = home.glob("lib/python*/site-packages")
    (packed,) = metadata.distributions(name="dvae-toolkit", path=[str(site)])
    direct = [Requirement(line) for line in packed.requires or []]
    for name in set().union(*(required(r.name) for r in direct if r.marker is None)):
        distribution = metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for top in tops:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))))
    return home / "bin"


def test_installed_wheel_does_the_whole_job(installed, tmp_path):
    where = run(installed / "python", "-c", "import dvae_core; print(dvae_core.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(installed.parent)
    for command in ("dvae-train", "dvae-eval"):
        assert "--help" in run(installed / command, "--help", cwd=tmp_path).stdout
    run(installed / "dvae-train", "bars-and-stripes", "--out", "run", "--epochs", "1", cwd=tmp_path)
    result = run(installed / "dvae-eval", "logz", "run/model.pt", "--json", cwd=tmp_path)
    assert json.loads(result.stdout)["kind"] == "logz"


# --- files that must agree --------------------------------------------------------------------------


def only_match(pattern: str, name: str) -> str:
    found = re.search(pattern, (ROOT / name).read_text(), re.MULTILINE)
    assert found, f"{name}: nothing matches {pattern}"
    return found[1]


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    stated = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in stated}


def test_one_version_everywhere():
    assert PYPROJECT["project"]["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "dvae_core.versions.__version__"}
    assert only_match(r"^## \[(\d[^]]*)\]", "CHANGELOG.md") == dvae_core.__version__
    assert only_match(r"^version: (\S+)$", "CITATION.cff") == dvae_core.__version__


def test_constraints_pin_what_the_project_needs():
    project = PYPROJECT["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["dev"]
    pinned = pins()
    for requirement in map(Requirement, lines):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt does not pin {requirement.name}"
        assert version in requirement.specifier, f"constraints.txt: {requirement} does not admit {version}"


def test_pre_commit_runs_the_pinned_ruff():
    stated = only_match(r"ruff-pre-commit\s+rev: v(\S+)", ".pre-commit-config.yaml")
    assert stated == pins()["ruff"]


def test_each_package_folder_is_found_and_typed():
    settings = PYPROJECT["tool"]["setuptools"]["packages"]["find"]
    found = {
        name: ROOT / where / name.replace(".", "/")
        for where in settings["where"]
        for name in find_packages(str(ROOT / where), include=settings["include"])
    }
    assert {name for name in found if "." not in name} == set(PACKAGES)
    with_code = {
        path.parent for root in PACKAGE_ROOTS for package in PACKAGES for path in (root / package).rglob("*.py")
    }
    assert set(found.values()) == with_code, "a folder with code has no __init__.py"
    assert all((found[name] / "py.typed").is_file() for name in PACKAGES)
