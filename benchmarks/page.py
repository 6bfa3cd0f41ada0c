"""How long the page takes to load and to answer, in headless Chromium on this machine, and pictures of it.

    python3 -m benchmarks.page [--model DIR] [--rounds 5] [--sums 50] [--images docs/images]

    load            from asking for the address until the model can be asked, every file fetched anew
    first answer    of the sum that a page just loaded answers first: no pass was run before
    answer          of the sums that come after it

The last two are what the page itself shows: all forward passes of a sum, without the drawing. Every answer is compared
with Python's sum; a round is a browser window of its own.
"""

import argparse
import json
import random
import shutil
import statistics
import tempfile
import threading
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.report import machine
from simple_llm import command_line
from simple_llm.model.folder import load_model
from web.build import build
from web.serving import address, make_server

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
READY = "#form[aria-busy=false]"
SUM_ON_PICTURES = "#8765+1358"
PICTURES = {
    "page-desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "page-phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark", "device_scale_factor": 1.5},
}


def main() -> None:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--model", type=command_line.path, default=Path("../simple-llm-data/simple-llm-gpt2"), metavar="DIR"
    )
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--sums", type=int, default=50, help="asked in all, after the first of each round")
    made.add_argument("--images", type=command_line.path, metavar="DIR", help="for page-desktop.png and page-phone.png")
    arguments = made.parse_args()
    loaded = load_model(arguments.model)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        build(loaded, arguments.model, Path(folder))
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with make_server(Path(folder)) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            largest = loaded.data.numbers.max
            figures, right = measure(browser, address(server), largest, arguments.rounds, arguments.sums)
            if arguments.images:
                draw(browser, address(server), arguments.images)
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


def draw(browser: Browser, home: str, folder: Path) -> None:
    """Photograph the page on a desk in light, and in the hand in the dark."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, window in PICTURES.items():
        with browser.new_context(reduced_motion="reduce", **window) as context:
            page = context.new_page()
            page.goto(home + SUM_ON_PICTURES)
            page.wait_for_selector(READY)
            page.screenshot(path=folder / f"{name}.png", full_page=True)


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
