"""The package as a whole: what it exports, what importing it costs, how large its pieces are."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import siamlearn

ROOT = Path(siamlearn.__file__).parent
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(siamlearn.__path__, prefix="siamlearn.")
)
FILES = sorted(ROOT.rglob("*.py"))


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def test_everything_in_all_can_be_imported_and_is_listed_once():
    assert len(set(siamlearn.__all__)) == len(siamlearn.__all__)
    for name in siamlearn.__all__:
        assert hasattr(siamlearn, name), name


def test_all_is_what_is_importable():
    imported = {
        alias.asname or alias.name
        for node in parsed(ROOT / "__init__.py").body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported | {"__version__"} == set(siamlearn.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_and_exports(name):
    module = importlib.import_module(name)
    if not hasattr(module, "__path__"):  # a package of ours may hold nothing itself
        assert module.__doc__, name
        assert all(hasattr(module, public) for public in module.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring_with_an_example(name):
    module = importlib.import_module(name)
    for public in getattr(module, "__all__", []):
        thing = getattr(module, public)
        if getattr(thing, "__module__", None) != name or not callable(thing):
            continue
        document = thing.__doc__ or ""
        assert document.strip(), f"{name}.{public} has no docstring"
        if not issubclass(type(thing), type) or not issubclass(thing, BaseException):
            assert ">>>" in document, f"{name}.{public} shows no example"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert lines <= 40, f"{node.name} has {lines} lines of code"


def test_importing_costs_little_beyond_torch():
    program = """
import sys, time, torch, torch.utils.data
start = time.perf_counter()
import siamlearn
print(time.perf_counter() - start)
print(*sorted(name for name in ("matplotlib", "sklearn", "torchvision", "scipy", "tensorboard")
              if name in sys.modules))
"""
    took = []
    for _ in range(2):
        run = [sys.executable, "-c", program]
        seconds, heavy, _ = subprocess.run(
            run, check=True, capture_output=True, text=True
        ).stdout.split("\n")
        assert heavy == ""
        took.append(float(seconds))
    assert min(took) < 2


def test_importing_starts_nothing():
    program = """
import random, signal, threading, os
import numpy, torch
before = (random.getstate()[1][:5], torch.get_rng_state().sum().item(),
          signal.getsignal(signal.SIGINT), threading.active_count(), dict(os.environ),
          torch.get_num_threads(), torch.get_default_dtype())
import siamlearn
after = (random.getstate()[1][:5], torch.get_rng_state().sum().item(),
         signal.getsignal(signal.SIGINT), threading.active_count(), dict(os.environ),
         torch.get_num_threads(), torch.get_default_dtype())
assert before == after, (before, after)
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_nothing_is_pickled_evaluated_or_unpacked_blindly():
    banned = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    calls = {"eval", "exec", "extractall", "extract", "print"}
    for path in FILES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "") or ""}
                assert not banned & names, path
            if isinstance(node, ast.Call):
                called = node.func
                name = (
                    called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                )
                owner = getattr(getattr(called, "value", None), "id", "")
                # A module's own eval() is the method of that name, not the built-in.
                bare = not isinstance(called, ast.Attribute)
                assert not (name in calls and (bare or name.startswith("extract"))), (path, name)
                assert (owner, name) not in {("torch", "load"), ("torch", "save")}, path


def test_heavy_libraries_stay_in_their_places():
    places = {
        "matplotlib": {"plots"},
        "torchvision": {"data"},
        "PIL": {"data", "gallery.py", "report"},
        "sklearn": {"baselines.py", "inspection", "nn"},
    }
    for path in FILES:
        place = path.relative_to(ROOT).parts[0]
        for node in ast.walk(parsed(path)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for library in {name.split(".")[0] for name in names} & set(places):
                typing_only = library == "matplotlib" and place == "train"
                assert place in places[library] or typing_only, f"{path} imports {library}"


def test_only_ranks_know_of_other_processes():
    who = {path for path in FILES if "torch.distributed" in path.read_text(encoding="utf-8")}

    known = "meeting.py", "ranks.py", "nn/ranks.py", "testing/processes.py"
    assert who == {ROOT / name for name in known}
