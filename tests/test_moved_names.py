"""Under a library in which a name is another one, a model says the right thing or raises an error: nothing else."""

import ast
import copy
import dataclasses
import functools
import inspect
import json
import sys
import threading
import types
from pathlib import Path

import pytest
import tokenizers
import torch
from transformers import (
    DynamicCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    StaticCache,
    TextGenerationPipeline,
    TextStreamer,
)
from transformers.generation import GenerateDecoderOnlyOutput
from transformers.modeling_outputs import CausalLMOutputWithCrossAttentions

from simple_llm.model import modeling_simple_llm, notation_simple_llm, places_simple_llm, tokenization_simple_llm
from simple_llm.model.travelling import travelling_code
from tests.moved_names import another_release, moved_method, NEXT_RELEASE, other_default, renamed
from tests.tiny_models import make_data_config, make_tokenizer, tiny_model

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]

# What the files that travel lean on, or leaned on, of the library: names of its methods, arguments, attributes and
# fields. They are rewritten in all of its code.
REWRITTEN = {
    *("_attn_implementation", "_from_model_config", "activation_function", "attention_mask", "bos_token_id", "cache"),
    *("cache_implementation", "config_class", "convert_ids_to_tokens", "convert_tokens_to_ids", "do_sample"),
    *("eos_token_id", "generate_batch", "generation_config", "get_mask_sizes", "get_seq_length", "init_kwargs"),
    *("transformer", "wpe", "save_pretrained", "is_assistant", "assistant_model", "stop_strings", "synced_gpus"),
    *("return_offsets_mapping", "truncation", "name_or_path"),
    *("initializer_range", "input_ids", "is_split_into_words", "length_penalty", "logits_processor"),
    *("logits_to_keep", "max_cache_len", "max_length", "max_new_tokens", "model_type", "n_embd", "n_positions"),
    *("num_beam_groups", "num_beams", "num_return_sequences", "output_attentions", "output_hidden_states"),
    *("pad_token_id", "position_ids", "prefill_chunk_size", "prepare_inputs_for_generation"),
    *("register_for_auto_class", "repetition_penalty", "return_dict", "return_dict_in_generate"),
    *("skip_special_tokens", "stopping_criteria", "streamer", "temperature", "text_pair", "text_pair_target"),
    *("text_target", "token_ids", "top_k", "top_p", "transformers_version", "typical_p", "use_cache", "vocab_size"),
    # no longer, but software around these models may
    *("next_sequence_length", "_sample", "_update_model_kwargs_for_generation", "num_new_tokens"),
    *("_pad_token_tensor", "shift_labels", "_encode_plus", "_decode", "past_key_values"),
}
# Of these the library makes other names by cutting and joining strings, or hands them to another library, so that it is
# broken by the rewriting itself; what is here has to be right or an error all the same.
NOT_WHOLE = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "skip_special_tokens", "output_attentions"),
    *("output_hidden_states", "transformer", "truncation"),
}
# Taken from another library, the one of tokenizers: rewritten in what runs a model alone.
IN_MODELS = {"attention_mask", "input_ids"}
MODELS = ("transformers.models", "transformers.generation", "transformers.masking_utils", "transformers.modeling")
# Too common to be rewritten: as methods of the library's classes.
METHODS = {
    "generate": GPT2LMHeadModel,
    "device": GPT2LMHeadModel,
    "dtype": GPT2LMHeadModel,
    "update": GenerationConfig,
    "to_dict": GenerationConfig,
    "__post_init__": GPT2Config,
    "encode": PreTrainedTokenizerFast,
    "tokenize": PreTrainedTokenizerFast,
    "decode": PreTrainedTokenizerFast,
    "batch_decode": PreTrainedTokenizerFast,
}
FIELDS = {"logits": CausalLMOutputWithCrossAttentions, "loss": CausalLMOutputWithCrossAttentions}
# An import of what is not there is an error by itself.
IMPORTED = {
    *("DynamicCache", "GPT2Config", "GPT2LMHeadModel", "GenerateDecoderOnlyOutput", "StaticCache", "strict"),
    "PreTrainedTokenizerFast",
}
# Names that the library has too and that are not its own: of torch, of the language, or of arguments that are passed
# and taken by their place.
NOT_LEANED_ON = {"self", "kwargs", "config", "inputs", "labels", "pad", "pair", "text", "sequences", "scores"}
NOT_LEANED_ON |= {"is_initialized"}
DEFAULTS = [
    (GPT2Config, "activation_function", "relu"),
    (GPT2Config, "layer_norm_epsilon", 0.5),
    (GPT2Config, "scale_attn_weights", False),
    (GPT2Config, "tie_word_embeddings", False),
    (GPT2Config, "n_head", 4),
    (GPT2Config, "eos_token_id", 5),
    (GPT2Config, "use_cache", False),
    (GPT2LMHeadModel.forward, "logits_to_keep", 1),
    (GPT2LMHeadModel.forward, "use_cache", False),
    (PreTrainedTokenizerFast.decode, "skip_special_tokens", True),
    (PreTrainedTokenizerFast.convert_ids_to_tokens, "skip_special_tokens", True),
    (PreTrainedTokenizerFast.__call__, "padding", True),
    (PreTrainedTokenizerFast.__call__, "add_special_tokens", False),
]

CACHE = "cache" if "cache" in inspect.signature(GPT2LMHeadModel.forward).parameters else "past_key_values"
SUMS = ("12+87=", "5+67=")
KINDS = {
    "two tokens a step": {"tokens_per_step": 2, "n_layer": 1},
    "window": {"attention_window": {"left": 0, "right": 1}, "position_period": 4, "n_layer": 1},
}


def prompt_ids(tokenizer) -> list[list[int]]:
    return [tokenizer(text)["input_ids"] for text in SUMS]


def left_padded(rows: list[list[int]]) -> torch.Tensor:
    length = max(map(len, rows))
    return torch.tensor([[0] * (length - len(row)) + row for row in rows])


@dataclasses.dataclass
class Saved:
    """A model folder, the prompts it is asked, and what it says to them."""

    folder: str
    prompts: list[list[int]]
    answers: list[list[int]]
    texts: list[str]
    by_beams: list[list[int]] | None
    loss: float


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> dict[str, Saved]:
    """A random model of each kind with its tokenizer; random weights show a mask or a position that is wrong."""
    made = {}
    for kind, settings in KINDS.items():
        folder = tmp_path_factory.mktemp("model")
        model = tiny_model(**settings)
        tokenizer = make_tokenizer(make_data_config())
        prompts = prompt_ids(tokenizer)
        model.generation_config.max_new_tokens = 4
        said = [one_by_one(model, prompt) for prompt in prompts]
        model.config.self_test = model.self_test_of(prompts, 4)
        model.save_pretrained(folder)
        forget_defaults(folder / "config.json")
        tokenizer.save_pretrained(folder)
        texts = [
            text + tokenizer.decode(answer, skip_special_tokens=True) for text, answer in zip(SUMS, said, strict=True)
        ]
        beams = model.config.tokens_per_step == 1
        by_beams = [one_by_one(model, prompt, num_beams=2) for prompt in prompts] if beams else None
        batch = tokenizer(SUMS[0], text_target=SUMS[0], return_tensors="pt")
        made[kind] = Saved(str(folder), prompts, said, texts, by_beams, round(model(**batch).loss.item(), 2))
    return made


def forget_defaults(path: Path) -> None:
    """Take from a config what the library would fill in by itself, so that another default is felt."""
    said = json.loads(path.read_text())
    for owner, name, _ in DEFAULTS:
        if owner is GPT2Config and name not in ("n_head", "eos_token_id"):
            said.pop(name, None)
    path.write_text(json.dumps(said))


def one_by_one(model, prompt: list[int], **settings) -> list[int]:
    said = model.generate(torch.tensor([prompt]), **settings)[0, len(prompt) :].tolist()
    return modeling_simple_llm.up_to_the_end(said, model.config.eos_token_id, 0)


def ways_to_ask(modeling, tokenization, saved: Saved) -> dict[str, tuple]:
    """For each way to ask: a function that asks, and what it has to return."""
    model = modeling.SimpleLLMForCausalLM.from_pretrained(saved.folder)
    tokenizer = tokenization.SimpleLLMTokenizer.from_pretrained(saved.folder)
    rows = left_padded(saved.prompts)

    def alone(prompts=saved.prompts, **settings):
        return lambda: [one_by_one(model, prompt, **settings) for prompt in prompts]

    def in_a_batch():
        said = model.generate(rows, attention_mask=(rows != 0).long())[:, rows.size(1) :].tolist()
        return [modeling_simple_llm.up_to_the_end(row, model.config.eos_token_id, 0) for row in said]

    def with_all_arguments():
        taken = TextStreamer(tokenizer)
        taken.on_finalized_text = lambda text, stream_end=False: None
        settings = {"stopping_criteria": [lambda rows, scores: torch.zeros(len(rows), dtype=torch.bool)]}
        settings |= {"logits_processor": [lambda rows, scores: scores], "streamer": taken}
        return [one_by_one(model, prompt, max_length=len(prompt) + 4, **settings) for prompt in saved.prompts[:1]]

    def trained():
        batch = tokenizer(SUMS[0], text_target=SUMS[0], return_tensors="pt")
        model.set_attn_implementation("eager")
        loss = model(**batch).loss.item()
        model.set_attn_implementation("sdpa")
        return round(loss, 2)

    def by_pipeline():
        pipe = TextGenerationPipeline(model=model, tokenizer=tokenizer)
        return [pipe(text)[0]["generated_text"] for text in SUMS]

    def by_text():
        return [tokenizer.decode(tokenizer(text)["input_ids"]) for text in SUMS]

    written = [modeling_simple_llm.up_to_the_end(prompt, -1, -1) for prompt in saved.prompts]
    ways = {
        "alone": (alone(), saved.answers),
        "without a cache": (alone(saved.prompts[:1], use_cache=False), saved.answers[:1]),
        "static cache": (alone(saved.prompts[:1], cache_implementation="static"), saved.answers[:1]),
        "sampled": (alone(saved.prompts[1:], do_sample=True, top_k=1), saved.answers[1:]),
        "in a batch": (in_a_batch, saved.answers),
        "pipeline": (by_pipeline, saved.texts),
        "all arguments": (with_all_arguments, saved.answers[:1]),
        "loss": (trained, saved.loss),
        "tokens": (lambda: prompt_ids(tokenizer), written),
        "text": (by_text, list(SUMS)),
    }
    if saved.by_beams:
        ways["beams"] = (alone(saved.prompts[1:], num_beams=2), saved.by_beams[1:])
    return ways


def fresh(module, looks_at_names: bool = True):
    """The file anew, as a folder's copy of it is imported where the library is another.

    Args:
        looks_at_names: False: without the look at the library's names when it is imported.
    """
    source = travelling_code(Path(module.__file__).name)
    assert "\nif _missing:" in source or module is tokenization_simple_llm
    made = types.ModuleType(module.__name__ + "_again")
    made.__file__ = module.__file__
    sys.modules[made.__name__] = made  # where dataclasses look for it
    exec(compiled(source if looks_at_names else source.replace("\nif _missing:", "\nif False:")), vars(made))
    return made


compiled = functools.cache(functools.partial(compile, filename="a file that travels", mode="exec"))


def outcomes(saved: Saved, looks_at_names: bool = True) -> dict[str, str]:
    """Ask in every way: "right", "another answer", or the error."""
    try:
        ways = ways_to_ask(fresh(modeling_simple_llm, looks_at_names), fresh(tokenization_simple_llm), saved)
    except Exception as error:
        return {"loading": f"{type(error).__name__}: {error}"}
    found = {}
    for name, (ask, expected) in ways.items():
        try:
            said = ask()
            found[name] = "right" if said == expected else f"another answer: {said} in place of {expected}"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def check(saved: dict[str, Saved], looks_at_names: bool = True) -> list[str]:
    """Ask every kind of model in every way; return what was found, and fail at another answer."""
    found = {(kind, way): said for kind, one in saved.items() for way, said in outcomes(one, looks_at_names).items()}
    wrong = {key: said for key, said in found.items() if said.startswith("another answer")}
    assert not wrong
    return list(found.values())


# ---- The library by itself: a rename that breaks it shows nothing ---------------------------------------


def ask_the_library() -> list:
    """GPT-2 and a tokenizer of the library alone, called by all the names that are rewritten with it."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=13, n_layer=1, n_head=2, n_embd=16, n_positions=20, initializer_range=0.5)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = None, None, 0
    model = GPT2LMHeadModel(config).eval()
    model.generation_config.eos_token_id = None
    rows = torch.tensor([[3, 4, 5], [6, 7, 8]])
    said = [
        model.generate(
            rows, attention_mask=torch.ones_like(rows), max_new_tokens=4, do_sample=False, use_cache=use_cache
        )
        for use_cache in (True, False)
    ]
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<pad>": 0, "a": 1, "b": 2}, unk_token="<pad>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>")
    tokens = tokenizer(["a b a", "b"], padding=True)
    return [*(one.tolist() for one in said), list(tokens.data.values()), tokenizer.decode([2, 1, 0])]


@pytest.mark.parametrize("name", sorted(REWRITTEN))
def test_fault_33_a_name_that_is_another_one_gives_the_right_answer_or_an_error(name, saved):
    expected = ask_the_library()
    within = MODELS if name in IN_MODELS else ("transformers.",)
    with another_release(), renamed(name, ask_the_library, within=within):
        # The library is whole, and only calls it something else.
        assert name in NOT_WHOLE or ask_the_library() == expected
        found = check(saved)
    assert found


@pytest.mark.parametrize("name", sorted(METHODS | FIELDS))
def test_fault_33_a_method_or_field_that_is_another_one_gives_the_right_answer_or_an_error(name, saved):
    owner = METHODS.get(name)
    moved = moved_method(owner, name) if owner else renamed(name)
    with another_release(), moved:
        found = check(saved)
    assert found


@pytest.mark.parametrize(("owner", "parameter", "value"), DEFAULTS)
def test_fault_33_another_default_gives_the_right_answer_or_an_error(owner, parameter, value, saved):
    with another_release(), other_default(owner, parameter, value):
        found = check(saved)
    assert found


def test_a_release_with_all_names_as_they_were_is_right_in_every_way(saved):
    with another_release():
        assert set(check(saved)) == {"right"}


@pytest.mark.parametrize("name", ["attention_mask", "position_ids", CACHE, "input_ids"])
def test_the_question_alone_finds_what_the_look_at_names_would_have_found(name, saved):
    with another_release(), renamed(name, within=MODELS):
        found = check(saved, looks_at_names=False)
    assert any("this model was tested with transformers" in said for said in found)


class Naive(modeling_simple_llm.SimpleLLMForCausalLM):
    """As this file was before transformers 5.24: it knows one name of the cache, and swallows all others."""

    def forward(self, input_ids=None, attention_mask=None, position_ids=None, **others):
        if attention_mask is None and others.get(CACHE) is None:
            attention_mask = torch.ones_like(input_ids)
        if position_ids is None:
            position_ids = self.position_ids(input_ids, attention_mask)
        return GPT2LMHeadModel.forward(
            self, input_ids, attention_mask=attention_mask, position_ids=position_ids, **others
        )

    def _before_blocks(self, blocks, arguments, settings):
        return arguments, settings

    def generate(self, *arguments, **settings):
        return GPT2LMHeadModel.generate(self, *arguments, **settings)


def test_these_tests_would_have_seen_what_was_wrong_under_the_release_that_renamed_the_cache(tmp_path):
    model = Naive(tiny_model().config).eval()
    prompts = prompt_ids(make_tokenizer(make_data_config()))
    settings = {"max_new_tokens": 4, "do_sample": False}
    right = [one_by_one(model, prompt, **settings) for prompt in prompts]
    with renamed(CACHE):
        assert [one_by_one(model, prompt, **settings) for prompt in prompts] != right


# ---- The question ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", [{}, {"use_cache": False}, {"cache_implementation": "static"}])
def test_a_model_that_says_something_else_than_it_did_stops_and_names_both_releases(kind, settings, saved):
    model = modeling_simple_llm.SimpleLLMForCausalLM.from_pretrained(saved[kind].folder)
    with torch.no_grad():
        model.transformer.wpe.weight.neg_()  # as a library would whose positions are not ours
    prompt = torch.tensor([saved[kind].prompts[0]])
    model.generate(prompt, **settings)  # under a release that was tested nothing is asked
    with another_release():
        for _ in range(2):  # and again: it is not asked once and then forgotten
            with pytest.raises(RuntimeError, match=rf"with transformers 5.23.0 and .* {NEXT_RELEASE} it gives other"):
                model.generate(prompt, **settings)


def test_the_question_is_asked_once_for_each_way(saved, monkeypatch):
    model = modeling_simple_llm.SimpleLLMForCausalLM.from_pretrained(saved["window"].folder)
    asked = []
    real = model._answer
    monkeypatch.setattr(model, "_answer", lambda prompts, way, most: asked.append(way) or real(prompts, way, most))
    prompt = torch.tensor([saved["window"].prompts[0]])
    ways = [{}, {"use_cache": False}, {"cache_implementation": "static"}, {"num_beams": 2}]
    for settings in ways * 2:
        model.generate(prompt, **settings)
    assert not asked
    with another_release():
        for settings in ways * 2:
            model.generate(prompt, **settings)
    assert len(set(asked)) == len(ways)
    assert len(asked) == len(ways) * (1 + len(SUMS))  # each question alone, and all in a batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", ["epsilon", "scale", "activation"])
def test_the_logits_tell_of_what_two_sums_alone_would_not(kind, change, saved):
    model = modeling_simple_llm.SimpleLLMForCausalLM.from_pretrained(saved[kind].folder)
    for block in model.transformer.h:
        if change == "epsilon":
            block.ln_1.eps = 0.05
        elif change == "scale":
            block.attn.scaling = block.attn.scaling * 1.3
        else:
            block.mlp.act = torch.nn.SiLU()
    with another_release(), pytest.raises(RuntimeError, match="gives other answers"):
        model.generate(torch.tensor([saved[kind].prompts[0]]))


def test_every_thread_and_every_copy_is_told(saved):
    model = modeling_simple_llm.SimpleLLMForCausalLM.from_pretrained(saved["window"].folder)
    prompt, told = torch.tensor([saved["window"].prompts[0]]), []

    def ask(one):
        try:
            one.generate(prompt)
        except RuntimeError as error:
            told.append(str(error))

    with another_release():
        model.generate(prompt)
        broken = copy.deepcopy(model).to(torch.bfloat16)  # another dtype is another way
        with torch.no_grad():
            broken.transformer.wpe.weight.mul_(-3)
        threads = [threading.Thread(target=ask, args=(broken,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(told) == 3


def test_weights_that_were_changed_are_saved_with_their_own_answers(saved, tmp_path):
    model = modeling_simple_llm.SimpleLLMForCausalLM.from_pretrained(saved["window"].folder)
    with torch.no_grad():
        model.transformer.wte.weight.neg_()
    model.save_pretrained(tmp_path)
    again = modeling_simple_llm.SimpleLLMForCausalLM.from_pretrained(tmp_path)
    assert (
        again.config.self_test["logits"]
        != json.loads(Path(saved["window"].folder, "config.json").read_text())["self_test"]["logits"]
    )
    with another_release():
        again.generate(torch.tensor([saved["window"].prompts[0]]))


def test_a_models_own_settings_do_not_answer_its_questions(saved):
    model = modeling_simple_llm.SimpleLLMForCausalLM.from_pretrained(saved["window"].folder)
    model.generation_config.update(
        suppress_tokens=[6], min_new_tokens=4, return_dict_in_generate=True, output_scores=True
    )
    with another_release():
        model.generate(torch.tensor([saved["window"].prompts[0]]), max_new_tokens=5)


def test_training_under_another_release_is_told_of_too(saved):
    model = modeling_simple_llm.SimpleLLMForCausalLM.from_pretrained(saved["window"].folder).train()
    rows = torch.tensor([saved["window"].prompts[0]])
    with torch.no_grad():
        model.transformer.wpe.weight.neg_()
    with another_release(), pytest.raises(RuntimeError, match="gives other answers"):
        model(input_ids=rows, labels=rows)


def test_a_setting_that_a_later_release_has_by_default_is_not_asked_for(saved, monkeypatch):
    model = modeling_simple_llm.SimpleLLMForCausalLM.from_pretrained(saved["two tokens a step"].folder)
    real = GenerationConfig.__init__

    def with_a_new_flag(self, **settings):
        real(self, **settings)
        self.new_flag = True

    monkeypatch.setattr(GenerationConfig, "__init__", with_a_new_flag)
    model.generation_config.new_flag = True
    with another_release():
        model.generate(torch.tensor([saved["two tokens a step"].prompts[0]]))


def test_a_model_that_carries_no_question_warns(saved):
    model = tiny_model(2)
    prompt = torch.tensor([saved["two tokens a step"].prompts[0]])
    with another_release(), pytest.warns(UserWarning, match="has no question to be asked"):
        model.generate(prompt, max_new_tokens=2)


def test_asking_leaves_a_model_in_training_mode_as_it_was(saved):
    model = modeling_simple_llm.SimpleLLMForCausalLM.from_pretrained(saved["window"].folder).train()
    with another_release():
        model.generate(torch.tensor([saved["window"].prompts[0]]))
    assert model.training


# ---- The list is whole ----------------------------------------------------------------------------------


def library_names() -> set[str]:
    """What the library calls its attributes, fields, settings and arguments, as far as these models meet them."""
    owners = (GPT2LMHeadModel, GPT2Config, GenerationConfig, DynamicCache, StaticCache, PreTrainedTokenizerFast)
    functions = (GPT2LMHeadModel.forward, GPT2LMHeadModel.generate, GPT2LMHeadModel.prepare_inputs_for_generation)
    tokenizer = PreTrainedTokenizerFast
    functions += (tokenizer.__call__, tokenizer.encode, tokenizer.decode, tokenizer.tokenize, tokenizer.batch_decode)
    functions += (StaticCache.__init__, DynamicCache.__init__, tokenizer.convert_ids_to_tokens)
    names = {name for owner in owners for name in dir(owner)} | {"init_kwargs"}
    names |= vars(GenerationConfig()).keys() | vars(GPT2Config()).keys()
    for output in (CausalLMOutputWithCrossAttentions, GenerateDecoderOnlyOutput):
        names |= {field.name for field in dataclasses.fields(output)}
    for function in functions:
        names |= inspect.signature(function).parameters.keys()
    return names - set(dir(torch.nn.Module()))


def names_in(module) -> tuple[set[str], set[str]]:
    """All names, and strings, of a file; and what it imports from other libraries than torch and Python's own."""
    names, imports = set(), set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
        match node:
            case ast.ImportFrom(module=source) if source.split(".")[0] in ("transformers", "huggingface_hub"):
                imports |= {alias.name for alias in node.names}
            case ast.Attribute(attr=name) | ast.keyword(arg=name) | ast.arg(arg=name) | ast.FunctionDef(name=name):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
            case ast.Constant(value=str(name)):
                names.add(name)
    return names, imports


@pytest.mark.parametrize(
    "module", [modeling_simple_llm, places_simple_llm, tokenization_simple_llm, notation_simple_llm]
)
def test_every_name_of_the_library_that_a_file_leans_on_is_moved_here(module):
    names, imports = names_in(module)
    covered = REWRITTEN | METHODS.keys() | FIELDS.keys()
    assert (names & library_names()) - covered - NOT_LEANED_ON - IMPORTED == set()
    assert imports <= IMPORTED
