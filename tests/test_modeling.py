import itertools
import json
import math

import pytest
import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from simple_llm.config.loading import load_configs
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.model.modeling_simple_llm import SimpleLLMConfig, SimpleLLMForCausalLM
from simple_llm.model.network import save_model
from simple_llm.model.places_simple_llm import block_position_ids, IGNORE_INDEX, POSITION_EMBEDDINGS
from simple_llm.model.tokenizer_files import save_tokenizer
from simple_llm.training.learner import build_model
from tests.forked import fork_stranger
from tests.greedy import say_alone
from tests.pipeline import REPOSITORY
from tests.tiny_models import make_data_config, make_tokenizer, make_train_config, make_vocabulary, tiny_model

pytestmark = pytest.mark.library

VOCABULARY = make_vocabulary()
PAD, END = VOCABULARY.pad_id, VOCABULARY.delimiter_id
OTHER, DIGITS = 0, (1, 2)  # the smallest vocabulary that can show everything


def tokens_of(text: str) -> list[int]:
    """Token IDs of digits and +; P is padding."""
    return [{"+": END, "P": PAD}[character] if character in "+P" else 3 + int(character) for character in text]


def count_digits_one_by_one(row):
    position = 0
    for token in row:
        position = position + 1 if token in DIGITS else 0
        yield position


@pytest.mark.parametrize("length", range(1, 8))
def test_block_positions_agree_with_counting_on_every_row(length):
    rows = list(itertools.product([OTHER, *DIGITS], repeat=length))
    expected = [list(count_digits_one_by_one(row)) for row in rows]
    assert block_position_ids(torch.tensor(rows), torch.tensor(DIGITS)).tolist() == expected


def test_block_positions_are_those_drawn_in_the_design():
    row = torch.tensor([tokens_of("+2431+978+1222+")])
    assert tiny_model().position_ids(row).tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 2, 3, 4, 0]]


def test_index_positions_start_after_the_padding():
    row = torch.tensor([tokens_of("PP+1+2+")])
    model = tiny_model(position_embedding="learned")
    assert model.position_ids(row, (row != PAD).long()).tolist() == [[0, 0, 0, 1, 2, 3, 4]]
    assert model.position_ids(row).tolist() == [list(range(7))]
    assert tiny_model(position_embedding="none").position_ids(row).tolist() == [[0] * 7]


# ---- What a row may see ---------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_without_a_mask_the_answer_still_sees_the_first_operand(attention):
    model = tiny_model()
    model.set_attn_implementation(attention)
    rows = torch.tensor([tokens_of("+2431+978+12"), tokens_of("+7431+978+12")])
    logits = model(input_ids=rows, use_cache=False).logits
    assert (logits[0, -1] - logits[1, -1]).abs().max() > 1e-3
    ones = model(input_ids=rows, attention_mask=torch.ones_like(rows), use_cache=False).logits
    assert torch.equal(logits, ones)


@torch.inference_mode()
def test_without_a_mask_every_token_sees_exactly_itself_and_what_is_before():
    model = tiny_model()
    model.set_attn_implementation("eager")
    rows = torch.tensor([tokens_of("+2431+978+12"), tokens_of("+9431+978+12")])
    length = rows.size(1)
    is_hidden = torch.ones(length, length).triu(1).bool()
    causal = torch.zeros(1, 1, length, length).masked_fill(is_hidden, -math.inf)
    by_hand = GPT2LMHeadModel.forward(
        model, input_ids=rows, attention_mask=causal, position_ids=model.position_ids(rows), use_cache=False
    ).logits
    assert torch.allclose(model(input_ids=rows, use_cache=False).logits, by_hand, atol=1e-5)


@torch.inference_mode()
def test_a_token_changes_nothing_before_it():
    model, row = tiny_model(), torch.tensor([tokens_of("+2431+978+12")])
    whole = model(input_ids=row).logits
    for length in range(1, row.size(1)):
        assert torch.allclose(model(input_ids=row[:, :length]).logits, whole[:, :length], atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("position_embedding", ["block", "block_sinusoidal", "learned", "sinusoidal"])
def test_given_positions_are_honoured(position_embedding):
    model, row = tiny_model(position_embedding=position_embedding), torch.tensor([tokens_of("+21+98+")])
    derived = model(input_ids=row).logits
    positions = model.position_ids(row)
    assert torch.equal(model(input_ids=row, position_ids=positions).logits, derived)
    assert (model(input_ids=row, position_ids=positions + 1).logits - derived).abs().max() > 1e-3


@torch.inference_mode()
def test_cached_tokens_and_no_positions_are_refused():
    model, row = tiny_model(), torch.tensor([tokens_of("+21+98+")])
    cache = DynamicCache(config=model.config)
    model(input_ids=row, cache=cache)
    for name in ("cache", "past_key_values"):  # as transformers 5.24 calls it, and 5.23
        with pytest.raises(ValueError, match="pass position_ids"):
            model(input_ids=row[:, :1], **{name: cache})


@pytest.mark.parametrize("name", ["kv_states", "token_type_ids", "inputs_embeds", "shift_labels", "cache_position"])
def test_an_argument_that_forward_does_not_know_is_refused(name):
    row = torch.tensor([tokens_of("+21+98+")])
    with pytest.raises(TypeError, match=name):
        tiny_model()(input_ids=row, **{name: torch.zeros_like(row)})
    assert tiny_model()(input_ids=row, **{name: None}).logits.size(1) == row.size(1)


def test_attention_that_takes_positions_for_borders_between_texts_is_refused():
    model = tiny_model()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(NotImplementedError, match="'flash_attention_2'; use 'sdpa' or 'eager'"):
        model(input_ids=torch.tensor([tokens_of("+21+98+")]))


@torch.inference_mode()
def test_a_number_longer_than_the_position_table_is_refused():
    model = tiny_model(n_positions=4)
    model(input_ids=torch.tensor([tokens_of("+123+")]))
    with pytest.raises(ValueError, match="position 4 is past the position table of n_positions = 4"):
        model(input_ids=torch.tensor([tokens_of("+1234+")]))


# ---- Loss and weights -----------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("k", [1, 2])
def test_the_loss_is_the_mean_cross_entropy_of_the_token_k_ahead(k):
    model = tiny_model(k)
    rows = torch.tensor([tokens_of("+12+873+993+"), tokens_of("+1+2+3+PPPPP")])
    labels = torch.tensor(
        [[IGNORE_INDEX] * 8 + tokens_of("993+")[:4], [IGNORE_INDEX] * 5 + tokens_of("3+") + 5 * [-100]]
    )
    log_probabilities = model(input_ids=rows).logits.log_softmax(-1)
    losses = [
        -log_probabilities[row, index - k, labels[row, index]]
        for row, index in itertools.product(range(2), range(12))
        if labels[row, index] != IGNORE_INDEX
    ]
    assert len(losses) == 6
    assert torch.isclose(model(input_ids=rows, labels=labels).loss, torch.stack(losses).mean(), atol=1e-5)


def test_the_default_config_makes_a_gpt2_of_6327552_parameters():
    files = load_configs(REPOSITORY / "data_config.yaml", REPOSITORY / "train_config.yaml", [])
    for data, train in (files, (DataConfig(), TrainConfig())):
        tokenizer = make_tokenizer(data)
        model = build_model(data, train, tokenizer)
        assert sum(parameter.numel() for parameter in model.parameters()) == 6_327_552
    plain = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_layer=8, n_head=4, n_embd=256, n_positions=16))
    assert sum(parameter.numel() for parameter in plain.parameters()) == 6_327_552
    shapes = {name: tensor.shape for name, tensor in plain.state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == shapes


@pytest.mark.parametrize("position_embedding", ["block_sinusoidal", "sinusoidal", "none"])
def test_fixed_positions_are_no_parameters_and_come_back_from_a_file(position_embedding, tmp_path):
    model = tiny_model(position_embedding=position_embedding, initializer_range=0.02)
    assert not [name for name, _ in model.named_parameters() if "wpe" in name]
    table = model.transformer.wpe.weight
    assert not table.requires_grad
    model.save_pretrained(tmp_path)
    again = SimpleLLMForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again.transformer.wpe.weight, table)
    row = torch.tensor([tokens_of("+21+98+")])
    assert torch.equal(again(input_ids=row).logits, model(input_ids=row).logits)


def test_sinusoids_are_those_of_the_paper_at_the_scale_of_learned_positions():
    table = tiny_model(position_embedding="sinusoidal", n_embd=6, initializer_range=0.02).transformer.wpe.weight
    for position, column in itertools.product(range(40), range(6)):
        angle = position / 10_000 ** (column // 2 * 2 / 6)
        expected = 0.02 * (math.sin(angle) if column % 2 == 0 else math.cos(angle))
        assert table[position, column] == pytest.approx(expected, abs=1e-6)
    assert not tiny_model(position_embedding="none").transformer.wpe.weight.any()


def test_a_config_that_no_model_has_is_refused():
    with pytest.raises(ValueError, match="position_embedding is 'absolute'"):
        SimpleLLMConfig(position_embedding="absolute")
    for k in (0, 3, "both"):
        with pytest.raises(ValueError, match=r"tokens_per_step is .*, not 1, 2 or 'all'"):
            SimpleLLMConfig(tokens_per_step=k)


# ---- generate() -----------------------------------------------------------------------------------

PROMPTS = ("+12+873+", "+0+0+", "+1+9999+", "+5+67+", "+978+2431+", "+31+4159+", "+7+8+", "+86+02+")
MAX_NEW_TOKENS = 7
KINDS = [1, 2, "all"]


def generate(model, prompts: list[list[int]], **settings) -> list[list[int]]:
    """Answers of generate() to left-padded prompts, without padding after their end."""
    length = max(map(len, prompts))
    rows = torch.tensor([[PAD] * (length - len(prompt)) + prompt for prompt in prompts])
    out = model.generate(rows, attention_mask=(rows != PAD).long(), max_new_tokens=MAX_NEW_TOKENS, **settings)
    answers = []
    for prompt, said in zip(prompts, out[:, length:].tolist(), strict=True):
        last = len(said)
        if model.config.tokens_per_step == "all":
            last = len(prompt) - prompt.index(END, 1) - 1  # a token for each digit of y, and one
        end = said.index(END) + 1 if END in said[:last] else last
        assert set(said[end:]) <= {PAD}
        answers.append(said[:end])
    return answers


@torch.inference_mode()
@pytest.mark.parametrize("k", KINDS)
@pytest.mark.parametrize("position_embedding", POSITION_EMBEDDINGS)
def test_generate_agrees_with_full_recomputation_however_it_is_called(position_embedding, k):
    model = tiny_model(k, position_embedding)
    prompts = [tokens_of(prompt) for prompt in PROMPTS]
    expected = [say_alone(model, prompt, MAX_NEW_TOKENS) for prompt in prompts]
    assert len(set(map(tuple, expected))) > 3  # or the model says the same to all and nothing is tested
    for settings in ({}, {"use_cache": False}, {"cache_implementation": "static"}, {"do_sample": True, "top_k": 1}):
        assert generate(model, prompts, **settings) == expected, settings
        assert [generate(model, [prompt], **settings)[0] for prompt in prompts[::3]] == expected[::3], settings


@torch.inference_mode()
def test_the_models_of_the_generation_test_end_some_answers_and_not_others():
    ended = (
        END in say_alone(tiny_model(k, position_embedding), tokens_of(prompt), MAX_NEW_TOKENS)
        for k, position_embedding, prompt in itertools.product(KINDS, POSITION_EMBEDDINGS, PROMPTS)
    )
    assert any(ended) and not all(ended)  # of those that are left


@torch.inference_mode()
def test_a_whole_answer_is_cut_where_the_caller_wants_fewer_tokens():
    model, prompt = tiny_model("all"), tokens_of("+12+873+")
    said = say_alone(model, prompt, MAX_NEW_TOKENS)
    assert len(said) > 1
    assert model.generate(torch.tensor([prompt]), max_new_tokens=1)[0, len(prompt) :].tolist() == said[:1]


@pytest.mark.parametrize("row", ["+12+873", "+12+", "12+873+", "+1+2+3+", "+12++", "++12+", "+1+2+3", "+"])
def test_a_whole_answer_is_said_to_whole_prompts_only(row):
    with pytest.raises(ValueError, match=r"answers whole prompts|begin with the delimiter"):
        tiny_model("all").generate(torch.tensor([tokens_of(row)]), max_new_tokens=3)


def test_a_whole_answer_needs_the_longer_operand_second():
    with pytest.raises(ValueError, match="needs the longer operand second"):
        tiny_model("all").generate(torch.tensor([tokens_of("+123+45+")]), max_new_tokens=3)


@torch.inference_mode()
@pytest.mark.parametrize(("k", "shift"), [(1, 1), (2, 2), ("all", 0)])
def test_labels_are_compared_with_the_logits_that_say_them(k, shift):
    model, row = tiny_model(k), torch.tensor([tokens_of("+12+873+993+")])
    labels = row.clone()
    labels[:, :5] = IGNORE_INDEX
    output = model(input_ids=row, labels=labels)
    log_probabilities = output.logits.log_softmax(-1)[0]
    by_hand = [-log_probabilities[index - shift, row[0, index]] for index in range(5, row.size(1))]
    assert output.loss.item() == pytest.approx(sum(by_hand).item() / len(by_hand), rel=1e-5)


@pytest.mark.parametrize("k", KINDS)
def test_what_would_be_silently_wrong_is_refused(k):
    model, row = tiny_model(k), torch.tensor([tokens_of("+12+873+")])
    with pytest.raises(NotImplementedError, match="prefill_chunk_size"):
        model.generate(row, max_new_tokens=2, prefill_chunk_size=4)
    with pytest.raises(NotImplementedError, match="continuous batching"):
        model.generate_batch([row[0].tolist()])


@pytest.mark.parametrize("k", [2, "all"])
def test_what_needs_one_token_a_step_is_refused_with_more(k):
    model, row = tiny_model(k), torch.tensor([tokens_of("+12+873+")])
    with pytest.raises(NotImplementedError, match="num_beams: needs tokens_per_step = 1"):
        model.generate(row, max_new_tokens=2, num_beams=2)
    with pytest.raises(NotImplementedError, match="assistant_model: needs tokens_per_step = 1"):
        model.generate(row, max_new_tokens=2, assistant_model=tiny_model(1))
    with pytest.raises(NotImplementedError, match="output_scores, output_logits"):
        settings = {"return_dict_in_generate": True, "output_scores": True, "output_logits": True}
        model.generate(row, max_new_tokens=2, **settings)
    assert tiny_model(1).generate(row, max_new_tokens=2, num_beams=2).size(1) > row.size(1)


# ---- Elsewhere, without this package --------------------------------------------------------------

STRANGER = """
import importlib.util, json, shutil, sys
assert importlib.util.find_spec("simple_llm") is None
from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline

prompts = ["1342+879=", "5+4=", "58+67="]

def texts_of(made):
    return [one[0]["generated_text"] for one in made]

report = {}
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
    batch = tokenizer(prompts, return_tensors="pt", padding=True)
    said = tokenizer.batch_decode(model.generate(**batch), skip_special_tokens=True)
    piped = pipeline("text-generation", model=folder, trust_remote_code=True)
    one_by_one = texts_of(map(piped, prompts))
    piped.save_pretrained(folder + " again")
    shutil.rmtree(folder)
    again = pipeline("text-generation", model=folder + " again", trust_remote_code=True)
    report[folder] = {
        "class": type(model).__name__,
        "said": said,
        "one by one": one_by_one,
        "in batches": texts_of(piped(prompts, batch_size=2)),
        "saved again": texts_of(again(prompts, batch_size=3)),
    }
print(json.dumps(report))
"""


def test_a_model_folder_works_where_this_package_is_not_installed(tmp_path, trained):
    folders = {}
    for name, base, maximum in (("random, two tokens a step", 16, 9999), ("trained, one token a step", 10, 99)):
        data, train = make_data_config(maximum, base), make_train_config(2 if base == 16 else 1)
        tokenizer = make_tokenizer(data)
        torch.manual_seed(0)
        model = build_model(data, train, tokenizer) if base == 16 else trained.model
        save_tokenizer(tokenizer, tmp_path / name)
        save_model(tmp_path / name, model, data, train, {})
        folders[name] = str(tmp_path / name)
    done = fork_stranger(STRANGER, *folders.values(), cwd=tmp_path).end()
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])

    reports = [report[folder] for folder in folders.values()]
    assert [one["class"] for one in reports] == ["SimpleLLMForCausalLM"] * 2
    for one in reports:
        assert one["one by one"] == one["in batches"] == one["saved again"] == one["said"]
        assert one["said"][0].startswith("1342+879=")
        assert one["said"][1].startswith("5+4=")
    assert reports[1]["said"][1:] == ["5+4=9", "58+67=125"]
