"""The page in a real browser, its model trained by this test run."""

import json
import random

import pytest
import torch

from simple_llm.adder import Adder, NO_ANSWER
from simple_llm.model_folder import LoadedModel
from simple_llm.prompts import Prompt
from tests.browser import chromium, visit
from tests.golden import GOLDEN
from tests.trained_model import any_length_config, config_for
from web.build import build

NUM_SUMS = 50


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def page_of(trained_for, any_length, tmp_path_factory):
    """Build, once for each kind of model, the page of one that is often wrong; return it and the folder."""
    built = {}

    def make(kind):
        if kind not in built:
            trained = any_length if kind == "any length" else trained_for(kind)
            train = any_length_config(1) if kind == "any length" else config_for(kind, 1)
            loaded = LoadedModel(trained.half, trained.tokenizer, trained.data, train, "f" * 64, {})
            folder = tmp_path_factory.mktemp("page")
            build(loaded, folder / "no reports", folder, num_problems=100)
            built[kind] = loaded, folder
        return built[kind]

    return make


@pytest.mark.parametrize("kind", [1, 2, "all", "any length"])
def test_the_page_answers_as_python_does_and_knows_what_is_right(kind, browser, page_of):
    loaded, folder = page_of(kind)
    rng = random.Random(0)
    largest = 10**12 if kind == "any length" else loaded.data.numbers.max
    pairs = [(rng.randrange(largest + 1), rng.randrange(10 ** rng.randint(1, 2))) for _ in range(NUM_SUMS)]
    adder = Adder(loaded, torch.device("cpu"))
    expected = [adder.answer([Prompt(str(x), str(y))])[0] for x, y in pairs]  # one by one, in float32
    with visit(browser, folder) as visited:
        told = [visited.add(str(x), str(y)) for x, y in pairs]
        assert [answer for answer, _ in told] == [one.replace(NO_ANSWER, "no number") for one in expected]
        is_exact = [status.startswith("Exact in") for _, status in told]
        assert is_exact == [one == str(x + y) for one, (x, y) in zip(expected, pairs, strict=True)]
        assert any(is_exact)
        assert (visited.complaints, visited.foreign) == ([], [])


def test_python_and_page_write_numbers_and_positions_in_one_way(browser, page_of):
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
    with visit(browser, page_of(2)[1]) as visited:
        assert visited.page.evaluate(ask, GOLDEN) == GOLDEN


def test_bad_input_is_named_and_the_number_it_is_in_is_marked(browser, page_of):
    with visit(browser, page_of(2)[1]) as visited:
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
        answer, _ = visited.add(" 007", "1 ")
        assert (page.inner_text("#error"), answer != "") == ("", True)
        assert page.query_selector("[aria-invalid]") is None


def test_the_keyboard_alone_adds_and_chooses_tokens_and_heads(browser, page_of):
    with visit(browser, page_of(2)[1]) as visited:
        page, press = visited.page, visited.page.keyboard.press
        focused = "document.activeElement.id || document.activeElement.getAttribute('aria-label')"
        order = []
        for _ in range(5):
            press("Tab")
            order.append(page.evaluate(focused))
        assert order == ["x", "y", "add", "random", "carry"]
        press("Enter")  # a long carry
        visited.wait()
        assert [page.input_value("#x"), page.input_value("#y")] == ["99", "1"]
        while "answer, place" not in page.evaluate(focused):
            press("Tab")
        words = {page.inner_text("#arcs-words")}
        press("Tab")
        assert page.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
        words.add(page.inner_text("#arcs-words"))
        while not page.evaluate("document.activeElement.name === 'head'"):
            press("Tab")
        press("ArrowRight")
        words.add(page.inner_text("#arcs-words"))
        assert len(words) == 3  # the caption followed each choice
        assert page.evaluate(focused) in page.inner_text("#arcs-words")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(width, scheme, browser, page_of, tmp_path):
    window = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
    for kind, fragment in ((1, "#99+99"), ("any length", f"#{'9' * 60}+1")):
        with visit(browser, page_of(kind)[1], fragment, **window) as visited:
            page = visited.page
            picture = page.screenshot(path=tmp_path / "page.png", full_page=True)
            assert len(picture) > 20_000  # something is drawn
            inner, outer = page.evaluate("({scrollWidth, clientWidth} = document.documentElement, [scrollWidth, clientWidth])")
            assert inner <= outer
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            lightness = float(paper.split("(")[1].split()[0])
            assert (lightness > 0.5) == (scheme == "light"), paper


def test_who_wants_less_motion_gets_none(browser, page_of):
    count = "document.getAnimations().length"
    moving = {}
    for motion in ("reduce", "no-preference"):
        with visit(browser, page_of(2)[1], reduced_motion=motion) as visited:
            moving[motion] = visited.page.evaluate(count)
    assert moving["reduce"] == 0 < moving["no-preference"]


@pytest.mark.parametrize(
    ("evidence", "words", "is_proof"),
    [
        (None, "Nothing is measured or proved", False),
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
def test_the_page_claims_what_was_measured_and_no_more(evidence, words, is_proof, browser, page_of):
    folder = page_of(2)[1]
    told = json.loads((folder / "model.json").read_text())
    with visit(browser, folder) as visited:
        page = visited.page
        page.route("**/model.json", lambda route: route.fulfill(json={**told, "evidence": evidence}))
        page.reload()
        visited.wait()
        assert words in page.inner_text("#facts")
        assert page.eval_on_selector("#badge", "badge => badge.classList.contains('proof')") == is_proof
        assert ("roved" in page.inner_text("#badge")) == is_proof
