"""The page that works as on paper, in a real browser, with a small model that was trained on every context."""

import math
import random
import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks.page import python_answer
from simple_llm.arithmetic.contexts import contexts
from simple_llm.arithmetic.digits import digits_of
from simple_llm.arithmetic.paper import Numbers, texts
from simple_llm.arithmetic.symbols import NOTHING
from simple_llm.files.names import WEIGHTS
from simple_llm.model.context_engine import ContextEngine
from simple_llm.model.folder import LoadedModel
from simple_llm.model.known_contexts import TokenSymbols
from simple_llm.model.network import load_network
from tests.browser import inaccessible, needs_npm, Visit, visit
from tests.paper_model import paper_data, write_on_paper
from tests.pipeline import REPOSITORY
from web.build import build

pytestmark = [pytest.mark.library, needs_npm]

BASE, OPERATORS = 3, "+-*/"
NUM_KINDS, WIDTH = 6, 24  # of a cell; digits of the largest number


@pytest.fixture(scope="module")
def calculator(on_paper) -> LoadedModel:
    """All four operations in base 3."""
    return load_network(on_paper("all four"))


@pytest.fixture(scope="module")
def visited(browser, on_paper, calculator, tmp_path_factory) -> Iterator[Visit]:
    folder = tmp_path_factory.mktemp("page")
    build(calculator, on_paper("all four"), folder)
    with visit(browser, folder, reduced_motion="reduce") as one:
        yield one


def drawn(seed: int, count: int, most: int = 10**9) -> list[tuple[str, int, int]]:
    rng = random.Random(seed)
    pick = lambda least: rng.randrange(least, rng.choice([10, 1000, most]))  # noqa: E731
    return [(operator, pick(0), pick(operator == "/")) for operator in OPERATORS for _ in range(count)]


# ---- The engine, beside Python's ------------------------------------------------------------------


@pytest.mark.parametrize("base", [2, 3, 7])
def test_the_page_lists_the_contexts_that_the_package_lists(base, visited):
    asked = """async ([operators, base]) => {
        const {contexts} = await import("./contexts.js");
        const flat = ({own, seen, right}) => [own, right, ...seen.sort((one, other) => one - other)];
        return operators.map(operator => [...contexts(operator, base)].map(flat));
    }"""
    found = visited.page.evaluate(asked, [list(OPERATORS), base])
    for operator, listed in zip(OPERATORS, found, strict=True):
        some = contexts(operator, base)
        cells = some.symbols.astype(int) * NUM_KINDS + some.kinds
        expected = [
            [int(own), int(says), *sorted(row[is_seen].tolist())]
            for own, says, row, is_seen in zip(cells[:, -1], some.says, cells, some.is_seen, strict=True)
        ]
        assert sorted(listed) == sorted(expected)


def test_the_page_counts_as_many_contexts_as_are_known(visited):
    count = """async () => {
        const {contexts} = await import("./contexts.js");
        return [..."+-*/"].map(operator => [...contexts(operator, 10)].length);
    }"""
    assert visited.page.evaluate(count) == [693, 753, 14_510, 18_722]


def test_the_block_says_what_pytorch_says(visited, calculator):
    some = contexts("/", BASE)
    symbols, kinds = (torch.from_numpy(one.astype(int)).clamp(min=0) for one in (some.symbols, some.kinds))
    tokens = torch.from_numpy(TokenSymbols(calculator.model.config).tokens)[symbols]
    engine = ContextEngine(calculator.model, torch.float64)
    logits = engine.logits(tokens, kinds, torch.from_numpy(some.is_seen))
    asked = """async () => {
        const [{contexts}, {Network}, {readWeights}] = await Promise.all(
            ["contexts", "network", "weights"].map(name => import(`./${name}.js`)));
        const [model, buffer] = await Promise.all([
            fetch("model.json").then(one => one.json()), fetch("model.safetensors").then(one => one.arrayBuffer())]);
        const network = new Network(readWeights(buffer), model);
        return [...contexts("/", 3)].map(({own, seen}) => [own, [...seen].sort(), [...network.ask(own, seen)]]);
    }"""
    cells = some.symbols.astype(int) * NUM_KINDS + some.kinds
    ours = {
        (int(row[-1]), *sorted(map(str, row[seen].tolist()))): one
        for row, seen, one in zip(cells, some.is_seen, logits.numpy(), strict=True)
    }
    theirs = visited.page.evaluate(asked)
    assert len(theirs) == len(ours)
    far = [np.abs(ours[own, *map(str, seen)] - said).max() for own, seen, said in theirs]
    assert max(far) < 1e-5


@pytest.fixture(scope="module")
def worked(visited) -> list[tuple[tuple[str, int, int], dict]]:
    """Problems, and of each what the page's modules make of it.

    Its symbols; how many are known, with all rows side by side, before what they see; why each is said; and how many
    tokens there are, how many of them have a place, and how many places and different places there are.
    """
    problems = drawn(1, 20)
    asked = """async problems => {
        const [{work, remembering}, {Network}, {readWeights}, {layOut}, {reason}] = await Promise.all(
            ["work", "network", "weights", "layout", "explanation"].map(name => import(`./${name}.js`)));
        const [model, buffer] = await Promise.all([
            fetch("model.json").then(one => one.json()), fetch("model.safetensors").then(one => one.arrayBuffer())]);
        const say = remembering(new Network(readWeights(buffer), model));
        return problems.map(([operator, ...numbers]) => {
            const problem = {operator, numbers: numbers.map(BigInt)};
            const steps = work(problem, model.base, say);
            let end;
            do end = steps.next(); while (!end.done);
            const {tokens} = end.value;
            const isLate = (seen, step) => tokens[seen].symbol !== 2 * model.base && tokens[seen].step >= step;
            const {lines, width} = layOut(end.value, problem, model.base);
            const places = lines.flat().filter(({x}) => x >= 0 && x < width);
            return {
                symbols: tokens.map(({symbol}) => symbol),
                late: tokens.filter(({step, index}) => step !== undefined &&
                    tokens[index - 1].sees.some(seen => seen !== null && isLate(seen, step))).length,
                reasons: tokens.filter(({said}) => said).map(one => [one.symbol, reason(one, end.value, model.base)]),
                placed: [tokens.length, new Set(places.map(({index}) => index)).size,
                    places.length, new Set(places.map(({x, y}) => `${x} ${y}`)).size],
            };
        });
    }"""
    found = visited.page.evaluate(asked, [[operator, str(x), str(y)] for operator, x, y in problems])
    return list(zip(problems, found, strict=True))


def test_the_work_is_the_text_that_the_package_writes_each_token_in_a_place_of_its_own(worked):
    for (operator, *numbers), work in worked:
        written = [Numbers.of(digits_of([number], BASE, WIDTH)) for number in numbers]
        text = texts(operator, written, BASE)[0]
        assert work["symbols"] == text[text != NOTHING].tolist()
        assert work["placed"] == [len(work["symbols"])] * 4


def test_where_rows_are_written_side_by_side_none_is_ahead_of_what_it_sees(worked):
    """But for the sign | that begins it, which is taken for granted."""
    assert [work["late"] for _, work in worked] == [0] * len(worked)


def test_each_reason_that_is_told_is_an_equation_that_holds_and_gives_what_is_said(worked):
    pattern = re.compile(r"(.*) = (\N{MINUS SIGN}?)([012]+): (write|carry|borrow) (\d)\.")
    told = [(symbol, pattern.fullmatch(reason)) for _, work in worked for symbol, reason in work["reasons"]]
    equations = [(symbol, found.groups()) for symbol, found in told if found]
    assert len(equations) > 1000
    for symbol, (formula, minus, value, verb, digit) in equations:
        total = int(value, BASE) * (-1 if minus else 1)
        first, *others = re.findall(r"(^|[+\u2212]) ?([012 \u00d7]+)", formula)
        terms = [(sign, math.prod(map(int, term.split("\u00d7")))) for sign, term in (first, *others)]
        assert sum(-term if sign == "\N{MINUS SIGN}" else term for sign, term in terms) == total
        assert (int(digit), verb == "write") == (symbol % BASE, symbol < BASE)
        assert int(digit) == (total % BASE if verb == "write" else abs(total // BASE))


# ---- The page -------------------------------------------------------------------------------------


def test_problems_of_each_operation_come_out_as_python_has_them(visited):
    for operator, x, y in [*drawn(2, 5), ("*", 3**20 - 1, 3**20 - 2), ("/", 10**18, 7), ("-", 0, 10**18)]:
        answer, status = visited.work_out(f"{x}{operator}{y}")
        assert (answer, status.startswith("Exact in")) == (python_answer(x, operator, y), True), (operator, x, y)
    assert visited.work_out("12 + 873 + 4 + 0 =")[0] == "889"
    assert visited.work_out("007 \u00d7 6")[0] == "42"
    assert (visited.complaints, visited.foreign) == ([], [])


def test_what_is_no_problem_is_told(visited):
    page = visited.page
    for problem, words in (
        ("", "There is no problem yet"),
        ("12", "no operator"),
        ("12a+1", "\u201ca\u201d is neither a digit nor an operator"),
        ("1+2*3", "A problem has one operation"),
        ("7-", "A number is missing"),
        ("1*2*3", "A product has two numbers"),
        ("5/0", "Nothing is divided by 0"),
        ("1+" + "9" * 61, "this page shows 60 digits, and there are 61"),
        ("+".join("1" * 13), "this page shows 12 numbers"),
    ):
        assert visited.work_out(problem) == ("", "")
        assert words in page.inner_text("#error")
        assert page.evaluate("document.activeElement.id") == "problem"
    assert visited.work_out("7+1")[0] == "8"
    assert page.inner_text("#error") == ""


def test_the_keyboard_alone_steps_over_tokens_and_shows_what_each_sees(visited):
    page, press = visited.page, visited.page.keyboard.press
    visited.work_out("7*8")  # in base 3 21 * 22 = 2002: *12*22|2⁰1¹1|...
    page.focus(".sheet")
    press("Home")
    roles = "all => all.map(one => one.dataset.role)"
    seen = []
    for _ in range(4):
        seen.append((page.inner_text("#here"), page.eval_on_selector_all(".seen [data-role]", roles)))
        press("ArrowLeft")
    assert seen[0] == ("2", ["operator", "head", "operand", "carry"])
    assert [text for text, _ in seen] == ["2", "0", "1", "1"]
    press("Home")
    assert "2 \u00d7 1 = 2: write 2." in page.inner_text("#look")
    press("ArrowDown")
    press("ArrowDown")
    assert "row 2" in page.get_attribute("#here", "aria-label")
    assert page.get_attribute(".sheet", "aria-activedescendant") == "here"


def test_the_slider_shows_one_token_at_a_time_or_all_rows_at_once(visited):
    page = visited.page
    visited.work_out("80*80")
    written = "document.querySelectorAll('.cell.said:not(.later)').length"
    whole = page.evaluate(written)
    page.focus("#slider")
    page.keyboard.press("Home")
    assert page.evaluate(written) == 0
    for count in (1, 2, 3):
        page.keyboard.press("ArrowRight")
        assert page.evaluate(written) == count
    assert page.get_attribute("#slider", "aria-valuetext").startswith("token 3 of")
    page.check("[value=rows]")
    assert page.evaluate(written) == whole
    page.focus("#slider")
    page.keyboard.press("Home")
    for count in (1, 2, 3, 5, 7, 9, 12):  # a row begins three tokens behind the one above
        page.keyboard.press("ArrowRight")
        assert page.evaluate(written) == count
    page.check("[value=tokens]")


def test_who_wants_less_motion_sees_the_work_at_once_and_others_see_it_grow(visited):
    page, plays = visited.page, {}
    page.evaluate("""() => {
        globalThis.plays = 0;
        const count = () => { plays += play.getAttribute("aria-pressed") === "true"; };
        new MutationObserver(count).observe(play, {attributes: true});
    }""")
    for motion in ("reduce", "no-preference"):
        page.emulate_media(reduced_motion=motion)
        visited.work_out("2*2")
        plays[motion] = page.evaluate("plays")
    page.emulate_media(reduced_motion="reduce")
    assert plays["reduce"] == 0 < plays["no-preference"]
    page.wait_for_selector("#play[aria-pressed=false]")  # it has come to its end
    assert page.evaluate("document.querySelectorAll('.cell.later').length") == 0


def test_nothing_is_wider_than_the_window_and_all_can_be_read_in_light_and_dark(visited):
    page = visited.page
    measure = (REPOSITORY / "tests" / "contrast.js").read_text()
    prove(visited)
    for problem, width, scheme in (("80*79", 360, "dark"), ("4095/13", 1280, "light")):
        visited.work_out(problem)
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth") <= page.evaluate(f"{root}.clientWidth") == width
        page.evaluate("document.activeElement.blur()")
        assert inaccessible(page) == []
        assert page.evaluate(measure)["poor"] == []


# ---- The proof ------------------------------------------------------------------------------------


def prove(visited: Visit) -> str:
    """Have the page check every context; what it says at the end."""
    visited.page.click("#check")
    visited.page.wait_for_selector("#verdict.right, #verdict.wrong", timeout=60_000)
    return visited.page.inner_text("#verdict")


def test_the_proof_runs_in_the_browser(visited):
    total = sum(len(contexts(operator, BASE)) for operator in OPERATORS)
    assert f"Proved: all {total} contexts are right." in prove(visited)
    cells = "all => all.map(row => row.innerText.split('\\t').slice(1, 4))"
    counts = visited.page.eval_on_selector_all("#rows tr", cells)
    assert counts == [[str(len(contexts(one, BASE)))] * 2 + ["0"] for one in OPERATORS]
    assert visited.page.inner_text("#badge") == "Proved, here in this browser"


def test_a_planted_error_is_told_as_a_problem_that_goes_wrong(browser, on_paper, tmp_path):
    loaded = load_network(on_paper("all four"))
    one, other = loaded.model.config.digit_token_ids[1:3]
    table = loaded.model.transformer.wte.weight.data
    table[[one, other]] = table[[other, one]]  # two digits are exchanged
    loaded.model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / WEIGHTS).exists()
    build(loaded, tmp_path / "model", tmp_path / "page")
    with visit(browser, tmp_path / "page", reduced_motion="reduce") as visited:
        verdict = prove(visited)
        assert "Not proved" in verdict
        assert "contexts are wrong" in verdict
        assert visited.page.inner_text("#badge") == "Not proved: wrong in this browser"
        visited.page.click("#verdict a")
        visited.page.wait_for_selector("#status.wrong", timeout=10_000)
        assert visited.page.inner_text("#status").startswith("Wrong, it is")
        assert visited.complaints == []


def test_a_model_that_knows_nothing_says_no_number_and_its_page_stays_usable(browser, tmp_path):
    write_on_paper(tmp_path / "model", paper_data(4), steps=0)
    build(load_network(tmp_path / "model"), tmp_path / "model", tmp_path / "page")
    with visit(browser, tmp_path / "page", reduced_motion="reduce") as visited:
        for operator, x, y in drawn(3, 2):
            answer, status = visited.work_out(f"{x}{operator}{y}")
            assert (answer == python_answer(x, operator, y)) == status.startswith("Exact")
            visited.page.focus(".sheet")
            for key in ("Home", "ArrowLeft", "ArrowDown", "ArrowUp", "End", "ArrowRight"):
                visited.page.keyboard.press(key)
        assert visited.page.inner_text("#answer") == "no number"
        assert visited.complaints == []


def test_weights_that_the_page_does_not_name_are_no_proof(browser, calculator, on_paper, tmp_path):
    build(calculator, on_paper("all four"), tmp_path)
    described = (tmp_path / "model.json").read_text().replace(calculator.sha256, "f" * 64)
    (tmp_path / "model.json").write_text(described)
    with visit(browser, tmp_path, reduced_motion="reduce") as visited:
        assert "other weights ran here than those that this page names" in prove(visited)
