"""How threads wait for each other is said before torch is imported, whichever module comes first, unless a user has."""

import pytest

from simple_llm import WAITING
from tests.pipeline import REPOSITORY, run_python

# What OpenMP would read as torch is imported; the import goes no further. A module that needs no torch says nothing.
WHAT_TORCH_FINDS = f"""
import importlib, os, sys
class TorchIsLookedFor:
    def find_spec(name, path, target=None):
        if name == "torch":
            print([os.environ.get(name) for name in {WAITING}], flush=True)
            os._exit(0)
sys.meta_path.insert(0, TorchIsLookedFor)
importlib.import_module(sys.argv[1])
"""
OPENMP, LIBGOMP = WAITING
MODULES = (
    *("trainer", "evaluate", "visualize", "inference", "simple_llm.model.calculator", "simple_llm.machine"),
    *("runs.usual_way", "runs.speedrun_seed", "benchmarks.busy", "benchmarks.train_step"),
    *("web.onnx_export", "web.onnx_grid"),
)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    """The tests have simple_llm imported, which said it in their own environment."""
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)


def found_by_torch(module: str, **said: str) -> str:
    done = run_python("-c", WHAT_TORCH_FINDS, module, cwd=REPOSITORY, **said)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", MODULES)
def test_torch_finds_how_threads_wait_whichever_module_is_imported_first(module):
    assert found_by_torch(module) == "[None, '1500']"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({OPENMP: "ACTIVE"}, "['ACTIVE', None]"),
        ({LIBGOMP: "7"}, "[None, '7']"),
        ({OPENMP: "PASSIVE", LIBGOMP: "7"}, "['PASSIVE', '7']"),
    ],
)
def test_what_the_user_has_set_stays(said, found):
    assert found_by_torch("trainer", **said) == found
