"""What several test files share: a vocabulary, a trained model, a finished run, scripts called in this process."""

import contextlib
import functools
import gc
import os
import pickle
import runpy
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from hypothesis import settings

from tests.pipeline import REPOSITORY

# Before torch is imported: these models are too small for threads, which would only wait for each other. And a script
# called in this process makes the weights that it makes in its own.
os.environ["OMP_NUM_THREADS"] = "1"

# A shell that starts the tests in the background has them ignore Ctrl-C, and nohup the end of a session; every script
# that they start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# On a busy machine any example may take long, which says nothing about the code. In CI the examples are the same each
# time, so that it judges the change and not the day's luck; everywhere else they are new ones.
settings.register_profile("ours", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("ours")


def pytest_report_header():
    """Name what this environment has in other versions than those of constraints.txt."""
    others = []
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        name, _, tested = line.partition("==")
        with contextlib.suppress(PackageNotFoundError):
            here = version(name).partition("+")[0]
            others += [f"{name} {here}, not {tested}"] if tested and here != tested else []
    return f"other than in constraints.txt: {'; '.join(others) or 'nothing'}"


@dataclass(frozen=True)
class Called:
    """How a script ended."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture(autouse=True)
def after_options():
    """Undo what reading options does until a script's main starts, after a test that starts none."""
    yield
    gc.enable()
    sys.excepthook = sys.__excepthook__
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def tested_libraries(monkeypatch):
    """Let the libraries that are here be those that were tested, whatever they are."""
    import torch
    import transformers

    from simple_llm.model import places_simple_llm

    here = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    tested = {
        name: tuple(dict.fromkeys((*versions, here[name]))) for name, versions in places_simple_llm.TESTED_WITH.items()
    }
    monkeypatch.setattr(places_simple_llm, "TESTED_WITH", tested)


@pytest.fixture
def blank_pictures(monkeypatch):
    """Have scripts save pictures of nothing, here and in forks, where a test looks at none: a curve takes a second."""
    from matplotlib.figure import Figure

    from simple_llm.evaluation import pictures

    def save(figure, path, real=pictures.save_figure):
        real(Figure(figsize=(1, 1)), path)

    monkeypatch.setattr(pictures, "save_figure", save)


@pytest.fixture
def vocabulary():
    from tests.tiny_models import make_vocabulary

    return make_vocabulary()


@pytest.fixture
def load(tmp_path):
    """Write both files as given and load them."""

    def write_and_load(*overrides, data="seed: 0\n", train="hub: {push: false}\n"):
        paths = tmp_path / "data.yaml", tmp_path / "train.yaml"
        for path, content in zip(paths, (data, train), strict=True):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        from simple_llm.config.loading import load_configs

        return load_configs(*paths, list(overrides))

    return write_and_load


@pytest.fixture
def errors(load):
    """Load settings that are wrong; return the lines of the message."""

    def lines_of(*overrides, **files):
        from simple_llm.errors import ConfigError

        with pytest.raises(ConfigError) as caught:
            load(*overrides, **files)
        return str(caught.value).splitlines()

    return lines_of


@pytest.fixture
def oracle_engine(monkeypatch):
    """Let the oracle stand where an engine would read its weights."""
    from simple_llm.model import decoding
    from tests.oracle import PerfectAdder

    def engine(model, dtype, real=decoding.Engine):
        return model if isinstance(model, PerfectAdder) else real(model, dtype)

    monkeypatch.setattr(decoding, "Engine", engine)


@pytest.fixture
def call_script(monkeypatch, capsys) -> Callable[..., Called]:
    """Run a script as `python3 NAME ...` would, but in this process: no seconds of imports, and it can be patched.

    call_script("trainer.py", "--fresh", cwd=folder).exit_code
    """

    def call(name: str, *arguments: str, cwd: Path) -> Called:
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            patch.setattr(sys, "argv", [name, *arguments])
            try:
                runpy.run_path(str(REPOSITORY / name), run_name="__main__")
                exit_code = 0
            except SystemExit as error:
                exit_code = error.code or 0
        return Called(exit_code, *capsys.readouterr())

    return call


def _train_small_model(k: int | str, tmp_path_factory) -> object:
    from tests.trained_model import train_small_model

    return train_small_model(k)


def _train_any_length_model(tmp_path_factory) -> object:
    from tests.trained_model import train_any_length_model

    return train_any_length_model()


def _run_pipeline(tmp_path_factory) -> object:
    from tests.finished_run import run_pipeline

    return run_pipeline(tmp_path_factory.mktemp("finished"))


def _write_on_paper(kind: str, tmp_path_factory) -> object:
    from tests.paper_model import write_kind

    return write_kind(tmp_path_factory.mktemp("paper"), kind)


# What takes seconds to make, once in a test run: what makes it, by its name, which begins with that of its fixture.
MAKERS: dict[str, Callable] = {
    "finished_run": _run_pipeline,
    "trained_for 1": functools.partial(_train_small_model, 1),
    "any_length": _train_any_length_model,
    "trained_for 2": functools.partial(_train_small_model, 2),
    "trained_for all": functools.partial(_train_small_model, "all"),
    **{
        f"on_paper {kind}": functools.partial(_write_on_paper, kind)
        for kind in ("all four", "decimal sums", "differences", "products")
    },
}


@pytest.fixture(scope="session")
def made_once(request, tmp_path_factory) -> Callable[[str], object]:
    """Share what takes long to make among the processes of this test run: made_once("trained_for 1").

    While another process makes it, this one makes what else the tests of this run need.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    needed = {name for test in request.session.items for name in getattr(test, "fixturenames", ())}

    def make(name: str, timeout: float) -> bool:
        path = folder / f"{name}.pickle"
        with contextlib.suppress(Timeout), FileLock(f"{path}.lock", timeout=timeout):
            if not path.exists():
                path.write_bytes(pickle.dumps(MAKERS[name](tmp_path_factory)))
        return path.exists()

    def make_or_read(name: str) -> object:
        others = [other for other in MAKERS if other != name and other.partition(" ")[0] in needed]
        while not make(name, timeout=0 if others else -1):
            make(others.pop(0), timeout=0)
        return pickle.loads((folder / f"{name}.pickle").read_bytes())

    return make_or_read


@pytest.fixture(scope="session")
def trained_for(made_once) -> Callable:
    """Make, once for each number of tokens a step, a model that adds two-digit numbers and one that half does."""
    from tests.trained_model import load_small_model

    return functools.cache(lambda k: load_small_model(k, made_once(f"trained_for {k}")))


@pytest.fixture(scope="session")
def trained(trained_for):
    """The one that says one token a step."""
    return trained_for(1)


@pytest.fixture(scope="session")
def any_length(made_once):
    """A model that adds ternary numbers of every length, and one that was stopped early."""
    from tests.trained_model import load_any_length_model

    return load_any_length_model(made_once("any_length"))


@pytest.fixture(scope="session")
def finished_run(made_once):
    """The whole pipeline, each script in its own process, on a tiny config: the folder it ran in, only to be read."""
    return made_once("finished_run")


@pytest.fixture
def run_folder(finished_run, tmp_path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(finished_run.folder, tmp_path / "run"))


@pytest.fixture(scope="session")
def untrained_folder(tmp_path_factory) -> Path:
    """The folder of a model that has learned nothing, only to be read; it was loaded once, so imports are done."""
    from simple_llm.model.folder import load_model
    from tests.model_folders import write_model
    from tests.tiny_models import make_data_config, make_train_config

    folder = tmp_path_factory.mktemp("untrained")
    write_model(folder, make_data_config(), make_train_config(2))
    load_model(folder)
    return folder


@pytest.fixture(scope="session")
def on_paper(made_once) -> Callable[[str], Path]:
    """Make, once for each kind, the folder of a model that calculates on paper, only to be read."""
    return lambda kind: made_once(f"on_paper {kind}")


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium."""
    from tests.browser import chromium

    with chromium() as started:
        yield started


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub that this process talks to; what is stored on this machine for the real one is out of sight."""
    import huggingface_hub

    from tests.hub_server import HubServer, TOKEN

    with HubServer() as server:
        for name, value in server.constants(tmp_path).items():
            monkeypatch.setattr(huggingface_hub.constants, name, value)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """What a test printed or logged goes between processes as UTF-8; a name in another encoding would end the run."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
