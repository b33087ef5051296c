"""The interface of the library: the names in the packages' `__init__`, there when asked for and not before."""

import ast
import inspect
import json
import os
import pydoc
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tests.places import PACKAGE_ROOTS, ROOT

PACKAGES = ("dvae_core", "dvae_eval", "dvae_reports")
SUBPACKAGES = {"test_machines"}  # of the interface as a whole
HEAVY = {"torch", "pymbar", "scipy", "matplotlib", "numba"}
# What a program needs that only reads results and settings.
LIGHT = {
    "dvae_core": ["DvaeError", "ModelConfig", "RunConfig", "TrainConfig", "__version__"],
    "dvae_eval": ["Check", "LikelihoodConfig", "LogZConfig", "load_result"],
}
NAMES = [(package, name) for package in PACKAGES for name in import_module(package).__all__]


def folder(package):
    return Path(import_module(package).__file__).parent


def loaded_by(code, folder):
    """The modules that a new interpreter has loaded after `code`."""
    roots = os.pathsep.join(PACKAGE_ROOTS)
    command = [sys.executable, "-c", f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": roots}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_every_name_is_there_and_documented(package, name):
    offered = getattr(import_module(package), name)
    if name != "__version__":
        assert inspect.getdoc(offered), f"{package}.{name} has no docstring"
        home = import_module(offered.__module__)
        assert getattr(home, offered.__name__) is offered, f"{home.__name__} does not offer it itself"


@pytest.mark.parametrize("package", PACKAGES)
def test_completion_help_and_star_see_every_name(package):
    module, names = import_module(package), set(import_module(package).__all__)
    assert len(names) == len(module.__all__)
    assert names | {"__name__", "__file__"} <= set(dir(module))
    text = pydoc.plain(pydoc.render_doc(module))
    assert not [name for name in names - {"__version__"} if not re.search(rf"\b{name}\b\W", text)]
    into = {}
    exec(f"from {package} import *", into)
    assert names <= set(into)


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_see_the_same_objects(package):
    """The imports under TYPE_CHECKING, which nothing executes, name the objects that the package hands out."""
    tree = ast.parse((folder(package) / "__init__.py").read_text())
    (guarded,) = [
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    seen = {}
    for line in guarded.body:
        home = import_module(f".{line.module}", package)
        seen |= {alias.asname or alias.name: getattr(home, alias.name) for alias in line.names}
    assert set(seen) == set(import_module(package).__all__) - {"__version__"}
    assert all(getattr(import_module(package), name) is offered for name, offered in seen.items())


@pytest.mark.parametrize("package", PACKAGES)
def test_an_unknown_name_is_refused(package):
    module = import_module(package)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such_name'"):
        _ = module.no_such_name
    assert not hasattr(module, "estimate_log_zz")
    with pytest.raises(ImportError):
        exec(f"from {package} import no_such_name")


def test_packages_and_light_names_load_nothing_heavy(tmp_path):
    lines = [f"import {package}" for package in PACKAGES]
    lines += [f"from {package} import {', '.join(names)}" for package, names in LIGHT.items()]
    assert not {name.partition(".")[0] for name in loaded_by("\n".join(lines), tmp_path)} & HEAVY


def test_the_search_for_heavy_modules_can_find_one(tmp_path):
    assert HEAVY & set(loaded_by("import dvae_eval\ndvae_eval.estimate_log_z", tmp_path))


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_hides_a_name(package):
    """An import of a submodule binds its name in the package, in front of `__getattr__`."""
    taken = {path.stem for path in folder(package).iterdir()}
    assert not taken & set(import_module(package).__all__)


def test_names_outlive_the_import_of_modules_called_like_them(tmp_path):
    loaded_by(
        "import dvae_eval.log_z.estimate_log_z, dvae_eval.likelihood.estimate_log_likelihood, dvae_core.data\n"
        "import dvae_core, dvae_eval\n"
        "assert dvae_eval.estimate_log_z is dvae_eval.log_z.estimate_log_z.estimate_log_z\n"
        "assert callable(dvae_eval.estimate_log_likelihood)\n"
        "assert dvae_core.load_data is dvae_core.data.load",
        tmp_path,
    )


# --- the documentation ----------------------------------------------------------------------------------------


def documented_code():
    """The name and the code of every Python block of the pages, and of every example."""
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for code in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M):
            yield page.relative_to(ROOT).as_posix(), code
    for path in sorted((ROOT / "examples").glob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def private_imports(code):
    """The imports in `code` of what the packages do not offer."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("dvae_") and "." in alias.name)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dvae_"):
            offered = [*import_module(node.module).__all__, *SUBPACKAGES] if node.module in PACKAGES else []
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name not in offered)


def test_pages_and_examples_use_the_interface_alone():
    pieces = list(documented_code())
    assert {name for name, _ in pieces} >= {"README.md", "docs/tutorial.md", "examples/evaluate_your_own_model.py"}
    assert {name: found for name, code in pieces if (found := list(private_imports(code)))} == {}


def test_every_name_is_met_in_the_pages():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    words = {word for page in pages for word in re.findall(r"\w+", page.read_text(encoding="utf-8"))}
    assert {name for _, name in NAMES} - words <= {"GeneralMachine", "__version__"}


@pytest.mark.parametrize(
    "code",
    ["import dvae_eval.results", "from dvae_eval.results import Check", "from dvae_eval import results"],
)
def test_a_private_import_would_be_found(code):
    assert list(private_imports(code))
