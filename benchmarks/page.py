"""How long the page takes to load and to answer, in headless Chromium on this machine, and pictures of it.

    python3 -m benchmarks.page [--model DIR] [--rounds 5] [--sums 50] [--images docs/images]

    load            from asking for the address until the model can be asked, every file fetched anew
    first answer    of the problem that a page just loaded answers first: no pass was run before
    answer          of the problems that come after it; of a calculator as many of each operation
    20 by 20        of a calculator: a product of numbers of 20 digits, from the key to the drawing
    proof           and every context asked, from the click to the verdict

Answers take what the page itself shows: all forward passes of a problem, without the drawing. Every answer is compared
with Python's integers; a round is a browser window of its own.
"""

import argparse
import json
import random
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.report import machine
from simple_llm import command_line
from simple_llm.model.network import load_network
from web.build import build, kind_of
from web.kinds import CALCULATOR, Kind
from web.serving import address, make_server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY = "#form[aria-busy=false]"
PICTURES = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "device_scale_factor": 1.5},
}
LARGE = 10**20  # products of numbers below it, and not below a tenth of it


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--model", type=command_line.path, default=Path("../simple-llm-data/simple-llm-gpt2"), metavar="DIR"
    )
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--sums", type=int, default=50, help="asked in all, of each operation")
    made.add_argument(
        "--images", type=command_line.path, metavar="DIR", help="for page-desktop.png, page-phone.png or alike"
    )
    arguments = made.parse_args()
    loaded = load_network(arguments.model)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        build(loaded, arguments.model, Path(folder))
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with make_server(Path(folder)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            kind = kind_of(loaded, arguments.model)
            if kind is CALCULATOR:
                symbols = [one.symbol for one in loaded.operations]
                figures, right = measure_calculator(browser, address(server), symbols, arguments.rounds, arguments.sums)
            else:
                largest = loaded.data.numbers.max
                figures, right = measure(browser, address(server), largest, arguments.rounds, arguments.sums)
            if arguments.images:
                draw(browser, address(server), arguments.images, kind)
            server.shutdown()
        version = browser.version
        browser.close()
    report(figures, right, {"chromium": version, "model_sha256": loaded.sha256, **machine()})


def measure(
    browser: Browser, home: str, largest: int, rounds: int, num_sums: int
) -> tuple[dict[str, list[float]], tuple[int, int]]:
    """Load the page so many times, and share the sums among these.

    Returns:
        milliseconds by name, and how many of how many sums were right.
    """
    rng = random.Random(0)
    figures = {"load": [], "first answer": [], "answer": []}
    num_right = num_asked = 0
    for number in range(rounds):
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(home)
            page.wait_for_selector(READY)
            figures["load"].append(page.evaluate("performance.getEntriesByName('model ready')[0].startTime"))
            figures["first answer"].append(milliseconds(page))
            for _ in range(num_sums // rounds + (number < num_sums % rounds)):
                x, y = rng.randint(0, largest), rng.randint(0, largest)
                num_right += ask(page, x, y) == str(x + y)
                num_asked += 1
                figures["answer"].append(milliseconds(page))
    return figures, (num_right, num_asked)


def ask(page: Page, x: int, y: int) -> str:
    page.fill("#x", str(x))
    page.fill("#y", str(y))
    page.press("#y", "Enter")
    page.wait_for_selector(READY)
    return page.inner_text("#answer")


def milliseconds(page: Page) -> float:
    """What the page measured of its last answer."""
    return page.evaluate("performance.getEntriesByName('answer').at(-1).duration")


def measure_calculator(
    browser: Browser, home: str, symbols: list[str], rounds: int, num_each: int
) -> tuple[dict[str, list[float]], tuple[int, int]]:
    """The same of a page that works as on paper; every round has a large product and the proof as well."""
    rng = random.Random(0)
    figures = {name: [] for name in ("load", "first answer", "answer", "20 by 20", "proof")}
    num_right = num_asked = 0
    for number in range(rounds):
        with browser.new_context(reduced_motion="reduce") as context:
            page = context.new_page()
            page.goto(home)
            page.wait_for_selector(READY)
            figures["load"].append(page.evaluate("performance.getEntriesByName('model ready')[0].startTime"))
            figures["first answer"].append(milliseconds(page))
            for symbol in symbols * (num_each // rounds + (number < num_each % rounds)):
                x, y = (rng.randrange(1, 10 ** rng.randint(1, 9)) for _ in range(2))
                num_right += work_out(page, f"{x}{symbol}{y}") == python_answer(x, symbol, y)
                num_asked += 1
                figures["answer"].append(milliseconds(page))
            x, y = (rng.randrange(LARGE // 10, LARGE) for _ in range(2))
            if "*" in symbols:
                began = time.perf_counter()
                num_right += work_out(page, f"{x}*{y}") == str(x * y)
                num_asked += 1
                figures["20 by 20"].append(1000 * (time.perf_counter() - began))
            began = time.perf_counter()
            if not prove(page):
                raise SystemExit("the page says that the model is not right")
            figures["proof"].append(1000 * (time.perf_counter() - began))
    return {name: values for name, values in figures.items() if values}, (num_right, num_asked)


def work_out(page: Page, problem: str) -> str:
    page.fill("#problem", problem)
    page.press("#problem", "Enter")
    page.wait_for_selector(READY)
    return page.inner_text("#answer")


def prove(page: Page) -> bool:
    """Have the page check every context; whether it says that all are right."""
    page.click("#check")
    page.wait_for_selector("#verdict.right, #verdict.wrong", timeout=120_000)
    return page.locator("#verdict.right").count() == 1


def python_answer(x: int, symbol: str, y: int) -> str:
    if symbol == "/":
        quotient, rest = divmod(x, y)
        return f"{quotient} r {rest}" if rest else str(quotient)
    value = {"+": x + y, "-": x - y, "*": x * y}[symbol]
    return str(value).replace("-", "\N{MINUS SIGN}")


def draw(browser: Browser, home: str, folder: Path, kind: Kind) -> None:
    """Photograph the page on a desk in light, and in the hand in the dark; a calculator has proved itself."""
    folder.mkdir(parents=True, exist_ok=True)
    name, problem = ("page-calculator", "#57*46") if kind is CALCULATOR else ("page", "#8765+1358")
    for where, window in PICTURES.items():
        with browser.new_context(reduced_motion="reduce", **window) as context:
            page = context.new_page()
            page.goto(home + problem)
            page.wait_for_selector(READY)
            if kind is CALCULATOR:
                prove(page)
                page.evaluate("document.activeElement.blur()")
            page.screenshot(path=folder / f"{name}-{where}.png", full_page=True)


def report(figures: dict[str, list[float]], right: tuple[int, int], facts: dict[str, object]) -> None:
    """Print medians and spreads, and everything as JSON on the last line."""
    document = {"right": right, **facts, "milliseconds": {}}
    for name, values in figures.items():
        spread = {"median": statistics.median(values), "min": min(values), "max": max(values), "n": len(values)}
        document["milliseconds"][name] = spread
        print("{:13} {median:7,.0f} ms  ({min:,.0f} to {max:,.0f}, n = {n})".format(name, **spread))
    print(f"right         {right[0]} / {right[1]}")
    print(json.dumps(document))


if __name__ == "__main__":
    main()
