"""Answer problems with a trained model: sums, and what else it was trained on.

    python3 inference.py [--model DIR] [--trace] [--allow-longer] ["1342+879" ...]

    python3 inference.py "1342+879" "12 + 7"        1342+879=2221 and 12+7=19, one a line
    python3 inference.py "57*46" "1742/56"          57*46=2622 and 1742/56=31 r 6, of a model that knows them
    python3 inference.py --trace "1342+879"         digits, positions, what each step said; or the work
    python3 inference.py < problems.txt             one problem a line; answers come in the same order
    python3 inference.py --input problems.txt > answers.txt
    python3 inference.py                            on a terminal: asks for problems; :help tells more
    python3 inference.py --model me/my-calculator "1+1"  a model from the Hugging Face Hub
    python3 inference.py --allow-longer "12345+1"   beyond the training: answered, and marked as such

A number above the largest of the training is refused, for what a model says to it is a guess. With --allow-longer it is
answered as far as the position table has room; a second column then says so, after a tab, and --json says
"beyond_training": true:

    12345+1=12346      beyond training

Leading zeros are dropped: 007+1 is 7+1.

Reads   a model folder that trainer.py wrote; nothing else
Writes  answers to stdout; a line that is no problem is named on stderr, and the exit code is 2 at the end

With --json the last line holds "replies", {"prompt": "57*46", "answer": "2622", "beyond_training": false} each, and
"refused", {"number": 3, "prompt": "12+x", "why": "..."} each: the third line or argument, blank lines counted.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator

from simple_llm import command_line

if __name__ == "__main__":
    # Before torch: it keeps a kernel for every number of rows, and those that do not come again would fill the memory.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16")
    options = command_line.model_options(
        __doc__,
        lambda parser: (
            parser.add_argument("prompts", nargs="*", metavar="PROBLEM"),
            parser.add_argument("--input", type=command_line.path, metavar="FILE", help="read one problem a line"),
            parser.add_argument(
                "--allow-longer", action="store_true", help="answer numbers above those of the training too, marked"
            ),
            parser.add_argument("--trace", action="store_true", help="show tokens, positions and steps"),
        ),
    )

import codecs
import contextlib
import itertools
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from simple_llm.errors import ArtefactError, UsageError
from simple_llm.evaluation.certificates import in_words
from simple_llm.files.reading import naming, refuse_pointer
from simple_llm.machine import resolve_device
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import load_model
from simple_llm.model.prompts import EXAMPLES, MAX_CHARACTERS, Prompt, PromptError
from simple_llm.sharing.fetching import fetch_model
from simple_llm.stopping import progress_bar

LINES_AT_A_TIME = 2**16  # held in memory, and sorted by length to be answered
CHARACTERS_AT_A_TIME = 2**21
BEYOND = "\tbeyond training"  # a column of its own behind an answer that no training covers
BAR_AFTER = 2.0  # seconds: a few problems need no progress bar

HELP = """answers {problems}
:trace    turns the view of {view} on and off
:help     shows this
:quit     leaves (so does Ctrl-D)"""


def main(arguments: command_line.argparse.Namespace) -> None:
    num_lines = None
    if arguments.prompts and arguments.input:
        raise UsageError("give problems or --input, not both")
    if arguments.prompts:
        lines = iter(arguments.prompts)
    elif arguments.input:
        require_file(arguments.input)
        num_lines = count_lines(arguments.input)
        lines = bounded_lines(arguments.input.open("rb"), arguments.input)
    elif not sys.stdin.isatty():
        lines = bounded_lines(sys.stdin.buffer)
    else:
        lines = None
    calculator = Calculator(load_model(fetch_model(arguments.model)), resolve_device("auto"), arguments.allow_longer)
    if lines is None:
        converse(calculator, arguments)
        return
    with progress_bar(total=num_lines, unit="line", unit_scale=True, desc="answering", delay=BAR_AFTER) as bar:
        num_bad = answer_lines(calculator, lines, arguments, bar)
    if num_bad:
        sys.stdout.flush()  # while an error can still be told
        sys.exit(UsageError.exit_code)  # what is wrong with each was said where it stood


def require_file(path: command_line.Path) -> None:
    """Check that problems can be read of what --input names, a file or what may stand for one, such as a pipe.

    Raises:
        ArtefactError: nothing is there.
        UsageError: a folder is.
    """
    if path.is_dir():
        raise UsageError(f"--input {path} is a folder; name a file with one problem a line")
    if not os.path.lexists(path):
        raise ArtefactError(f"--input {path} not found")


def count_lines(path: command_line.Path) -> int | None:
    """Lines of a file, for the progress bar; None where it can be read only once."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        return None
    refuse_pointer(path)
    with naming(path), path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(2**20), b""))


def bounded_lines(file: Iterable[bytes], name: command_line.Path | str = "standard input") -> Iterator[str]:
    """Read lines without trusting their length: of a line that is too long only the beginning is kept.

    Args:
        name: of the file, for an error.

    Raises:
        UsageError: it is in UTF-16, as some programs of Windows write.
    """
    is_first = True
    while line := named_line(file, MAX_CHARACTERS + 2, name):
        is_whole = line.endswith(b"\n") or len(line) < MAX_CHARACTERS + 2
        if is_first and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise UsageError(f"{name} is in UTF-16; save it in UTF-8")
        text = (line.removeprefix(codecs.BOM_UTF8) if is_first else line).decode("utf-8", "backslashreplace")
        yield text.rstrip("\r\n")
        is_first = False
        while not is_whole:
            line = named_line(file, 1_000_000, name)
            is_whole = line.endswith(b"\n") or len(line) < 1_000_000


def named_line(file: Iterable[bytes], most_bytes: int, name: command_line.Path | str) -> bytes:
    """Read a line, or its beginning; an error names what is read."""
    with naming(name):
        return file.readline(most_bytes)


def answer_lines(
    calculator: Calculator, lines: Iterator[str], arguments: command_line.argparse.Namespace, bar: tqdm
) -> int:
    """Print an answer for each line that is a problem; say on stderr what is wrong with the others; count those.

    While the model answers one block of lines, the next is read and the one before is printed. What ends that early,
    a signal or a closed output, ends the model's work too.
    """
    num_seen = num_bad = 0
    replies, refused = [], []
    numbered = enumerate(lines, 1)
    answering, is_over = None, threading.Event()

    def go_on(num_prompts: int) -> None:
        if is_over.is_set():
            raise InterruptedError("nobody waits for the answers any more")

    with ThreadPoolExecutor(max_workers=1) as model_thread, set_at_exit(is_over):
        while (block := next_block(numbered)) or answering:
            prompts, refused_here = parse_block(calculator, block, bar, are_lines=not arguments.prompts)
            num_seen, num_bad = num_seen + len(prompts) + len(refused_here), num_bad + len(refused_here)
            refused += refused_here if arguments.json else []
            before = answering
            answering = (block, prompts, model_thread.submit(calculator.answer, prompts, go_on)) if block else None
            if before:
                replies += print_answers(calculator, before[1], before[2].result(), arguments)
                bar.update(len(before[0]))
    if not num_seen:
        raise UsageError(f"no problem to answer; give {examples_for(calculator)}, one a line")
    if arguments.json:
        print_document(calculator, replies, refused)
    return num_bad


@contextlib.contextmanager
def set_at_exit(event: threading.Event) -> Iterator[None]:
    """Set an event when the block ends, however it does."""
    try:
        yield
    finally:
        event.set()


def parse_block(
    calculator: Calculator, block: list[tuple[int, str]], bar: tqdm, are_lines: bool
) -> tuple[list[Prompt], list[dict[str, object]]]:
    """Read the problems of numbered lines, of which blank ones are skipped, or of arguments; say what is none."""
    prompts, refused = [], []
    for number, line in block:
        if are_lines and not line.strip():
            continue
        try:
            prompts.append(calculator.parse(line))
        except PromptError as error:
            refused.append(refusal(number, line, error))
            tell(f"line {number}: {error}" if are_lines else str(error), bar)
    return prompts, refused


def refusal(number: int, line: str, error: PromptError) -> dict[str, object]:
    """What --json says of a line that is no problem."""
    return {"number": number, "prompt": line, "why": str(error)}


def print_answers(
    calculator: Calculator, prompts: list[Prompt], answers: list[str], arguments: command_line.argparse.Namespace
) -> list[dict[str, object]]:
    """Print problems with their answers; return them for --json, else nothing."""
    for prompt, answer in zip(prompts, answers, strict=True):
        print(line_of(prompt, answer))
        if arguments.trace:
            print(calculator.trace(prompt))
    if not arguments.json:
        return []
    return [
        {"prompt": str(prompt), "answer": answer, "beyond_training": prompt.is_longer}
        for prompt, answer in zip(prompts, answers, strict=True)
    ]


def print_document(calculator: Calculator, replies: list[dict[str, object]], refused: list[dict[str, object]]) -> None:
    """Print what --json asks for, as the last line."""
    print(json.dumps({"model_sha256": calculator.loaded.sha256, "replies": replies, "refused": refused}))


def line_of(prompt: Prompt, answer: str) -> str:
    """A problem with its answer, marked where it is beyond the training."""
    return f"{prompt}={answer}{BEYOND * prompt.is_longer}"


def next_block(numbered: Iterator[tuple[int, str]]) -> list[tuple[int, str]]:
    """Take the lines that are answered together: so many, or fewer long ones."""
    block, num_characters = [], 0
    for number, line in itertools.islice(numbered, LINES_AT_A_TIME):
        block.append((number, line))
        num_characters += len(line)
        if num_characters >= CHARACTERS_AT_A_TIME:
            break
    return block


def tell(line: str, bar: tqdm) -> None:
    """Say something on stderr, in place of the progress bar if that is there; it comes back by itself."""
    if bar.format_dict["elapsed"] > BAR_AFTER:
        bar.clear()
    print(line, file=sys.stderr)


def examples_for(calculator: Calculator) -> str:
    """Problems that a model can be asked, for a message: "sums such as 1342+879"."""
    operations = calculator.loaded.operations
    what = f"{operations[0].noun}s" if len(operations) == 1 else "problems"
    return f"{what} such as {' or '.join(one.write(*EXAMPLES[one.name]) for one in operations)}"


def known_numbers(calculator: Calculator) -> str:
    """Which numbers a model takes: "from 0 to 9999"; where operations differ, the widest range."""
    if calculator.knows_every_length:
        return "of any length"
    numbers = calculator.loaded.data.numbers
    largest = max(bounds[1] for one in calculator.loaded.operations for bounds in numbers.bounds(one))
    is_same = numbers.sizes is None
    return f"from {numbers.min} to {numbers.max}" if is_same else f"of up to {len(str(largest))} digits"


def help_for(calculator: Calculator) -> str:
    """What :help shows."""
    view = "work on paper" if calculator.vocabulary.work_ids else "tokens, positions and steps"
    return HELP.format(problems=examples_for(calculator), view=view)


def converse(calculator: Calculator, arguments: command_line.argparse.Namespace) -> None:
    """Answer problems on a terminal until the user leaves."""
    does = in_words([one.verb for one in calculator.loaded.operations])
    print(f"{does} numbers {known_numbers(calculator)}; :help tells more", file=sys.stderr)
    replies, refused = [], []
    for number, line in enumerate(typed_lines(), 1):
        if line == ":help":
            print(help_for(calculator), file=sys.stderr)
        elif line == ":trace":
            arguments.trace = not arguments.trace
            print(f"trace is {'on' if arguments.trace else 'off'}", file=sys.stderr)
        elif line.startswith(":"):
            print(f"no command {line}; :help lists them", file=sys.stderr)
        elif line:
            try:
                prompt = calculator.parse(line)
            except PromptError as error:
                refused.append(refusal(number, line, error))
                print(error, file=sys.stderr)
                continue
            replies += print_answers(calculator, [prompt], calculator.answer([prompt]), arguments)
    if arguments.json:
        print_document(calculator, replies, refused)


def typed_lines() -> Iterator[str]:
    """Ask for lines until there are no more, or the user wants to leave."""
    with contextlib.suppress(ImportError):  # a Python may be built without
        import readline  # noqa: F401 - line editing and history for input()

    while True:
        try:
            line = ask().strip()
        except EOFError:
            print(file=sys.stderr)
            return
        if line in (":quit", ":q", ":exit"):
            return
        yield line


def ask() -> str:
    """Read a line from a terminal; what asks for it does not get among answers that go into a file."""
    if sys.stdout.isatty():
        return input("> ")
    sys.stdout.flush()  # the answer before, where a pipe brings it to the terminal after all
    print("> ", end="", file=sys.stderr, flush=True)
    return input()


if __name__ == "__main__":
    command_line.run(main, options, debug=options.debug)
