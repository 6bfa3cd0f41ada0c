"""The page in a real browser, its models trained by this test run."""

import contextlib
import functools
import random
import shutil

import pytest
import torch

from simple_llm.config.settings import Numbers
from simple_llm.model.calculator import Calculator, NO_ANSWER
from simple_llm.model.folder import LoadedModel
from simple_llm.model.prompts import parse_prompt, Prompt
from tests.browser import inaccessible, visit
from tests.golden import GOLDEN
from tests.pipeline import REPOSITORY
from tests.trained_model import any_length_config, config_for
from web.build import build
from web.kinds import SUMS

NUM_SUMS = {2: 20}  # and of other kinds
NUM_OTHER_SUMS = 10


@pytest.fixture(scope="module")
def open_page(browser, trained_for, any_length, tmp_path_factory):
    """Build and open a page, once for each kind of model: of one that adds, or of one that was stopped early."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def make(kind=2, stage="model"):
            trained = any_length if kind == "any length" else trained_for(kind)
            train = any_length_config(1) if kind == "any length" else config_for(kind, 1)
            loaded = LoadedModel(getattr(trained, stage), trained.tokenizer, trained.data, train, "f" * 64, {})
            folder = tmp_path_factory.mktemp("page")
            build(loaded, folder / "no reports", folder, num_problems=100)
            return loaded, stack.enter_context(visit(browser, folder, reduced_motion="reduce"))

        yield make


@pytest.mark.parametrize(
    ("kind", "stage"), [(1, "model"), (2, "model"), ("all", "model"), ("any length", "model"), (2, "half")]
)
def test_the_page_answers_as_python_does_and_knows_what_is_right(kind, stage, open_page):
    loaded, visited = open_page(kind, stage)
    rng = random.Random(0)
    largest = 10**12 if kind == "any length" else loaded.data.numbers.max
    num_sums = NUM_SUMS.get(kind, NUM_OTHER_SUMS)
    pairs = [(rng.randrange(largest + 1), rng.randrange(10 ** rng.randint(1, 2))) for _ in range(num_sums)]
    adder = Calculator(loaded, torch.device("cpu"))
    expected = [adder.answer([Prompt(str(x), str(y))])[0] for x, y in pairs]  # one by one, in float32
    told = [visited.add(str(x), str(y)) for x, y in pairs]
    assert [answer for answer, _ in told] == [one.replace(NO_ANSWER, "no number") for one in expected]
    is_exact = [status.startswith("Exact in") for _, status in told]
    assert is_exact == [one == str(x + y) for one, (x, y) in zip(expected, pairs, strict=True)]
    assert all(is_exact) == (stage == "model")
    assert (visited.complaints, visited.foreign) == ([], [])


def test_python_and_page_write_numbers_and_positions_in_one_way(open_page):
    ask = """async golden => {
        const [numbers, {positionIds}] = await Promise.all([import("./numbers.js"), import("./positions.js")]);
        return golden.map(({model, sums, answers}) => ({
            model,
            sums: sums.map(({x, y}) => {
                const tokens = numbers.promptTokens(BigInt(x), BigInt(y), model);
                return {x, y, tokens, positions: positionIds(tokens, model)};
            }),
            answers: answers.map(({said}) => ({said, answer: numbers.readAnswer(said, model)?.toString() ?? null})),
        }));
    }"""
    _, visited = open_page()
    assert visited.page.evaluate(ask, GOLDEN) == GOLDEN


def test_bad_input_is_named_and_the_number_it_is_in_is_marked(open_page):
    _, visited = open_page()
    page = visited.page
    for x, y, words, marked in (
        ("-5", "1", "-5 is negative", "x"),
        ("12", "100", "100 is above 99, the largest number this model knows", "y"),
        ("12", "9" * 400, "is above 99", "y"),
        ("1.5", "1", "write whole numbers", "x"),
        ("12a", "1", '"a" is no digit', "x"),
        ("1", "", "Type a whole number, from 0 to 99", "y"),
        ("<b>1</b>", "1", '"<" is no digit', "x"),
    ):
        answer, status = visited.add(x, y)
        assert (answer, status) == ("", "")
        assert words in page.inner_text("#error")
        assert page.eval_on_selector_all("[aria-invalid]", "all => all.map(one => one.id)") == [marked]
        assert page.evaluate("document.activeElement.id") == marked
    assert visited.add("7", "1")[0] == "8"
    assert page.inner_text("#error") == ""
    assert page.query_selector("[aria-invalid]") is None


def test_fault_23_the_page_drops_leading_zeros_as_the_scripts_do(open_page):
    _, visited = open_page()
    for x, y in ((" 007", "1 "), ("000", "00"), ("0" * 500 + "12", "034")):
        prompt = parse_prompt(f"{x}+{y}", Numbers(max=99))
        answer, status = visited.add(x, y)
        assert (answer, status.startswith("Exact in")) == (str(int(prompt.x) + int(prompt.y)), True)


def test_the_keyboard_alone_adds_and_chooses_tokens_and_heads(open_page):
    _, visited = open_page()
    page, press = visited.page, visited.page.keyboard.press
    focused = "document.activeElement.id || document.activeElement.getAttribute('aria-label') || ''"
    page.focus("#x")
    order = []
    for _ in range(4):
        press("Tab")
        order.append(page.evaluate(focused))
    assert order == ["y", "add", "random", "carry"]
    press("Enter")
    visited.wait()
    assert [page.input_value("#x"), page.input_value("#y"), page.inner_text("#answer")] == ["99", "1", "100"]
    while "answer, place" not in page.evaluate(focused):
        press("Tab")
    captions = {page.inner_text("#arcs-words")}
    press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    captions.add(page.inner_text("#arcs-words"))
    while not page.evaluate("document.activeElement.name === 'head'"):
        press("Tab")
    press("ArrowRight")
    captions.add(page.inner_text("#arcs-words"))
    assert len(captions) == 3  # it followed each choice
    assert page.evaluate(focused) in page.inner_text("#arcs-words")


def test_nothing_is_wider_than_the_window_in_light_and_dark(open_page, tmp_path):
    for kind, x, y in ((2, "99", "99"), ("any length", "9" * 60, "1")):
        _, visited = open_page(kind)
        page = visited.page
        visited.add(x, y)
        for width, scheme in ((360, "dark"), (1280, "light")):
            page.set_viewport_size({"width": width, "height": 800})
            page.emulate_media(color_scheme=scheme)
            picture = page.screenshot(path=tmp_path / "page.png", full_page=True)
            assert len(picture) > 20_000  # something is drawn
            root = "document.documentElement"
            assert page.evaluate(f"{root}.scrollWidth") <= page.evaluate(f"{root}.clientWidth") == width
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            lightness = float(paper.removeprefix("oklch(").split()[0])
            assert (lightness > 0.5) == (scheme == "light")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_can_be_read_in_light_and_dark(scheme, open_page):
    _, visited = open_page()
    visited.page.emulate_media(color_scheme=scheme)
    measure = (REPOSITORY / "tests" / "contrast.js").read_text()
    for y in ("34", "100"):  # an answer, an error
        visited.add("57", y)
        visited.page.mouse.move(0, 0)
        visited.page.evaluate("document.activeElement.blur()")
        found = visited.page.evaluate(measure)
        assert found["poor"] == []
        assert inaccessible(visited.page) == []
        assert found["numMeasured"] > 50


def test_who_wants_less_motion_gets_none(open_page):
    _, visited = open_page()
    moving = {}
    for motion in ("reduce", "no-preference"):
        visited.page.emulate_media(reduced_motion=motion)
        visited.add("12", "34")
        moving[motion] = visited.page.evaluate("document.getAnimations().length")
    visited.page.emulate_media(reduced_motion="reduce")
    assert moving["reduce"] == 0 < moving["no-preference"]


@pytest.mark.parametrize(
    ("evidence", "words", "is_proof"),
    [
        (None, "Nothing is measured or proved of this model", False),
        (
            {"kind": "all pairs", "correct": 10**8, "total": 10**8, "range": ["0", "9999"]},
            "Proved on all 100,000,000 pairs of 0 to 9,999: 0 wrong",
            True,
        ),
        ({"kind": "all pairs", "correct": 98, "total": 100, "range": ["0", "9"]}, "Counted: 2 of 100 wrong", False),
        ({"kind": "all lengths", "correct": 108_996, "total": 108_996, "range": None}, "all 108,996 contexts", True),
        ({"kind": "sample", "correct": 9, "total": 10, "error_rate_upper_95": 0.4}, "9 of 10 sums", False),
    ],
)
def test_the_page_claims_what_was_measured_and_no_more(evidence, words, is_proof, open_page):
    _, visited = open_page()
    said = visited.page.evaluate("async evidence => (await import('./words.js')).evidenceWords({evidence})", evidence)
    assert words in said["long"]
    assert said["isProof"] == is_proof == ("roved" in said["short"])


def test_the_page_shows_which_model_runs(open_page):
    loaded, visited = open_page()
    facts = visited.page.inner_text("#facts")
    assert "Nothing is measured or proved" in facts
    assert "f" * 12 in facts
    assert f"{sum(weight.numel() for weight in loaded.model.parameters()):,}" in facts
    assert "2 layers, 4 heads, width 64" in facts
    assert "same as torch on 100 of 100 sums" in facts


def test_the_shape_of_a_model_is_told_in_the_right_number(open_page):
    _, visited = open_page()
    told = visited.page.evaluate("""async () => {
        const [{facts}, model] = await Promise.all([import("./words.js"), fetch("model.json")]);
        return facts({...await model.json(), layers: 1, heads: 1}).map(fact => fact.textContent);
    }""")
    assert "Shape1 layer, 1 head, width 64" in told


def test_a_sum_put_into_the_address_of_an_open_page_is_answered(open_page):
    _, visited = open_page()
    visited.add("1", "2")
    visited.page.evaluate("location.hash = '#31+4'")
    visited.page.wait_for_function("document.getElementById('answer').textContent === '35'", timeout=10_000)
    assert [visited.page.input_value(name) for name in ("#x", "#y")] == ["31", "4"]
    visited.page.evaluate("location.hash = '#500+1'")
    visited.page.wait_for_function("document.getElementById('error').textContent", timeout=10_000)
    assert visited.page.inner_text("#error").startswith("500 is above 99")
    visited.page.evaluate("location.hash = '#no sum'")
    assert visited.add("7", "1")[0] == "8"


# ---- A page that cannot start ---------------------------------------------------------------------


@pytest.fixture
def bare_page(tmp_path):
    """The page's own files, a runtime that runs nothing, a description and no weights."""
    folder = tmp_path / "page"
    (folder / "onnxruntime").mkdir(parents=True)
    for name, source in SUMS.own_files.items():
        shutil.copyfile(source, folder / name)
    (folder / "onnxruntime" / "ort.wasm.min.mjs").write_text("export const env = { wasm: {} };")
    (folder / "model.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("missing", "words"),
    [
        ("page.js", "page.js could not be loaded"),
        ("attention.js", "attention.js could not be loaded"),
        ("onnxruntime/ort.wasm.min.mjs", "onnxruntime/ort.wasm.min.mjs could not be loaded"),
        ("model.json", "model.json: the server says 404"),
    ],
)
def test_a_file_that_is_missing_is_named(missing, words, browser, bare_page):
    (bare_page / "model.onnx").write_bytes(bytes(10**6))
    (bare_page / missing).unlink()
    with visit(browser, bare_page) as visited:
        assert words in visited.page.inner_text("#error")
        assert visited.page.inner_text("#status") == ""


def test_a_page_opened_as_a_file_says_that_it_needs_a_server(browser, bare_page):
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((bare_page / "index.html").as_uri())
        page.wait_for_selector("#form[aria-busy=false]")
        assert "needs a web server; `make demo` starts one" in page.inner_text("#error")
        assert page.inner_text("#status") == ""
