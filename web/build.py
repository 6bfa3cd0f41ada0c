"""Make the page that calculates in the browser.

    python3 -m web.build [--model DIR] [--also DIR] [--output DIR] [--serve [PORT]] [--push [SPACE]]

    python3 -m web.build                      the page of the trained model, in ../simple-llm-data/page
    python3 -m web.build --serve              and serve it on this machine, until Ctrl-C
    python3 -m web.build --model ../simple-llm-data/calculator --also ../simple-llm-data/simple-llm-gpt2
    python3 -m web.build --push me/adder-page     and upload it to a static Hugging Face Space

Reads   a model folder that trainer.py wrote
Writes  a folder of static files that any web server can serve, or a static Hugging Face Space:
        index.html and its modules, the model, what the page says of it in model.json, typefaces

There are two kinds of page. A model that works as on paper, in one block, is shown at its work: the page reads its
weights as they are, and can check every context there is. A model that adds, or adds and subtracts, without a
scratchpad goes into an ONNX file with its runtime; that is asked 10,000 sums beside torch, and the page is made only if
it says the same to every one. --also puts the page of a model of the other kind one click away.
"""

import contextlib
import importlib.util
import json
import shutil
import sys
import tempfile
from http.server import ThreadingHTTPServer
from pathlib import Path

from simple_llm import command_line

NEEDED = ("onnx", "onnxruntime")  # of requirements-web.txt
DEFAULT_PORT = 8000
NUM_PROBLEMS = 10_000

if __name__ == "__main__":
    options = command_line.model_options(
        __doc__,
        lambda parser: (
            parser.add_argument(
                "--also",
                type=command_line.model_name,
                metavar="DIR",
                help="a model of the other kind, whose page is one click away",
            ),
            parser.add_argument(
                "--output", type=command_line.path, metavar="DIR", default=Path("../simple-llm-data/page")
            ),
            parser.add_argument(
                "--serve",
                type=command_line.whole_number,
                metavar="PORT",
                nargs="?",
                const=DEFAULT_PORT,
                help=f"serve the page on this machine (default: port {DEFAULT_PORT}; 0: any that is free)",
            ),
            parser.add_argument(
                "--push",
                metavar="SPACE",
                nargs="?",
                const="",
                help="upload the page to a Space (default: hub.push_space of the model's train_config.yaml)",
            ),
        ),
    )
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        install = "pip install -c constraints.txt -r requirements-web.txt"
        command_line.fail(f"{missing[0]} is not installed; run `{install}`", 5)

from huggingface_hub.utils import HFValidationError, validate_repo_id

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.data.sampling import Sampler
from simple_llm.errors import EnvironmentFault, GateError, UsageError
from simple_llm.evaluation.certificates import in_words
from simple_llm.files.manifest import sha256_of
from simple_llm.files.names import CARD
from simple_llm.files.writing import alone_with, write_file
from simple_llm.model.folder import LoadedModel
from simple_llm.model.network import load_network, LoadedNetwork
from simple_llm.sharing.fetching import fetch_model
from simple_llm.sharing.hub import push_space, require_upload
from simple_llm.stopping import progress_bar
from web.description import describe, describe_calculator
from web.kinds import CALCULATOR, Kind, KINDS, SUMS
from web.onnx_export import compare, Comparison, export_model, mixed_problems
from web.packages import copy_packages
from web.serving import address, make_server

DESCRIPTION, SCRIPT = "model.json", "page.js"
FILES = "files"  # in a description: the sha256 of each other file of the page
LEAVING = ".tmp-"  # how the names begin of what a build that was killed leaves
SPACE = """\
---
title: {title}
emoji: "\u2795"
colorFrom: indigo
colorTo: gray
sdk: static
app_file: index.html
pinned: false
license: mit
---

{story} Made by
`python3 -m web.build` of the project simple-llm; the folder is all there is to it, and any web server can serve it.
"""


def main(arguments: command_line.argparse.Namespace) -> None:
    folder = fetch_model(arguments.model)
    loaded = load_network(folder)
    kind, output, hub = kind_of(loaded, folder), arguments.output, loaded.train.hub
    also = fetch_model(arguments.also) if arguments.also else None
    other = load_network(also) if also else None
    if other and kind_of(other, also) is kind:
        raise UsageError(f"--also: {also} is of the same kind as {folder}, and there is one page of each")
    space = hub.push_space if arguments.push == "" else arguments.push
    if arguments.push is not None:
        if not space:
            raise UsageError("--push: name the Space, for example --push me/adder-page, or set hub.push_space")
        require_space_name(space, "--push" if arguments.push else "hub.push_space")
        require_upload(space)
    server = None if arguments.serve is None else listen(output, arguments.serve)  # before the work, if it cannot be
    files = page_files(kind)
    if other:
        require_page_folder(output)
        beside = kind_of(other, also)
        report(output / beside.folder, build(other, also, output / beside.folder, other="../"))
        files += [f"{beside.folder}/{name}" for name in page_files(beside)]
    comparison = build(loaded, folder, output, other=f"{kind_of(other, also).folder}/" if other else None)
    report(output, comparison)
    if arguments.json:
        counts = {"compared": comparison.num_problems, "same": comparison.num_same} if comparison else {}
        print(json.dumps({"output": str(output), "model_sha256": loaded.sha256, **counts}))
    if arguments.push is not None:
        address_there = push_space(output, files, space, hub.private)
        done = f"pushed to {address_there}" if address_there else f"nothing to push: {space} holds all of it already"
        print(done, file=sys.stderr)
    if server:
        print(f"the page is at {address(server)} until Ctrl-C", file=sys.stderr, flush=True)
        with server, contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def report(output: Path, comparison: Comparison | None) -> None:
    print(f"{output}: {comparison or 'it has the weights as they are'}", file=sys.stderr)


def build(
    loaded: LoadedNetwork, folder: Path, output: Path, num_problems: int = NUM_PROBLEMS, other: str | None = None
) -> Comparison | None:
    """Write the page of a model: whole, beside the one that may be there, which it replaces at the end.

    Args:
        folder: of the model, with the reports beside it.
        other: the address of the page of another model, from this one's.

    Returns:
        How an ONNX file was compared, if the page has one.

    Raises:
        GateError: the ONNX file says something else than the model; a page that was there stays as it was.
        UsageError: the folder holds something else than a page, or there is no page for the model.
        EnvironmentFault: npm is not there or fails; a page that was there stays as it was.
    """
    kind = kind_of(loaded, folder)
    require_page_folder(output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=LEAVING, dir=output) as temporary:
        stage = Path(temporary)
        copy_packages(stage, kind.packages)  # first, so that who lacks npm does not wait for the rest
        for name, source in kind.own_files.items():
            (stage / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, stage / name)
        comparison, description = describe_and_put(kind, loaded, folder, stage, num_problems)
        card = SPACE.format(title=kind.title, story=kind.story)
        write_file(stage / CARD, card.encode())
        files = {name: sha256_of(stage / name) for name in page_files(kind) if name != DESCRIPTION}
        described = json.dumps({**description, "other": other, FILES: files}, indent=1) + "\n"
        write_file(stage / DESCRIPTION, described.encode())
        with alone_with(output.resolve()):
            replace_page(stage, output, kind)
    return comparison


def describe_and_put(
    kind: Kind, loaded: LoadedNetwork, folder: Path, stage: Path, num_problems: int
) -> tuple[Comparison | None, dict[str, object]]:
    """Put the weights where the page is made, and say what it is told of them."""
    if kind is CALCULATOR:
        shutil.copyfile(folder / kind.weights, stage / kind.weights)
        return None, describe_calculator(loaded, folder)
    comparison = export_checked(loaded, stage / kind.weights, num_problems)
    return comparison, {
        **describe(loaded, folder, comparison),
        "bytes": (stage / kind.weights).stat().st_size,
    }


def kind_of(loaded: LoadedModel, folder: Path) -> Kind:
    """The kind of page that can run a model and show it.

    Raises:
        UsageError: there is none.
    """
    if loaded.train.model.has_columns:
        if (num_blocks := loaded.train.model.n_layer) > 1:
            raise UsageError(f"the page runs one block on what is in view, and {folder} has {num_blocks}")
        return CALCULATOR
    if ADDITION not in loaded.operations:
        raise UsageError(f"the page asks for sums, and {folder} was trained on none")
    others = [f"{one.noun}s" for one in loaded.operations if one.step is None]
    if others:
        raise UsageError(f"the page asks for sums, and {folder} was trained on {in_words(others)} too; none is for it")
    return SUMS


def export_checked(loaded: LoadedNetwork, path: Path, num_problems: int) -> Comparison:
    """Write the ONNX file of a model and ask both the same sums.

    Raises:
        GateError: they do not say the same to every one.
    """
    problems = mixed_problems(Sampler.of(loaded.data.numbers), num_problems)
    export_model(loaded.model, path)
    with progress_bar(total=len(problems), unit="sum", unit_scale=True, desc="comparing with torch") as bar:
        comparison = compare(loaded.model, path, problems, loaded.vocabulary, bar.update)
    if comparison.num_same != comparison.num_problems:
        raise GateError(f"{path.name}: {comparison}; the page is not made")
    return comparison


def require_page_folder(output: Path) -> None:
    """See that a folder is not there, or may be replaced.

    Raises:
        UsageError: it holds something else than a page, or a page that was changed since.
    """
    if output.is_dir() and not may_be_replaced(output):
        raise UsageError(f"{output} holds something else than a page; name another folder with --output")
    changed = [
        name
        for name, digest in (files_of_page(output) or {}).items()
        if (output / name).is_file() and sha256_of(output / name) != digest
    ]
    if changed:
        raise UsageError(
            f"{output} holds a page whose {', '.join(changed)} was changed since, and stays as it is; name another "
            "folder with --output, or move it away"
        )


def files_of_page(output: Path) -> dict[str, str] | None:
    """The sha256 of each file that the description of a page vouches for; None of one from before it did."""
    try:
        files = json.loads((output / DESCRIPTION).read_bytes())[FILES]
        known = {name for kind in KINDS for name in page_files(kind)}  # and no path that leads out of the folder
        return {name: digest for name, digest in files.items() if name in known}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def may_be_replaced(folder: Path) -> bool:
    """Whether a folder is empty or holds a page, which may be one that a build did not finish.

    Of a page the description names the model, and the card the kind of Space; others are somebody else's. The page of
    another model in a folder of its own is seen to when that is replaced.
    """
    for name, sign in ((DESCRIPTION, b"model_sha256"), (CARD, b"sdk: static")):
        if (folder / name).exists() and sign not in (folder / name).read_bytes():
            return False
    beside = {kind.folder for kind in KINDS}
    rest = [path for path in folder.iterdir() if not path.name.startswith(LEAVING) and path.name not in beside]
    if (folder / DESCRIPTION).exists() or not rest:
        return True
    if not (folder / SCRIPT).exists():
        return False
    names = {str(file.relative_to(folder)) for path in rest for file in (path, *path.rglob("*")) if file.is_file()}
    return any(names <= set(page_files(kind)) for kind in KINDS)


def replace_page(stage: Path, output: Path, kind: Kind) -> None:
    """Move a whole page to its place; its description, which tells that it is whole, goes first and comes last."""
    known = files_of_page(output)
    of_page = {name for other in KINDS for name in page_files(other)} if known is None else set(known)
    (output / DESCRIPTION).unlink(missing_ok=True)
    for name in sorted(page_files(kind), key=lambda name: (name == DESCRIPTION, name != SCRIPT)):
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).replace(output / name)
    for name in of_page - set(page_files(kind)):
        (output / name).unlink(missing_ok=True)


def page_files(kind: Kind) -> list[str]:
    """Names of the files that a page is made of, and of no others in its folder."""
    return sorted([*kind.own_files, *kind.packages.values(), kind.weights, DESCRIPTION, CARD])


def require_space_name(space: str, source: str) -> None:
    """Check that the Hub could have a Space of this name.

    Args:
        source: the option or the setting that the name is from.

    Raises:
        UsageError: it could not.
    """
    try:
        validate_repo_id(space)
    except HFValidationError:
        raise UsageError(f"{source}: {space!r} cannot be the name of a Space; write it as me/adder-page") from None


def listen(output: Path, port: int) -> ThreadingHTTPServer:
    """Take a port for the page.

    Raises:
        UsageError: there is no such port.
        EnvironmentFault: another program has it.
    """
    try:
        return make_server(output, port)
    except OverflowError:
        raise UsageError(f"--serve {port}: a port is a number up to 65535") from None
    except OSError as error:
        raise EnvironmentFault(f"port {port}: {error.strerror}; name another with --serve PORT") from None


if __name__ == "__main__":
    command_line.run(main, options, debug=options.debug)
