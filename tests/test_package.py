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
there = set(sys.modules)
start = time.perf_counter()
import siamlearn
print(time.perf_counter() - start)
print(*sorted(name for name in ("matplotlib", "sklearn", "torchvision", "scipy", "tensorboard",
                                "pandas", "jinja2", "wandb", "mlflow", "umap", "torch._dynamo",
                                "torch._inductor") if name in set(sys.modules) - there))
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


STATE = """
import atexit, gc, locale, logging, os, random, signal, sys, threading, warnings
import numpy, torch, torch.utils.data, PIL.Image
def state():
    handlers = [signal.getsignal(n) for n in signal.valid_signals()]
    hooks = sys.excepthook, sys.displayhook, threading.excepthook, sys.gettrace(), sys.getprofile()
    return {
        "generators": (random.getstate(), numpy.random.get_state()[1].tolist(),
                       torch.get_rng_state().tolist()),
        "signals": handlers, "hooks": hooks, "exits": atexit._ncallbacks(),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "tasks": len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0,
        "environment": dict(os.environ), "folder": os.getcwd(), "path": list(sys.path),
        "logging": (list(logging.root.handlers), logging.root.level,
                    sorted(name for name, each in logging.root.manager.loggerDict.items()
                           if getattr(each, "handlers", None))),
        "warnings": list(warnings.filters), "locale": locale.setlocale(locale.LC_ALL),
        "recursion": sys.getrecursionlimit(), "collector": gc.get_threshold(),
        "torch": (torch.get_num_threads(), torch.get_num_interop_threads(),
                  torch.get_default_dtype(), torch.is_grad_enabled(),
                  torch.are_deterministic_algorithms_enabled(),
                  torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark),
        "numpy": (numpy.geterr(), sorted(map(str, numpy.get_printoptions().items()))),
        "pictures": PIL.Image.MAX_IMAGE_PIXELS,
    }
before = state()
"""
AFTER = """
after = state()
print(*(name for name in before if before[name] != after[name]))
"""


def changed_by(program):
    """What of the process is another after a program has run in it."""
    run = [sys.executable, "-c", STATE + program + AFTER]
    return subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()


def test_importing_starts_nothing():
    # Each module, and not only what the package imports by itself. What a library of somebody
    # else does when it is first imported is no doing of ours: those are imported before.
    everything = "\n".join(f"import {name}" for name in MODULES)
    assert changed_by("import siamlearn") == []
    theirs = "import matplotlib.pyplot, sklearn.manifold, torchvision, scipy.stats, tqdm, jinja2"
    assert changed_by(f"{theirs}\nbefore = state()\n{everything}") == []


def test_what_importing_could_start_would_be_seen():
    planted = {
        "generators": "torch.rand(1)",
        "signals": "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "exits": "atexit.register(len, ())",
        "threads": "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "environment": "os.environ['OMP_NUM_THREADS'] = '3'",
        "folder": "os.chdir('/')",
        "path": "sys.path.append('x')",
        "hooks": "sys.excepthook = len",
        "logging": "logging.basicConfig()",
        "warnings": "warnings.simplefilter('ignore')",
        "torch": "torch.set_float32_matmul_precision('medium')",
        "numpy": "numpy.seterr(all='ignore')",
        "pictures": "PIL.Image.MAX_IMAGE_PIXELS = None",
    }
    assert {*planted} <= {*changed_by("\n".join(planted.values()))}


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
