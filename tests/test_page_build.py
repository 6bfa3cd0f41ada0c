"""What `python3 -m web.build` writes, says and refuses; the page itself is tested in test_page.py."""

import contextlib
import dataclasses
import hashlib
import json
import shutil
import threading
import urllib.error
import urllib.request

import pytest
import yaml

from benchmarks import page as benchmark
from simple_llm.config.settings import Operations, Sizes
from simple_llm.errors import EnvironmentFault, GateError, UsageError
from simple_llm.files.manifest import sha256_of
from simple_llm.model.network import load_network
from tests.browser import needs_npm
from tests.model_folders import write_model
from tests.pipeline import REPOSITORY, run_python
from tests.tiny_models import make_data_config, make_train_config
from web import build as build_script
from web import packages
from web.description import describe, describe_calculator, evidence
from web.kinds import CALCULATOR, SUMS
from web.onnx_export import Comparison, export_model
from web.serving import address, make_server

SHA = "a" * 64
CERTIFICATE = {"kind": "all pairs", "expected": 9, "checked": 9, "wrong": 0, "range": [0, 2], "base": 10} | {
    "failures": [],
    "min_logit_margin": 1.0,
    "dtype": "float32",
}
BOTH = ("add", "subtract")
SAME = Comparison(100, 100, 0.0)


def write(folder, name, **report):
    (folder / name).write_text(json.dumps({"model_sha256": SHA, **report}))


def test_help_is_told_without_loading_torch():
    done = run_python("-X", "importtime", "-m", "web.build", "--help", cwd=REPOSITORY)
    assert (done.returncode, "python3 -m web.build --serve" in done.stdout) == (0, True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "pydantic" in imported
    assert "torch" not in imported


def test_a_folder_without_a_model_is_refused_in_one_line(call_script, tmp_path):
    done = call_script("web/build.py", "--model", str(tmp_path), "--output", "page", cwd=tmp_path)
    assert done.exit_code == 3
    assert done.stderr.startswith(
        f"{tmp_path} holds no finished model; run `python3 trainer.py` first, or name a model"
    )
    assert not (tmp_path / "page").exists()


@needs_npm
def test_a_trained_model_becomes_a_folder_that_a_space_can_host(call_script, run_folder):
    done = call_script("web/build.py", "--output", "page", "--json", cwd=run_folder)
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["compared"] == told["same"] == 10_000
    page = run_folder / "page"
    written = {str(path.relative_to(page)) for path in page.rglob("*") if path.is_file()}
    assert {"index.html", "page.js", "model.onnx", "model.json", "README.md"} <= written
    assert {"onnxruntime/ort-wasm-simd-threaded.wasm", "fonts/newsreader-LICENSE"} <= written
    header = yaml.safe_load((page / "README.md").read_text().split("---\n")[1])
    assert (header["sdk"], header["app_file"]) == ("static", "index.html")
    description = json.loads((page / "model.json").read_text())
    evaluation = json.loads((run_folder / "model" / "evaluation.json").read_text())
    assert description["model_sha256"] == told["model_sha256"] == evaluation["model_sha256"]
    assert description["evidence"]["correct"] == evaluation["correct"]
    assert description["bytes"] == (page / "model.onnx").stat().st_size


def test_a_file_that_says_something_else_than_torch_makes_no_page(finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(build_script, "copy_packages", lambda *arguments: None)
    monkeypatch.setattr(build_script, "compare", lambda *arguments: Comparison(100, 99, 0.1))
    with pytest.raises(GateError, match="99 / 100"):
        build_script.build(load_network(finished_run.folder / "model"), tmp_path, tmp_path / "page")
    assert list((tmp_path / "page").iterdir()) == []


def test_the_benchmark_of_the_page_loads_a_model_that_can_be_exported(finished_run, monkeypatch):
    def export_only(loaded, folder, output):
        export_model(loaded.model, output / "model.onnx")
        raise GateError("exported")

    monkeypatch.setattr(benchmark, "build", export_only)
    monkeypatch.setattr(benchmark, "sync_playwright", contextlib.nullcontext)
    monkeypatch.setattr("sys.argv", ["page", "--model", str(finished_run.folder / "model")])
    with pytest.raises(GateError, match="exported"):
        benchmark.main()


# ---- What the page is told ------------------------------------------------------------------------


def test_the_best_evidence_of_this_model_is_told(tmp_path):
    assert evidence(tmp_path, SHA) is None
    sample = {"correct": 98, "total": 100, "error_rate_upper_95": 0.1}
    counts = {"commutes": {"agree": 97, "total": 100}, "runs": [{"total": 100}]}
    write(tmp_path, "evaluation.json", range=[0, 99], base=10, min_logit_margin=1.0, **counts, **sample)
    assert evidence(tmp_path, SHA) == {"kind": "sample", "range": ["0", "99"], **sample}
    write(tmp_path, "certificate.json", **CERTIFICATE | {"wrong": 1})
    all_pairs = {"kind": "all pairs", "correct": 8, "total": 9, "range": ["0", "2"]}
    assert evidence(tmp_path, SHA) == all_pairs
    write(tmp_path, "certificate.json", **CERTIFICATE | {"kind": "all lengths", "expected": 5, "checked": 5})
    assert evidence(tmp_path, SHA) == {"kind": "all lengths", "correct": 5, "total": 5, "range": None}


def test_of_a_model_that_subtracts_too_the_page_is_told_what_was_counted_of_sums(tmp_path):
    one = {"expected": 9, "checked": 9, "failures": [], "min_logit_margin": 1.0, "min_logit_margin_at": [0, 0]}
    operations = {name: {**one, "wrong": wrong} for wrong, name in enumerate(BOTH)}
    totals = {"expected": 18, "checked": 18, "wrong": 1, "operations": operations}
    write(tmp_path, "certificate.json", **CERTIFICATE | totals)
    assert evidence(tmp_path, SHA) == {"kind": "all pairs", "correct": 9, "total": 9, "range": ["0", "2"]}
    (tmp_path / "certificate.json").unlink()
    counts = {"commutes": {"agree": 97, "total": 100}, "runs": [{"total": 100}], "min_logit_margin": 1.0}
    of_each = {name: {"correct": 90 + more, "total": 100, "error_rate_upper_95": 0.2} for more, name in enumerate(BOTH)}
    sample = {"correct": 181, "total": 200, "error_rate_upper_95": 0.2, "operations": of_each}
    write(tmp_path, "evaluation.json", range=[0, 99], base=10, **counts, **sample)
    assert evidence(tmp_path, SHA) == {"kind": "sample", "range": ["0", "99"], **of_each["add"]}


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({"add": 0.0, "subtract": 1.0}, "the page asks for sums, and FOLDER was trained on none"),
        (
            {"add": 0.5, "multiply": 0.5},
            "the page asks for sums, and FOLDER was trained on products too; none is for it",
        ),
        (
            {"add": 0.2, "multiply": 0.4, "divide": 0.4},
            "the page asks for sums, and FOLDER was trained on products and quotients too; none is for it",
        ),
    ],
)
def test_a_model_of_other_operations_gets_no_page(tmp_path, call_script, shares, told):
    data = make_data_config().model_copy(update={"operations": Operations(**shares)})
    model = tmp_path / "model"
    write_model(model, data, make_train_config())
    done = call_script("web/build.py", "--model", str(model), "--output", "page", "--push", "me/page", cwd=tmp_path)
    assert (done.exit_code, done.stderr) == (2, told.replace("FOLDER", str(model)) + "\n")
    assert not (tmp_path / "page").exists()


@needs_npm
def test_a_model_that_works_on_paper_gets_a_page_of_its_own_with_sums_one_click_away(
    on_paper, finished_run, tmp_path, call_script
):
    made = ("--model", str(on_paper("all four")), "--output", "page", "--json")
    done = call_script("web/build.py", *made, "--also", str(finished_run.folder / "model"), cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    page, sums = tmp_path / "page", tmp_path / "page" / "sums"
    described, of_sums = (json.loads((folder / "model.json").read_text()) for folder in (page, sums))
    assert (described["other"], of_sums["other"]) == ("sums/", "../")
    assert described["model_sha256"] == hashlib.sha256((page / "model.safetensors").read_bytes()).hexdigest()
    assert (described["base"], described["operators"], described["evidence"]) == (3, ["+", "-", "*", "/"], None)
    assert {path.name for path in page.iterdir() if path.is_dir()} == {"fonts", "sums"}
    assert (sums / "model.onnx").exists()
    done = call_script("web/build.py", *made, cwd=tmp_path)  # again, and alone
    assert (done.exit_code, json.loads((page / "model.json").read_text())["other"]) == (0, None)
    assert set(json.loads(done.stdout)) == {"output", "model_sha256"}


def test_two_models_of_one_kind_have_no_pages_side_by_side(on_paper, tmp_path, call_script):
    model, also = on_paper("all four"), on_paper("products")
    done = call_script("web/build.py", "--model", str(model), "--also", str(also), "--output", "page", cwd=tmp_path)
    assert done.exit_code == 2
    assert done.stderr == f"--also: {also} is of the same kind as {model}, and there is one page of each\n"
    assert list(tmp_path.iterdir()) == []


@needs_npm
def test_a_page_of_another_kind_leaves_nothing_of_itself(on_paper, tmp_path):
    write_page(tmp_path / "page")
    folder = on_paper("all four")
    build_script.build(load_network(folder), folder, tmp_path / "page")
    written = {str(path.relative_to(tmp_path / "page")) for path in (tmp_path / "page").rglob("*") if path.is_file()}
    assert written == set(build_script.page_files(CALCULATOR))


def test_a_certificate_of_every_length_is_the_evidence_of_a_calculator(on_paper, tmp_path):
    folder = shutil.copytree(on_paper("products"), tmp_path / "model")
    loaded = load_network(folder)
    assert describe_calculator(loaded, folder)["evidence"] is None
    counts = {"expected": 70, "checked": 70, "wrong": 2, "min_logit_margin": 1.0}
    report = CERTIFICATE | counts | {"kind": "all lengths", "base": 2, "operations": {"multiply": counts}}
    write(folder, "certificate.json", **report | {"model_sha256": loaded.sha256})
    assert describe_calculator(loaded, folder)["evidence"] == {"correct": 68, "total": 70}
    write(folder, "certificate.json", **report | {"model_sha256": SHA})
    assert describe_calculator(loaded, folder)["evidence"] is None


def test_what_is_of_another_model_or_unfinished_or_damaged_is_no_evidence(tmp_path):
    write(tmp_path, "certificate.json", **CERTIFICATE)
    assert evidence(tmp_path, SHA) is not None
    assert evidence(tmp_path, "b" * 64) is None
    write(tmp_path, "certificate.json", **CERTIFICATE | {"checked": 8})
    assert evidence(tmp_path, SHA) is None
    for damaged in (
        "",
        "{",
        "[]",
        "{}",
        json.dumps({"model_sha256": SHA}),
        json.dumps({"model_sha256": SHA, "checked": 9, "expected": 9}),
    ):
        (tmp_path / "certificate.json").write_text(damaged)
        assert evidence(tmp_path, SHA) is None


def test_an_operand_that_a_browser_would_round_is_told_as_text(finished_run, tmp_path):
    loaded = load_network(finished_run.folder / "model")
    described = describe(loaded, tmp_path, SAME)
    assert described["range"] == ["0", "255"]
    assert described["answer_tokens"] == 4  # 255 + 255 = 1FE, and what ends it
    assert described["same_as_torch"] == [100, 100]


def test_sizes_of_sums_are_the_range_that_the_page_takes(finished_run, tmp_path):
    loaded = load_network(finished_run.folder / "model")
    numbers = loaded.data.numbers.model_copy(update={"sizes": Sizes(add=[3, 1])})
    data = loaded.data.model_copy(update={"numbers": numbers})
    assert describe(dataclasses.replace(loaded, data=data), tmp_path, SAME)["range"] == ["0", "15"]


# ---- What the page is made of ---------------------------------------------------------------------


def test_packages_are_installed_once_and_again_when_a_version_changes(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "INSTALLED", tmp_path / "installed")
    installs = []

    def install():
        installs.append(1)
        for name, version in json.loads(packages.PACKAGE_JSON.read_text())["dependencies"].items():
            folder = tmp_path / "installed" / "node_modules" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_text(json.dumps({"version": version}))
        for source in packages.FILES:
            path = tmp_path / "installed" / "node_modules" / source
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source)

    monkeypatch.setattr(packages, "_install", install)
    for _ in range(2):
        packages.copy_packages(tmp_path / "page")
    assert len(installs) == 1
    assert all((tmp_path / "page" / target).read_text() == source for source, target in packages.FILES.items())
    (tmp_path / "installed" / "node_modules" / "onnxruntime-web" / "package.json").write_text('{"version": "0"}')
    packages.copy_packages(tmp_path / "page")
    assert len(installs) == 2


def test_a_machine_without_npm_is_told_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "INSTALLED", tmp_path / "installed")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault, match=r"npm not found; install Node\.js"):
        packages.copy_packages(tmp_path / "page")


def test_the_server_says_what_each_file_is_and_keeps_to_its_folder(tmp_path):
    folder = shutil.copytree(REPOSITORY / "web" / "sums", tmp_path / "page")
    (folder / "some.wasm").write_bytes(b"\0asm")
    (tmp_path / "secret").write_text("not served")
    with make_server(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kinds = {}
        for name in ("", "page.js", "figures.css", "some.wasm"):
            with urllib.request.urlopen(address(server) + name) as response:
                kinds[name] = response.headers["Content-Type"].split(";")[0]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address(server) + "..%2Fsecret")
        server.shutdown()
    assert kinds == {
        "": "text/html",
        "page.js": "text/javascript",
        "figures.css": "text/css",
        "some.wasm": "application/wasm",
    }


# ---- A page that is there already -----------------------------------------------------------------


@needs_npm
def test_a_page_that_is_there_is_replaced_only_by_one_that_was_checked(finished_run, tmp_path, monkeypatch):
    loaded, page = load_network(finished_run.folder / "model"), tmp_path / "page"
    build_script.build(loaded, tmp_path, page, num_problems=20)
    before = {path: path.read_bytes() for path in page.rglob("*") if path.is_file()}
    monkeypatch.setattr(build_script, "compare", lambda *arguments: Comparison(20, 19, 1.0))
    with pytest.raises(GateError, match="19 / 20"):
        build_script.build(loaded, tmp_path, page, num_problems=20)
    assert {path: path.read_bytes() for path in page.rglob("*") if path.is_file()} == before
    assert {str(path.relative_to(page)) for path in before} == set(build_script.page_files(SUMS))


def test_a_build_that_fails_for_lack_of_npm_leaves_the_page_that_is_there_and_no_folder_it_refuses(
    finished_run, tmp_path, monkeypatch
):
    def build_without_npm(page):
        with monkeypatch.context() as patch, pytest.raises(EnvironmentFault, match="npm not found"):
            patch.setattr(packages, "INSTALLED", tmp_path / "nothing installed")
            patch.setenv("PATH", str(tmp_path))
            build_script.build(loaded, tmp_path, page, num_problems=20)

    loaded, page = load_network(finished_run.folder / "model"), tmp_path / "page"
    build_without_npm(page)
    assert list(page.iterdir()) == []
    write_page(page)
    build_without_npm(page)
    assert {path.read_text() for path in page.rglob("*") if path.is_file()} == {OF_ANOTHER_BUILD}
    assert {str(path.relative_to(page)) for path in page.rglob("*") if path.is_file()} == set(
        build_script.page_files(SUMS)
    )


def test_what_a_build_that_was_killed_leaves_is_replaced_and_a_file_of_anybody_else_is_not(tmp_path):
    page = tmp_path / "page"
    (page / ".tmp-1234" / "fonts").mkdir(parents=True)
    (page / ".tmp-1234" / "model.onnx").touch()
    assert build_script.may_be_replaced(page)  # killed before it moved anything
    write_page(page)
    (page / "model.json").unlink()
    assert build_script.may_be_replaced(page)  # killed while it moved
    (page / "fonts" / "mine.txt").touch()
    assert not build_script.may_be_replaced(page)
    (page / "model.json").write_text('{"model_sha256": ""}')
    assert build_script.may_be_replaced(page)  # a whole page; what else is there stays
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").touch()
    assert not build_script.may_be_replaced(mine)


def test_fault_34_a_page_that_was_changed_since_stays_as_it_is(tmp_path):
    page = tmp_path / "page"
    write_page(page)
    files = {"index.html": sha256_of(page / "index.html"), "../elsewhere": "", 5: ""}
    (page / "model.json").write_text(json.dumps({"model_sha256": "", build_script.FILES: files}))
    build_script.require_page_folder(page)
    (page / "index.html").write_text("mine")
    with pytest.raises(UsageError, match=r"whose index\.html was changed since, and stays as it is"):
        build_script.require_page_folder(page)


OF_ANOTHER_BUILD = "of another build: model_sha256, sdk: static"


def write_page(folder):
    """Write files with the names of a page's."""
    for name in build_script.page_files(SUMS):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(OF_ANOTHER_BUILD)


def test_a_folder_of_other_things_is_left_alone(finished_run, call_script, run_folder):
    before = sorted(run_folder.rglob("*"))
    done = call_script("web/build.py", "--output", ".", cwd=run_folder)
    assert done.exit_code == 2
    assert done.stderr == ". holds something else than a page; name another folder with --output\n"
    assert sorted(run_folder.rglob("*")) == before


@pytest.mark.parametrize(("port", "exit_code", "words"), [("70000", 2, "up to 65535"), (None, 5, "name another with")])
def test_a_port_that_cannot_be_had_is_named_before_the_work(run_folder, call_script, tmp_path, port, exit_code, words):
    with make_server(tmp_path) as taken:
        asked = port or str(taken.server_port)
        done = call_script("web/build.py", "--output", "page", "--serve", asked, cwd=run_folder)
    assert done.exit_code == exit_code
    assert words in done.stderr
    assert not (run_folder / "page").exists()
