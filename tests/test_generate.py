"""The loop of generate(): what it is given it does or refuses, and what the library can do too, it says the same to."""

import itertools

import pytest
import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    GPT2LMHeadModel,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TextStreamer,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from simple_llm.model.modeling_simple_llm import warped
from simple_llm.model.places_simple_llm import up_to_the_end
from tests.test_modeling import END, KINDS, PAD, tokens_of
from tests.tiny_models import make_data_config, make_tokenizer, tiny_model

pytestmark = pytest.mark.library

PROMPT = tokens_of("+12+873+")
ROW = torch.tensor([PROMPT])


def said(model, rows=ROW, **settings) -> list[list[int]]:
    out = model.generate(rows, **{"max_new_tokens": 6, **settings})
    return [up_to_the_end(row, END, PAD) for row in out[:, rows.size(1) :].tolist()]


class NeverSays(LogitsProcessor):
    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids, scores):
        return scores.index_fill(1, torch.tensor([self.token]), -torch.inf)


class StopsAt(StoppingCriteria):
    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, input_ids, scores, **kwargs):
        return torch.full((input_ids.size(0),), input_ids.size(1) >= self.length)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("settings", [{}, {"use_cache": False}, {"cache_implementation": "static"}])
def test_one_token_a_step_says_what_the_library_says(seed, settings):
    model = tiny_model(seed=seed)
    rows = torch.tensor([[PAD, PAD, *tokens_of("+1+87+")], PROMPT])
    by_library = GPT2LMHeadModel.generate(
        model, rows, attention_mask=(rows != PAD).long(), max_new_tokens=6, do_sample=False, **settings
    )
    assert model.generate(rows, max_new_tokens=6, **settings).tolist() == by_library.tolist()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [*itertools.product([None, 0.3, 2.0], [None, 1, 4, 50], [None, 0.1, 0.7, 1.0])]
)
def test_logits_to_sample_from_are_those_of_the_library(temperature, top_k, top_p):
    logits = torch.randn(7, 13, generator=torch.Generator().manual_seed(0)) * 3
    by_library = [
        *([TemperatureLogitsWarper(temperature)] if temperature else []),
        *([TopKLogitsWarper(top_k)] if top_k else []),
        *([TopPLogitsWarper(top_p)] if top_p and top_p < 1 else []),
    ]
    expected = LogitsProcessorList(by_library)(None, logits.clone())
    assert torch.allclose(warped(logits, temperature, top_k, top_p), expected)


@pytest.mark.parametrize("k", KINDS)
def test_processors_and_criteria_of_the_caller_are_honoured(k):
    model = tiny_model(k)
    [plain] = said(model)
    [processed] = said(model, logits_processor=LogitsProcessorList([NeverSays(plain[0])]))
    assert plain[0] not in processed
    [cut] = said(model, stopping_criteria=StoppingCriteriaList([StopsAt(ROW.size(1) + 1)]))
    assert cut == plain[:1]
    [ended] = said(model, eos_token_id=[END, plain[0]])
    assert ended == plain[:1]


@pytest.mark.parametrize("k", KINDS)
def test_a_streamer_is_given_every_token(k, capsys):
    tokenizer = make_tokenizer(make_data_config(), says_all=k == "all")
    model = tiny_model(k)
    out = model.generate(
        ROW, max_new_tokens=6, streamer=TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    )
    assert capsys.readouterr().out.strip() == tokenizer.decode(out[0, ROW.size(1) :], skip_special_tokens=True)


@pytest.mark.parametrize("k", KINDS)
def test_several_answers_are_sampled_side_by_side(k):
    model = tiny_model(k)
    torch.manual_seed(0)
    answers = said(model, do_sample=True, temperature=5.0, num_return_sequences=20)
    assert len(answers) == 20 and len(set(map(tuple, answers))) > 5
    torch.manual_seed(0)
    assert said(model, do_sample=True, temperature=5.0, num_return_sequences=20) == answers
    with pytest.raises(ValueError, match="num_return_sequences"):
        said(model, num_return_sequences=2)


@pytest.mark.parametrize("k", KINDS)
def test_settings_by_name_are_over_those_of_a_config_and_those_over_the_models(k):
    model = tiny_model(k)
    model.generation_config.max_new_tokens = 1
    assert len(model.generate(ROW)[0]) == len(PROMPT) + 1
    given = GenerationConfig(max_new_tokens=2, eos_token_id=999)
    assert len(model.generate(ROW, given)[0]) == len(PROMPT) + 2
    assert len(model.generate(ROW, given, max_new_tokens=3)[0]) == len(PROMPT) + 3
    assert given.max_new_tokens == 2 and model.generation_config.max_new_tokens == 1
    model.generation_config.max_new_tokens = None
    assert len(model.generate(ROW, max_length=len(PROMPT) + 2, eos_token_id=999)[0]) == len(PROMPT) + 2
    with pytest.raises(ValueError, match="pass max_new_tokens=, 1 or more"):
        model.generate(ROW)
    with pytest.raises(ValueError, match="pass max_new_tokens=, 1 or more"):
        model.generate(ROW, max_length=3)


@pytest.mark.parametrize("k", [2, "all"])
@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"colour": "red"},
            {"colour": False},
            {"repetition_penalty": 1.2},
            {"cache_implementation": "offloaded"},
        ),
        *({"min_new_tokens": 2}, {"inputs_embeds": torch.zeros(1, 2, 16)}),
        *({"negative_prompt_ids": ROW}, {"max_time": 1.0}, {"penalty_alpha": 0.5}, {"output_attentions": True}),
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_what_nobody_would_do_is_refused_by_its_name(k, settings):
    [name] = settings
    with pytest.raises(NotImplementedError, match=f"{name}: needs tokens_per_step = 1"):
        tiny_model(k).generate(ROW, max_new_tokens=2, **settings)


@pytest.mark.parametrize("k", KINDS)
def test_a_setting_nobody_knows_is_refused_in_a_config_too(k):
    with pytest.raises((NotImplementedError, ValueError), match="colour"):
        tiny_model(k).generate(ROW, GenerationConfig(max_new_tokens=2, colour="red"))
    with pytest.raises((NotImplementedError, ValueError), match="colour"):
        tiny_model(k).generate(ROW, max_new_tokens=2, colour="red")


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize(
    "row",
    [
        [*PROMPT, PAD],  # padded on the right
        [2, 4, PAD, 5, 2, 6, 2],
        [4, 5, 2, 6, 2],  # as text that no tokenizer of ours wrote
        [2, 4, 1, 2, 6, 2],  # an unknown token
        [2, 4, 5, 2, 6],  # cut off: the second operand may go on
        [PAD, PAD],
    ],
    ids=str,
)
def test_rows_that_its_tokenizer_does_not_write_are_refused(k, row):
    with pytest.raises(ValueError, match="rows that begin with the delimiter"):
        tiny_model(k).generate(torch.tensor([row]), max_new_tokens=2)
    with pytest.raises(ValueError, match="needs input_ids"):
        tiny_model(k).generate(max_new_tokens=2)


@pytest.mark.parametrize("temperature", [0, 0.0, -1.0])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        tiny_model(2).generate(ROW, max_new_tokens=2, do_sample=True, temperature=temperature)


def test_what_one_token_a_step_leaves_to_the_library_is_done_by_it():
    model = tiny_model(1)
    [plain] = said(model)
    scored = model.generate(ROW, max_new_tokens=6, return_dict_in_generate=True, output_scores=True)
    assert up_to_the_end(scored.sequences[0, ROW.size(1) :].tolist(), END, PAD) == plain
    assert len(scored.scores) == scored.sequences.size(1) - ROW.size(1)
    assert said(model, assistant_model=tiny_model(1, seed=3)) == [plain]
    assert (
        model.generate(ROW, max_new_tokens=6, return_dict_in_generate=True)
        .sequences[0]
        .tolist()[len(PROMPT) :][: len(plain)]
        == plain
    )


@pytest.mark.parametrize("k", KINDS)
def test_slices_of_a_batch_add_up_where_the_number_of_items_is_given(k):
    model = tiny_model(k)
    rows = torch.tensor([tokens_of("+12+873+993+"), tokens_of("+1+2+3+PPPPP")])
    labels = rows.masked_fill(rows == PAD, -100)
    whole = model(input_ids=rows, labels=labels, num_items_in_batch=50).loss
    slices = [model(input_ids=rows[i : i + 1], labels=labels[i : i + 1], num_items_in_batch=50).loss for i in range(2)]
    assert torch.isclose(whole, sum(slices))
    as_tuple = model(input_ids=rows, labels=labels, num_items_in_batch=50, return_dict=False)
    assert torch.equal(as_tuple[0], whole) and as_tuple[1].shape == (*rows.shape, 13)


@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize(
    "settings", [{"stop_strings": ["+"]}, {"position_ids": ROW}, {"prefill_chunk_size": 4}], ids=str
)
def test_what_no_model_of_this_kind_can_do_is_refused_whatever_k_is(k, settings):
    [name] = settings
    with pytest.raises(NotImplementedError, match=f"{name} is not supported"):
        tiny_model(k).generate(ROW, max_new_tokens=2, **settings)


@pytest.mark.parametrize("k", KINDS)
def test_a_tokenizer_that_is_passed_along_changes_nothing(k):
    model, tokenizer = tiny_model(k), make_tokenizer(make_data_config(), says_all=k == "all")
    assert said(model, tokenizer=tokenizer) == said(model)
    if k == 1:
        assert said(model, tokenizer=tokenizer, num_beams=2) == said(model, num_beams=2)


@pytest.mark.parametrize("k", KINDS)
def test_odd_settings_that_have_a_meaning_keep_it(k):
    model = tiny_model(k)
    assert said(model, pad_token_id=None) == said(model)
    assert said(model, do_sample=True, top_p=0.0) == said(model)
    model.generation_config.max_new_tokens = 10_000
    assert model.generate(ROW, max_length=ROW.size(1) + 2).size(1) <= ROW.size(1) + 2
    for settings in ({"top_k": -1}, {"top_p": 1.5}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            said(model, do_sample=True, **settings)
    with pytest.raises(ValueError, match="needs input_ids, once"):
        model.generate(ROW, input_ids=ROW, max_new_tokens=2)


@pytest.mark.parametrize("k", [1, 2])
def test_answers_are_said_without_dropout(k):
    model = tiny_model(k, resid_pdrop=0.5).train()
    assert len({tuple(said(model)[0]) for _ in range(5)}) == 1
    assert model.training


def test_a_mask_that_leaves_out_the_cached_tokens_is_refused():
    model = tiny_model()
    cache = DynamicCache(config=model.config)
    model(input_ids=ROW, cache=cache)
    new = torch.tensor([[5]])
    with pytest.raises(ValueError, match="attention_mask is for 1 tokens; 8 are in the cache and 1 are new"):
        model(input_ids=new, cache=cache, position_ids=new, attention_mask=torch.ones_like(new))


def test_attentions_are_refused_where_there_would_be_none():
    model = tiny_model()
    with pytest.raises(ValueError, match=r"needs model\.set_attn_implementation"):
        model(input_ids=ROW, output_attentions=True)
    model.set_attn_implementation("eager")
    assert len(model(input_ids=ROW, output_attentions=True).attentions) == 2
