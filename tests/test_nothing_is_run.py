"""Proof 9, for the whole package: nothing that is read from a file is ever run as a program."""

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import siamlearn

ROOT = Path(siamlearn.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
MODULES |= {"subprocess", "runpy", "code", "imp", "tarfile", "yaml"}
# Built-in functions, by their bare name: a module of torch has an eval() of its own.
NAMES = {"eval", "exec", "__import__", "print"}
METHODS = {"extract", "extractall", "unpack_archive", "read_pickle", "to_pickle", "system", "popen"}
# Read or write pickles unless they are told not to.
OWNED = {(owner, name) for owner in ("torch", "np", "numpy") for name in ("load", "save")}
OWNED |= {("torch", "hub"), ("torch.hub", "load"), ("jit", "load"), ("torch.jit", "load")}


def forbidden(tree: ast.AST) -> list[str]:
    """What in a program could run what it reads."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += [module] if module.split(".")[0] in MODULES else []
            found += [alias.name for alias in node.names if (module, alias.name) in OWNED]
        elif isinstance(node, ast.Name) and node.id in NAMES:
            found.append(node.id)
        elif isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if node.attr in METHODS or (owner, node.attr) in OWNED:
                found.append(f"{owner}.{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            found.append(node.arg)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_pickled_evaluated_or_unpacked_blindly(path):
    assert forbidden(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "import torch; torch.load('x')",
        "from torch import load",
        "read = torch.load",
        "torch.save({}, 'x')",
        "torch.load('x', weights_only=True)",
        "np.load('x', allow_pickle=True)",
        "torch.hub.load('x', 'y')",
        "torch.jit.load('x')",
        "eval('1')",
        "run = exec",
        "__import__('os')",
        "archive.extractall()",
        "shutil.unpack_archive('x')",
        "os.system('x')",
        "pandas.read_pickle('x')",
        "import subprocess",
        "import tarfile",
        "print('x')",
    ],
)
def test_what_is_planted_is_found(planted):
    assert forbidden(ast.parse(planted))


def test_what_only_looks_alike_is_not():
    assert forbidden(ast.parse("net.eval(); EmbeddingNet.load('x'); re.compile('x')")) == []


WATCHED = """
import sys
seen = []
def watch(event, arguments):
    if event in ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn",
                 "subprocess.Popen", "shutil.unpack_archive"):
        seen.append(event)
"""
READS = """
from pathlib import Path
import siamlearn as sl
from siamlearn.data.drawn import DrawnFaces
from siamlearn.nn.nets import EmbeddingNet
from siamlearn.train.callbacks import Callback
from siamlearn.train.runs import read_config

class Stop(Callback):
    def on_epoch_end(self, trainer):
        trainer.stop("enough")

faces = DrawnFaces(6, 4, size=(28, 23))
sl.fit(faces, epochs=1, callbacks=())  # torch imports some of itself at the first step
sys.addaudithook(watch)
where = Path(sys.argv[1]) / "run"
cut = sl.fit(faces, epochs=2, callbacks=[Stop()], folder=where)
assert len(cut.log) == 1
whole = sl.fit(faces, epochs=2, callbacks=(), resume=where)
assert len(whole.log) == 2
EmbeddingNet.load(where / "net")
read_config(where)
"""


def watched(program: str, folder: Path) -> str:
    run = [sys.executable, "-W", "ignore", "-c", f"{WATCHED}{program}\nprint(*seen)", str(folder)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        run, check=True, capture_output=True, text=True, env=environment
    ).stdout.strip()


def test_a_run_that_is_saved_resumed_and_loaded_unpickles_nothing(tmp_path):
    assert watched(READS, tmp_path) == ""


def test_one_that_unpickles_would_be_seen(tmp_path):
    (tmp_path / "net").write_bytes(pickle.dumps(Path("x")))
    program = "import pickle; sys.addaudithook(watch); pickle.load(open(sys.argv[1] + '/net','rb'))"
    assert "pickle.find_class" in watched(program, tmp_path)
