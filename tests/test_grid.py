"""What a token of work on paper sees: against a slow definition, and in every way that a model reads or says it."""

import itertools
import random
import re

import pytest
import torch
from transformers import DynamicCache, LogitsProcessorList, StaticCache

from simple_llm.model.modeling_simple_llm import SimpleLLMConfig, SimpleLLMForCausalLM
from simple_llm.model.places_simple_llm import Grid, IGNORE_INDEX, in_view, KINDS, up_to_the_end
from tests.greedy import say_alone
from tests.moved_names import another_release
from tests.paper import DIGITS, RAISED, read_off, SIGNS, written
from tests.test_generate import NeverSays
from tests.tiny_models import tiny_model

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]

BASES = [2, 3, 10, 16]
PRODUCT, QUOTIENT = "*75*64|2⁴4³3|2³6²2|=", "/2471/65|07⁰1⁰|36²0¹|16¹0⁰|="
EXAMPLES = [PRODUCT, QUOTIENT, "+21+378+4|5⁰8⁰8⁰|9⁰8⁰8⁰|=", "-243-978|3¹6¹4¹-7¹3¹5¹|=", "/031/64|03⁰1⁰|32²9²+28⁰3¹|="]
QUESTIONS = [example[: example.index("|") + 1] for example in EXAMPLES]
PAD, UNKNOWN, END = 0, 1, 2


def characters(base: int) -> str:
    """One for each token: padding, an unknown one, =, the signs, digits, carries."""
    return "_?=" + SIGNS + DIGITS[:base] + RAISED[:base]


def tokens_of(text: str, base: int = 10) -> list[int]:
    return [characters(base).index(character) for character in text]


def padded(texts: list[str], base: int = 10) -> torch.Tensor:
    length = max(map(len, texts))
    return torch.tensor([tokens_of(text.rjust(length, "_"), base) for text in texts])


def text_of(tokens: list[int], base: int = 10) -> str:
    return "".join(characters(base)[token] for token in tokens)


def grid_model(base: int = 10, **settings) -> SimpleLLMForCausalLM:
    """A random model of one block that says no padding."""
    first = len("_?=" + SIGNS)
    model = tiny_model(
        **{
            "n_layer": 1,
            "n_positions": len(KINDS),
            "vocab_size": first + 2 * base,
            "digit_token_ids": list(range(first, first + base)),
            "carry_token_ids": list(range(first + base, first + 2 * base)),
            "sign_token_ids": {sign: 3 + index for index, sign in enumerate(SIGNS)},
            "scratchpad": "columns",
            **settings,
        }
    )
    with torch.no_grad():
        model.transformer.wte.weight[:2] = 0.0  # padding and unknown have the logit 0, and some other one is above
    return model


def problems(base: int, number: int, seed: int = 0) -> list[str]:
    """Texts of all four operations in turn, most digits the highest one in some, so that much is added back."""
    rng, texts = random.Random(seed), []
    for operator in itertools.islice(itertools.cycle("+-*/"), number):
        numbers = []
        for _ in range(rng.randint(2, 5) if operator == "+" else 2):
            size = base ** rng.randint(1, 6)
            numbers.append(size - 1 - rng.randrange(size // base + 1) if rng.random() < 0.3 else rng.randrange(size))
        numbers[1] = numbers[1] or 1
        texts.append(written(operator, numbers, base))
    return texts


def rubbish(base: int, number: int) -> list[str]:
    """Any tokens in any order."""
    rng = random.Random(1)
    return ["".join(rng.choices(characters(base) + SIGNS * 3, k=rng.randint(1, 30))) for _ in range(number)]


# ---- The definition, one token after another ------------------------------------------------------


def places(text: str) -> list[tuple[str, tuple | None, list[tuple], bool]]:
    """Of each token its kind, its address, the addresses it looks at, and whether it is of the work."""
    found, operator = [], text[0]
    bar = text.index("|") if "|" in text else len(text)
    question, signs = text[:bar], [index for index, token in enumerate(text) if token in SIGNS]
    numbers = [0]  # digits of each
    for token in question:
        if token in SIGNS:
            numbers.append(0)
        numbers[-1] += token in DIGITS
    x_size, y_size = [*numbers, 0, 0][1:3]
    for index, token in enumerate(text):
        start = max([one for one in signs if one <= index], default=-1)
        since, row = index - start, sum(bar <= one <= index for one in signs)
        if index < bar:
            number = sum(one <= index for one in signs)
            address, looks = question_address(operator, token, number, since), []
        elif token not in SIGNS + DIGITS + RAISED:
            address, looks = None, []
        elif operator == "/":
            shift = x_size - y_size + 1 - text[bar : index + 1].count("|")
            address, looks = in_division(token, text[start] if start >= 0 else "", row, since, shift, y_size)
        else:
            shift = row - 1 if operator == "*" else 0
            column = since // 2
            address = ("digit", row, shift + column) if token in DIGITS else ("carry", row, column)
            looks = [("head", row), ("operand", 0 if operator == "*" else row, column)]
            looks += [("digit", row - 1, shift + column), ("carry", row, column)]
        is_work = index >= bar and token in SIGNS + DIGITS + RAISED
        if index == 0:
            address = ("sign", 0)
        kind = address[0] if address else "sign"
        if is_work and operator == "/" and kind == "digit" and address[2] == shift + y_size - 1:
            kind = "top"
        found.append((kind, address, [("sign", 0), *looks], is_work))
    return found


def question_address(operator: str, token: str, number: int, since: int) -> tuple | None:
    if token in SIGNS:
        return ("head", number - 1) if operator not in "*/" else None
    if token not in DIGITS or number == 0:
        return None
    if operator == "*":
        return ("operand", 0, since - 1) if number < 2 else ("head", since)
    return ("digit", 0, since - 1) if number < 2 else ("operand", number - 1, since - 1)


def in_division(token: str, sign: str, row: int, since: int, shift: int, y_size: int) -> tuple[tuple, list[tuple]]:
    """Address and looks of a token whose row begins with a sign."""
    if token == "|":
        above, top = ("digit", 0 if y_size == 1 else row - 1, shift + y_size - 1), ("digit", row - 1, shift + y_size)
        return ("sign", row), [("operand", 1, y_size - 1), above, top] if shift >= 0 else []
    if token in SIGNS:
        return ("sign", row), [("head", row - 1)]
    column, adds_back = (since - 1) // 2, sign != "|"
    above = ("digit", 0 if column == 0 and not adds_back else row - 1, shift + column)
    looks = [("sign" if adds_back else "head", row), ("operand", 1, column), above, ("carry", row, column)]
    if since == 1:
        return ("head", row), looks
    return ("digit", row, shift + column) if token in DIGITS else ("carry", row, column), looks


def check(text: str, kinds: list[int], sees: list[list[bool]], is_work: list[bool]) -> None:
    """Compare one row of a grid, (T,) and (T, T), with the definition; padding is no part of the text."""
    seen_by = [set(itertools.compress(range(len(text)), row)) for row in sees]
    tokens = [index for index, token in enumerate(text) if token != "_"]
    expected = places("".join(text[index] for index in tokens)) if tokens else []
    standing = {}
    for index, (kind, address, looks, of_the_work) in zip(tokens, expected, strict=True):
        standing.setdefault(address, []).append(index)
        seen = {key for look in looks for key in standing.get(look, ())}
        assert (KINDS[kinds[index]], of_the_work) == (kind, is_work[index]), (text, index)
        assert seen_by[index] == seen, (text, index)
    for index, token in enumerate(text):
        if token == "_":
            assert seen_by[index] == {index} and not is_work[index], (text, index)


def check_all(texts: list[str], base: int) -> None:
    model = grid_model(base)
    for start in range(0, len(texts), 100):
        some = texts[start : start + 100]
        rows = padded(some, base)
        grid = model.grid(rows)
        sees = model._mask(in_view(grid.looks, grid.addresses), torch.ones_like(rows), None, sees_itself=False)[:, 0]
        for text, *of_row in zip(some, grid.kinds.tolist(), sees.tolist(), grid.is_work.tolist(), strict=True):
            check(text.rjust(rows.size(1), "_"), *of_row)


@pytest.mark.parametrize("base", BASES)
def test_every_token_of_every_operation_stands_and_looks_where_the_definition_says(base):
    check_all(problems(base, 600), base)


@pytest.mark.parametrize("base", BASES)
def test_rubbish_has_places_too(base):
    check_all(rubbish(base, 1200), base)


def test_the_texts_here_say_what_python_calculates():
    assert [written(text[0], numbers, 10) for text, numbers in zip(EXAMPLES, NUMBERS, strict=True)] == EXAMPLES
    for base in BASES:
        rng = random.Random(base)
        for operator in "+-*/":
            for _ in range(200):
                numbers = [rng.randrange(1, base ** rng.randint(1, 7)) for _ in range(2 + 2 * (operator == "+"))]
                expected = {"+": sum(numbers), "-": numbers[0] - numbers[1]}
                expected |= {"*": numbers[0] * numbers[1], "/": divmod(*numbers[:2])}
                assert read_off(written(operator, numbers, base), base) == expected[operator]


NUMBERS = [(57, 46), (1742, 56), (12, 873, 4), (342, 879), (130, 46)]


# ---- What is drawn --------------------------------------------------------------------------------


def test_addresses_are_those_drawn():
    lines = [line.strip() for line in Grid.__doc__.splitlines()]
    start = next(index for index, line in enumerate(lines) if line.startswith("*   "))
    drawn = []
    for tokens, addresses in zip(lines[start : start + 6 : 2], lines[start + 1 : start + 6 : 2], strict=True):
        drawn += zip(tokens.split(), re.findall(r"-|[a-z]+ \d \d", addresses), strict=True)
    assert "".join(token for token, _ in drawn) == PRODUCT[:-2]
    for (_, drawing), (_, address, _, _) in zip(drawn, places(PRODUCT), strict=False):
        assert drawing == ("-" if address is None else " ".join(map(str, (*address, 0)[:3])))


def test_what_is_seen_is_what_is_drawn():
    tables = [table.split("\n\n")[0] for table in Grid.__doc__.split("row 2  operator")[1:]]
    assert len(tables) == 2
    for table, text in zip(tables, (PRODUCT, QUOTIENT), strict=True):
        grid = grid_model().grid(torch.tensor([tokens_of(text)]))
        second = [index for index, token in enumerate(text) if token == "|"][1]
        for index, line in enumerate(table.strip("\n").split("\n")[1:], second):
            token, *seen, says = line.split()[:7]
            assert (token, says) == (text[index], text[index + 1])
            found = [
                "".join(text[one] for one in range(index + 1) if grid.addresses[0, one] == look) or "-"
                for look in grid.looks[0, index].tolist()
            ]
            if index == second and text == QUOTIENT:
                assert found[1] == "1" and "top digit 1" in line
                found[1] = "-"
            assert found == seen, line


# ---- One token after another ----------------------------------------------------------------------


@pytest.mark.parametrize("base", [2, 10])
def test_the_grid_goes_on_from_what_was_counted(base):
    model, rng = grid_model(base), random.Random(2)
    for texts in (problems(base, 80), rubbish(base, 200)):
        rows = padded(texts, base)
        whole = model.grid(rows)
        for sizes in ([1] * rows.size(1), rng.choices(range(1, 9), k=rows.size(1))):
            parts, read, grid = [], 0, None
            for size in sizes:
                if read < rows.size(1):
                    grid = model.grid(rows[:, read : read + size], before=grid)
                    parts.append(grid)
                    read += size
            for name in ("kinds", "looks", "is_work"):
                assert torch.equal(torch.cat([getattr(part, name) for part in parts], 1), getattr(whole, name))
            assert torch.equal(grid.addresses, whole.addresses)
            assert all(map(torch.equal, grid.counted, whole.counted))


@torch.inference_mode()
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("is_static", [False, True])
def test_cached_tokens_say_the_same(num_layers, attention, is_static):
    model = grid_model(n_layer=num_layers)
    model.set_attn_implementation(attention)
    for texts in (EXAMPLES, rubbish(10, 20)):
        rows = padded(texts)
        whole = model(input_ids=rows).logits
        settings = {"max_cache_len": rows.size(1) + 3} if is_static else {"config": model.config}
        cache = StaticCache(model.config, **settings) if is_static else DynamicCache(**settings)
        said, read, grid = [], 0, None
        for size in (5, 1, 1, 7, *[1] * rows.size(1)):
            new = rows[:, read : read + size]
            if new.size(1):
                grid = model.grid(new, before=grid)
                said.append(model(input_ids=new, grid=grid, cache=cache).logits)
                read += size
        is_token = rows != PAD
        assert torch.allclose(torch.cat(said, 1)[is_token], whole[is_token], atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_changes_nothing(attention):
    model = grid_model(n_layer=2)
    model.set_attn_implementation(attention)
    for texts in (EXAMPLES, problems(10, 12)):
        for rows in (padded(texts), torch.tensor([tokens_of(text.ljust(99, "_")) for text in texts])):
            together = model(input_ids=rows).logits
            with_mask = model(input_ids=rows, attention_mask=(rows != PAD).long()).logits
            assert together.isfinite().all() and torch.equal(together, with_mask)
            for row, text, logits in zip(rows, texts, together, strict=True):
                alone = model(input_ids=torch.tensor([tokens_of(text)])).logits[0]
                assert torch.allclose(logits[row != PAD], alone, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("text", EXAMPLES)
def test_one_block_depends_on_what_is_seen_and_on_nothing_else(text, attention):
    model = grid_model()
    model.set_attn_implementation(attention)
    rows = torch.tensor([tokens_of(text)])
    grid = model.grid(rows)
    before = model(input_ids=rows).logits[0]
    sees = in_view(grid.looks, grid.addresses)[0]
    for key in range(rows.size(1)):
        changed = rows.clone()
        changed[0, key] = UNKNOWN  # in its place: the paper stays as it is
        after = model(input_ids=changed, grid=grid).logits[0]
        for query in range(rows.size(1)):
            if query != key and grid.is_work[0, query]:
                assert (after[query] != before[query]).any().item() == (sees[query, key].item() and key <= query)


# ---- forward() ------------------------------------------------------------------------------------


@torch.inference_mode()
def test_given_places_are_honoured_or_refused():
    model, rows = grid_model(), padded(EXAMPLES)
    derived, grid = model(input_ids=rows).logits, model.grid(rows)
    assert torch.equal(model.position_ids(rows), grid.kinds)
    assert torch.equal(model(input_ids=rows, grid=grid).logits, derived)
    assert torch.equal(model(input_ids=rows, position_ids=grid.kinds).logits, derived)
    assert (model(input_ids=rows, position_ids=(grid.kinds + 1) % 6).logits - derived).abs().max() > 1e-3
    blind = grid._replace(looks=torch.where(grid.looks > 0, -2, grid.looks))
    assert (model(input_ids=rows, grid=blind).logits - derived).abs().max() > 1e-3
    with pytest.raises(ValueError, match=f"grid is for {rows.size(1)} tokens, 0 before them; 3 are new, 0 are in"):
        model(input_ids=rows[:, :3], grid=grid)
    with pytest.raises(ValueError, match="a grid needs scratchpad = 'columns'"):
        tiny_model()(input_ids=rows[:, :3], grid=grid)
    with pytest.raises(ValueError, match="past the position table"):
        model(input_ids=rows, position_ids=grid.kinds + 1)
    cache = DynamicCache(config=model.config)
    model(input_ids=rows, cache=cache)
    with pytest.raises(ValueError, match="pass grid, or use generate"):
        model(input_ids=rows[:, :1], cache=cache)
    with pytest.raises(ValueError, match=f"1 are new, {rows.size(1)} are in the cache"):
        model(input_ids=rows[:, :1], grid=model.grid(rows[:, :1]), cache=cache)
    for given in (grid, None):
        with pytest.raises(NotImplementedError, match="need a mask"):
            model(input_ids=rows, grid=given, attention_mask=torch.ones(5, 1, rows.size(1), rows.size(1)))
        with pytest.raises(ValueError, match="attention_mask is for 3 tokens"):
            model(input_ids=rows, grid=given, attention_mask=torch.ones(5, 3))


def test_what_the_work_asks_is_learned_from_labels():
    """Labels are the tokens after those of the work: from the first after the question to =."""
    model, rows = grid_model(), padded(EXAMPLES)
    asked = torch.nn.functional.pad(model.grid(rows).is_work, (1, -1))
    for text, row in zip(EXAMPLES, asked, strict=True):
        assert row.sum() == len(text) - text.index("|") - 1 and row[-1]
    output = model(input_ids=rows, labels=torch.where(asked, rows, IGNORE_INDEX))
    by_hand = -output.logits.log_softmax(-1)[:, :-1].gather(2, rows[:, 1:, None])[..., 0][asked[:, 1:]]
    assert torch.isclose(output.loss, by_hand.mean(), atol=1e-5)


# ---- generate() -----------------------------------------------------------------------------------

WAYS = [{}, {"use_cache": False}, {"cache_implementation": "static"}, {"do_sample": True, "top_k": 1}]
MAX_NEW_TOKENS = 16


def said(model, texts: list[str], **settings) -> list[list[int]]:
    rows = padded(texts)
    out = model.generate(rows, **{"max_new_tokens": MAX_NEW_TOKENS, **settings})[:, rows.size(1) :]
    return [up_to_the_end(row, END, PAD) for row in out.tolist()]


@torch.inference_mode()
@pytest.mark.parametrize(("num_layers", "attention", "seed"), [(1, "sdpa", 0), (2, "eager", 1)])
def test_generate_agrees_with_full_recomputation_however_it_is_called(num_layers, attention, seed):
    model = grid_model(n_layer=num_layers, seed=seed)
    model.set_attn_implementation(attention)
    expected = [say_alone(model, tokens_of(question), MAX_NEW_TOKENS) for question in QUESTIONS]
    assert len(set(map(tuple, expected))) > 1  # rubbish, but not the same to all
    for settings in WAYS:
        assert said(model, QUESTIONS, **settings) == expected, settings
        assert [said(model, [question], **settings)[0] for question in QUESTIONS] == expected, settings


@torch.inference_mode()
def test_work_that_has_begun_goes_on():
    model = grid_model()
    for text in EXAMPLES:
        [whole] = said(model, [text[: text.index("|") + 1]])
        begun = text[: text.index("|") + 1] + text_of(whole[:5])
        assert said(model, [begun], max_new_tokens=MAX_NEW_TOKENS - 5) == [whole[5:]] or END in whole[:5]


@torch.inference_mode()
def test_what_is_left_to_the_library_sees_the_same():
    model = grid_model()
    expected = said(model, QUESTIONS, max_new_tokens=12)
    rows = padded(QUESTIONS)
    for settings in WAYS[:3]:
        scored = model.generate(
            rows, max_new_tokens=12, return_dict_in_generate=True, output_scores=True, **settings
        ).sequences[:, rows.size(1) :]
        assert [up_to_the_end(row, END, PAD) for row in scored.tolist()] == expected, settings
    alone = [said(model, [question], max_new_tokens=6, num_beams=3)[0] for question in QUESTIONS]
    assert said(model, QUESTIONS, max_new_tokens=6, num_beams=3) == alone
    assert [
        said(model, [question], max_new_tokens=12, assistant_model=grid_model(seed=5))[0] for question in QUESTIONS
    ] == expected


def test_a_sample_is_drawn_and_a_processor_honoured():
    model = grid_model()
    torch.manual_seed(0)
    answers = said(model, QUESTIONS[:2], do_sample=True, temperature=3.0, num_return_sequences=1)
    torch.manual_seed(0)
    assert said(model, QUESTIONS[:2], do_sample=True, temperature=3.0) == answers
    several = model.generate(padded(QUESTIONS[:1]), do_sample=True, max_new_tokens=5, num_return_sequences=4)
    assert several.size(0) == 4
    [plain] = said(model, QUESTIONS[:1])
    [processed] = said(model, QUESTIONS[:1], logits_processor=LogitsProcessorList([NeverSays(plain[0])]))
    assert plain[0] not in processed


@pytest.mark.parametrize(
    "row",
    [
        *("75*64|", "*75*64", "*75*64|_", "*7_5*64|", "*75*64|2⁴4³3|2³6²2|=", "*75*64?|", "*7⁴*64|", "|"),
        *("*75+64|", "*75*64*3|", "*75|", "**64|", "*75*|", "/75/60|", "/75/0|", "-1-2-3|", "+5|", "*75=64|", "__"),
    ],
)
def test_rows_that_are_no_question_are_refused(row):
    with pytest.raises(ValueError, match="rows that begin with a question"):
        grid_model().generate(torch.tensor([tokens_of(row)]), max_new_tokens=2)


# ---- Configs, and other libraries -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scratchpad": "rows"}, "scratchpad is 'rows', not one of"),
        ({"tokens_per_step": 2}, "'columns' needs tokens_per_step = 1, not 2"),
        ({"position_embedding": "learned"}, "'columns' needs position_embedding = 'block', not 'learned'"),
        ({"attention_window": {"left": 0, "right": 1}}, "'columns' needs attention_window = None"),
        ({"position_period": 4}, "'columns' needs position_period = None, not 4"),
        ({"max_position_offset": 2}, "'columns' needs max_position_offset = 0, not 2"),
        ({"n_positions": 5}, "'columns' needs n_positions = 6 or more, not 5"),
        ({"carry_token_ids": None}, "as many carries"),
        ({"carry_token_ids": [18, 19]}, "as many carries"),
        ({"digit_token_ids": None}, "needs digits"),
        ({"sign_token_ids": {"|": 3}}, r"the signs \|\+-\*/"),
        ({"eos_token_id": 3}, "not all different"),
        ({"pad_token_id": None}, "not all different"),
        ({"vocab_size": 27}, "not all different"),
    ],
)
def test_settings_that_do_not_go_with_columns_are_refused(settings, message):
    right = {"scratchpad": "columns"} | {
        name: getattr(grid_model().config, name)
        for name in ("n_positions", "vocab_size", "digit_token_ids", "carry_token_ids", "sign_token_ids")
    }
    right |= {"eos_token_id": END, "pad_token_id": PAD, "n_embd": 16, "n_head": 2}
    SimpleLLMConfig(**right)
    with pytest.raises(ValueError, match=message):
        SimpleLLMConfig(**right | settings)


@torch.inference_mode()
def test_a_model_comes_back_from_a_folder_and_asks_its_questions_under_another_release(tmp_path):
    model = grid_model()
    questions = [tokens_of(question) for question in QUESTIONS]
    model.config.self_test = model.self_test_of(questions, 20)
    model.save_pretrained(tmp_path)
    again = SimpleLLMForCausalLM.from_pretrained(tmp_path)
    assert said(again, QUESTIONS) == said(model, QUESTIONS)
    with another_release():
        for settings in WAYS:
            said(again, QUESTIONS, **settings)
        again.transformer.wpe.weight.neg_()
        again._ways_tried.clear()
        for settings in WAYS:
            with pytest.raises(RuntimeError, match="it gives other answers"):
                said(again, QUESTIONS, **settings)
