"""The animated picture of work on paper: every token in its place, and what is reckoned is what was said."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from runs.picture_of_work import picture, Work, work_of, worth
from simple_llm.arithmetic.digits import DIGIT_ALPHABET
from simple_llm.arithmetic.multiplication import MULTIPLICATION
from simple_llm.arithmetic.symbols import END, RAISED
from simple_llm.data.problems import from_integers
from simple_llm.errors import UsageError
from simple_llm.machine import resolve_device
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import load_model
from simple_llm.model.tokenizer_files import vocabulary_of
from simple_llm.model.tokens import row_tokens
from tests.paper_model import ON_PAPER, paper_data, untrained_on_paper
from tests.pipeline import REPOSITORY
from tokenizer import train_tokenizer

pytestmark = pytest.mark.library

SVG = "{http://www.w3.org/2000/svg}"
PRODUCTS = [(57, 46), (9999, 999), (7, 0), (0, 808), (5, 55555), (90, 1010)]


def right_work(x, y):
    """What a model that makes no mistake writes, in base 10."""
    data = paper_data(10)
    words = train_tokenizer(iter([]), data, ON_PAPER)
    problem = from_integers([(x, y)], 10, 5, MULTIPLICATION)
    text = row_tokens(problem, vocabulary_of(words, 1)).tokens.long()
    return Work.of(words.convert_ids_to_tokens(text[0]), untrained_on_paper(data).grid(text), 10)


@pytest.mark.parametrize(("x", "y"), PRODUCTS)
def test_the_result_is_read_off_and_each_token_is_what_is_reckoned_from_what_is_seen(x, y):
    work = right_work(x, y)
    assert work.result == str(x * y)
    num_reckoned = 0
    for index in range(work.start, len(work.tokens) - 1):
        found, said = re.fullmatch(r"[^=]+ = (\d+)", work.reckoning(index)), work.tokens[index + 1]
        if found:
            carry, digit = divmod(int(found[1]), 10)
            assert worth(said) == (carry if said in RAISED else digit)
            num_reckoned += 1
    assert num_reckoned == 2 * len(str(x)) * len(str(y))


@pytest.mark.parametrize(("x", "y"), PRODUCTS)
def test_tokens_stand_where_people_write_them(x, y):
    work = right_work(x, y)
    spots = work.spots()
    assert len({(spot.x, spot.y) for spot in spots.values()}) == len(spots) == len(work.tokens) - 2
    for index in range(work.start, len(work.tokens) - 2):
        view, said = work.views[index], work.tokens[index + 1]
        if "above" in view and said in DIGIT_ALPHABET:  # it stands below the one that it is added to
            assert spots[view["above"]].x == spots[index + 1].x
        if "head" in view and said in DIGIT_ALPHABET:
            assert spots[view["head"]].y == spots[index + 1].y


def test_a_picture_has_a_frame_for_each_token_that_is_said_and_one_for_the_result():
    work = right_work(57, 46)
    root = ElementTree.fromstring(picture(work))
    groups = [group.get("class") for group in root.iter(f"{SVG}g")]
    assert groups.count("frame still") == 1
    assert sum("frame" in (one or "") for one in groups) == len(work.tokens) - work.start - 1 + 1
    texts = {
        kind: [one.text for one in root.iter(f"{SVG}text") if one.get("class") == kind] for kind in ("text", "cell")
    }
    assert texts["text"] == list(work.tokens)
    assert len(texts["cell"]) == sum(len(view) for view in work.views[work.start : -1])


def test_the_picture_in_docs_is_the_one_that_its_command_makes():
    """But for colours and type, which are those that the page had when it was made."""
    made, kept = picture(right_work(57, 46)), (REPOSITORY / "docs" / "images" / "work.svg").read_text(encoding="utf-8")
    assert len(kept.encode()) < 300_000
    without_style = [re.sub(r"<style>.*</style>", "", one, flags=re.DOTALL) for one in (made, kept)]
    assert without_style[0] == without_style[1]


def test_what_a_model_says_is_drawn_and_what_is_no_product_is_refused(on_paper):
    calculator = Calculator(load_model(on_paper("all four")), resolve_device("cpu"))
    work = work_of(calculator, "7*5")
    assert (work.result, work.tokens[-1], int(work.result, 3)) == ("1022", END, 35)
    for problem in ("7+5", "6561*6561"):
        with pytest.raises(UsageError, match="whole product of at most 8 digits"):
            work_of(calculator, problem)
