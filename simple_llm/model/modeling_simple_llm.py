"""GPT-2 that calculates: positions restart at every number, a step may say more than one token, or work as on paper.

Shape letters in this file: B rows in the batch, T tokens in a row, S tokens seen by them (the cached ones and the T),
V tokens in the vocabulary, P rows of the position table, k tokens a step.

This one file travels with every checkpoint, places_simple_llm.py written into it; it imports nothing else of ours.
"""

import copy
import inspect
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel, StaticCache
from transformers.generation import GenerateDecoderOnlyOutput

from .places_simple_llm import (
    answer_logits,
    begin_with_questions,
    block_position_ids,
    Grid,
    IGNORE_INDEX,
    in_view,
    in_window,
    LOGITS_MOVE,
    numbers_of,
    Places,
    QUESTION,
    refuse_wrong_settings,
    sinusoidal_table,
    symbols_of,
    table_rows,
    untested_message,
    untested_versions,
    up_to_the_end,
    write_self_test,
)


@strict
class SimpleLLMConfig(GPT2Config):
    """GPT-2's configuration and what arithmetic needs besides.

    Attributes:
        digit_token_ids: the token IDs that are digits.
        tokens_per_step: k; the logits at index t are for token t + k. With "all", the logits at each digit of the
            second operand are for the answer's digit of that place, and those at the delimiter after it for the
            carry digit, or for the delimiter that ends the answer.
        position_embedding: "block" (learned, by place in the number), "block_sinusoidal", "learned" and
            "sinusoidal" (by index in the row), or "none".
        max_position_offset: the most that training adds to the block positions of a row.
        attention_window: {"left": l, "right": r}: a token sees, of the digits before it, those at most l places below
            and r places above its own, and all delimiters. None: all tokens before it.
        position_period: the rows of the position table come again after so many places. None: never.
        scratchpad: "columns": work is written as on paper, and a token sees what Grid says; positions are KINDS.
            "none": the answer follows the question.
        carry_token_ids: the token IDs that are carries, 0 and up; tokens of their own, as many as there are digits.
        sign_token_ids: without a scratchpad {"-": ID}, the operators but for `+`, which is the delimiter; None: it only
            adds. With columns {"|": ID, "+": ID, "-": ID, "*": ID, "/": ID}, and eos_token_id is that of "=".
        self_test: {"prompts": [...], "answers": [...], "logits": [...]}: questions, what this model says to them, and
            the logits that it chooses the first token of each answer by; token IDs and numbers between spaces. Under a
            library other than those of TESTED_WITH, generate() asks them before anything else. None: nothing is asked.
    """

    model_type = "simple-llm"

    activation_function: str = "gelu"  # GPT-2 has its tanh approximation, which takes a CPU three times as long
    digit_token_ids: list[int] | None = None
    sign_token_ids: dict[str, int] | None = None
    tokens_per_step: int | str = 1
    position_embedding: str = "block"
    max_position_offset: int = 0
    attention_window: dict[str, int] | None = None
    position_period: int | None = None
    scratchpad: str = "none"
    carry_token_ids: list[int] | None = None
    self_test: dict[str, list[str]] | None = None

    def __post_init__(self, **kwargs) -> None:
        super().__post_init__(**kwargs)
        refuse_wrong_settings(self)


class FixedPositions(torch.nn.Module):
    """A position table that is not trained: sinusoids, or zeros for no positions at all."""

    def __init__(self, config: SimpleLLMConfig) -> None:
        super().__init__()
        # Sinusoids at the scale of learned embeddings, or they would drown the digits.
        scale = 0.0 if config.position_embedding == "none" else config.initializer_range
        self.register_buffer("weight", sinusoidal_table(config.n_positions, config.n_embd) * scale)  # (P, n_embd)

    def forward(self, position_ids: Tensor) -> Tensor:
        return torch.nn.functional.embedding(position_ids, self.weight)


class Way(NamedTuple):
    """How tokens are said: by the loop here or by the library's, with or without a cache, of what kind."""

    is_ours: bool
    has_cache: bool
    cache_kind: str | None = None
    num_beams: int = 1


@dataclass(frozen=True)
class Saying:
    """What to say after a prompt: how much, until when, and how a token is chosen.

    Attributes:
        end_ids: tokens that end an answer.
        pad_id: stands after the end.
        temperature, top_k, top_p: of sampling; None: as the model says, of all tokens.
        processors, criteria: functions of rows (B, T) and logits (B, V), as GenerationMixin.generate takes them.
    """

    max_new_tokens: int
    end_ids: tuple[int, ...]
    pad_id: int
    do_sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    processors: tuple = ()
    criteria: tuple = ()
    streamer: object = None

    @classmethod
    def of(cls, config, arguments: dict, num_before: int, pad_id: int) -> "Saying":
        """Read what generate() was given; `num_before` is T of the prompts, `pad_id` the model's own."""
        most = config.max_new_tokens
        if most is None and config.max_length is not None:
            most = config.max_length - num_before
        if most is None or most < 1:
            raise ValueError(f"generate() has {most} tokens to say: pass max_new_tokens=, 1 or more")
        if config.do_sample and config.temperature is not None and not config.temperature > 0:
            raise ValueError(f"temperature is {config.temperature}; a number above 0, or do_sample=False")
        if config.do_sample and config.top_k is not None and config.top_k < 0:
            raise ValueError(f"top_k is {config.top_k}; a whole number from 0")
        if config.do_sample and config.top_p is not None and not 0 <= config.top_p <= 1:
            raise ValueError(f"top_p is {config.top_p}; a number from 0 to 1")
        ends = config.eos_token_id
        sampling = (config.temperature, config.top_k, config.top_p) if config.do_sample else (None, None, None)
        return cls(
            most,
            tuple(ends) if isinstance(ends, list | tuple) else (ends,) if ends is not None else (),
            pad_id if config.pad_token_id is None else config.pad_token_id,
            bool(config.do_sample),
            *sampling,
            tuple(arguments.get("logits_processor") or ()),
            tuple(arguments.get("stopping_criteria") or ()),
            arguments.get("streamer"),
        )

    def choose(self, rows: Tensor, logits: Tensor) -> Tensor:
        """The next token of each row: (B, T), (B, V) -> (B,)."""
        for processor in self.processors:
            logits = processor(rows, logits)
        if not self.do_sample:
            return logits.argmax(-1)
        return warped(logits, self.temperature, self.top_k, self.top_p).softmax(-1).multinomial(1)[:, 0]

    def ends(self, rows: Tensor, logits: Tensor) -> Tensor:
        """Whether each row ends with its last token: (B, T), (B, V) -> (B,)."""
        ended = (rows[:, -1:] == torch.tensor(self.end_ids, device=rows.device, dtype=rows.dtype)).any(-1)
        for criterion in self.criteria:
            ended = ended | criterion(rows, logits)
        return ended


def warped(logits: Tensor, temperature: float | None, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits to sample from, (B, V): divided, then -inf for all but the k best and the nucleus of probability p.

    The nucleus is the fewest best tokens that have p together (Holtzman et al., arXiv 1904.09751).
    """
    if temperature:
        logits = logits / temperature
    if top_k:
        worst = logits.topk(min(top_k, logits.size(-1))).values[:, -1:]
        logits = logits.masked_fill(logits < worst, -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, index = logits.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)  # (B, V) what better tokens have together
        is_out = torch.zeros_like(logits, dtype=torch.bool).scatter(1, index, (before >= top_p) & (before > 0))
        logits = logits.masked_fill(is_out, -torch.inf)
    return logits


def _asked(config, arguments: dict) -> list[str]:
    """Names of what generate() is asked for that the loop here does not do; what the library does unasked is none."""
    unasked = type(config)().to_dict()
    served = {"cache_implementation"} if config.cache_implementation in (None, "dynamic", "static") else set()
    settings = [
        name
        for name, value in config.to_dict().items()
        if name not in _SETTINGS | served
        and not (value is None or value is False or value == unasked.get(name))
        and not (name in _NOTHING_AT_1 and value == 1)
    ]
    others = {
        name for name, value in arguments.items() if value is not None and (name, value) != ("synced_gpus", False)
    }
    return [*settings, *sorted(others - _ARGUMENTS)]


_ARGUMENTS = {"input_ids", "attention_mask", "logits_processor", "stopping_criteria", "streamer", "tokenizer"}
_SETTINGS = {
    *("max_new_tokens", "max_length", "eos_token_id", "pad_token_id", "bos_token_id", "num_return_sequences"),
    *("do_sample", "temperature", "top_k", "top_p", "use_cache", "return_dict_in_generate"),
    *("transformers_version", "_from_model_config"),  # no settings
}
_NEVER = {
    "prefill_chunk_size": "a chunk does not know its positions",
    "stop_strings": "an answer ends with its delimiter; eos_token_id takes other tokens",
    "position_ids": "positions follow from the tokens",
}
_NOTHING_AT_1 = {"num_beams", "num_beam_groups", "repetition_penalty", "length_penalty", "typical_p"}


# ---- What this file builds on, which may have another name in another release -----------------------

_REDEFINED = ("forward", "generate", "generate_batch", "prepare_inputs_for_generation", "save_pretrained")
_PARAMETERS = inspect.signature(GPT2LMHeadModel.forward).parameters
_CACHE = "cache" if "cache" in _PARAMETERS else "past_key_values"  # since transformers 5.24, and before
_PASSED = ("input_ids", "attention_mask", "position_ids", "use_cache", "logits_to_keep", _CACHE)


_BLOCKS_TAKE = ("use_cache", "output_attentions", "output_hidden_states", "return_dict")
_OTHER_LOSS = "pass labels to the model and take its own, which alone compares each with the logits that are for it"

_missing = [f"GPT2LMHeadModel.{name}" for name in _REDEFINED if not hasattr(GPT2LMHeadModel, name)]
_missing += [f"an argument {name} of GPT2LMHeadModel.forward" for name in _PASSED if name not in _PARAMETERS]
if _missing:  # a method or an argument that was given another name would be passed over
    raise ImportError(untested_message(f"there is no {' and no '.join(_missing)}"))


class SimpleLLMForCausalLM(Places, GPT2LMHeadModel):
    """GPT2LMHeadModel with block positions and k tokens a step; loads, saves and generates like any other.

    Position IDs are derived from the tokens where none are given, and honoured where they are. What these methods do
    not know they refuse: a setting that is passed over is an answer that is wrong and says nothing.
    """

    config_class = SimpleLLMConfig
    config: SimpleLLMConfig

    def __init__(self, config: SimpleLLMConfig) -> None:
        super().__init__(config)
        if config.position_embedding not in ("block", "learned"):
            self.transformer.wpe = FixedPositions(config)
        self.transformer.register_forward_pre_hook(self._before_blocks, with_kwargs=True)
        self._ways_tried: set[tuple] = set()

    def forward(
        self,
        input_ids: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        key_position_ids: Tensor | None = None,
        grid: Grid | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        cache=None,
        past_key_values=None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **others,
    ):
        """Run the transformer; see GPT2LMHeadModel.forward for what is not named here.

        Args:
            input_ids: (B, T) token IDs.
            attention_mask: (B, S), 0 for padding; without it nothing is padding.
            position_ids: (B, T); derived from `input_ids` where not given.
            key_position_ids: (B, S) of the cached tokens and the new ones; needed with a cache and an attention window.
            grid: where tokens stand on a scratchpad of columns; needed with a cache, and derived where not given.
            labels: (B, T), IGNORE_INDEX where nothing is to be learned. With k tokens a step they are as
                `input_ids`, and index t is compared with the logits at t - k; with "all", index t is what is to be
                said at t. Software that shifts logits by one token itself is wrong for such a model.
            num_items_in_batch: the loss is a sum divided by this, not the mean; so transformers.Trainer adds up slices.
                Without labels it is refused: a trainer that keeps them for itself smooths them, and shifts them wrong.
            cache, past_key_values: keys and values of tokens before; the first name is that of transformers 5.24, the
                second that of 5.23. Either is taken under both.

        Returns:
            CausalLMOutputWithCrossAttentions; its logits (B, T, V) at index t are for token t + k.

        Raises:
            ValueError: cached tokens and no position IDs or grid, a position past the table, a mask or grid of another
                length, or attentions asked of what does not return them.
            NotImplementedError: a window or a scratchpad and a mask that is not (B, S); an attention other than eager
                and sdpa: kernels for packed sequences take restarting position IDs for their borders; another loss
                than this model's, where that can be seen.
            TypeError: an argument that is not named here.
        """
        if labels is None and num_items_in_batch is not None:  # of a trainer that keeps the labels for itself
            raise NotImplementedError(f"label smoothing, or another loss than this model's: {_OTHER_LOSS}")
        if (self.training or labels is not None) and not torch.compiler.is_compiling():
            self._try_library(Way(True, False))
        outputs = super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            key_position_ids=key_position_ids,
            grid=grid,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=return_dict,
            asker_knows_k=True,
            **{_CACHE: past_key_values if cache is None else cache},
            **others,
        )
        if labels is None:
            return outputs
        loss = self._loss(outputs[0], labels, num_items_in_batch)
        return (loss, *outputs) if isinstance(outputs, tuple) else type(outputs)(loss=loss, **outputs)

    def _loss(self, logits: Tensor, labels: Tensor, num_items_in_batch: Tensor | int | None) -> Tensor:
        """Cross entropy of the labels, each at the logits that say it: (B, T, V), (B, T) -> ()."""
        k = 0 if self.config.tokens_per_step == "all" else self.config.tokens_per_step
        shifted = torch.nn.functional.pad(labels, (0, k), value=IGNORE_INDEX)[:, k:]  # (B, T)
        total = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1),
            shifted.flatten().to(logits.device),
            ignore_index=IGNORE_INDEX,
            reduction="mean" if num_items_in_batch is None else "sum",
        )
        return total if num_items_in_batch is None else total / num_items_in_batch

    def _before_blocks(self, blocks: torch.nn.Module, arguments: tuple, settings: dict) -> tuple[tuple, dict]:
        return (), self._placed(*arguments, **settings)

    def _placed(
        self,
        input_ids: Tensor | None = None,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        key_position_ids: Tensor | None = None,
        grid: Grid | None = None,
        cache=None,
        past_key_values=None,
        asker_knows_k: bool = False,
        **others,
    ) -> dict:
        """What GPT-2's blocks are given: each token at its place and seeing what it is meant to, whoever asks them.

        Args:
            asker_knows_k: whether the asker knows that the state at index t is for token t + k. Software that goes past
                this model's head, to have a loss of its own, does not.
            others: see `forward` for these and what is raised.
        """
        unknown = sorted(name for name, value in others.items() if value is not None and name not in _BLOCKS_TAKE)
        if unknown:
            raise TypeError(f"forward() does not know {', '.join(unknown)}")
        if input_ids is None:
            raise TypeError("forward() needs input_ids")
        if self.training and not asker_knows_k and self.config.tokens_per_step != 1:
            raise NotImplementedError(f"a loss of the states: {_OTHER_LOSS}")
        if self.config._attn_implementation not in ("eager", "sdpa"):
            raise NotImplementedError(f"attention {self.config._attn_implementation!r}; use 'sdpa' or 'eager'")
        if others.get("output_attentions") and self.config._attn_implementation != "eager":
            raise ValueError(
                "output_attentions needs model.set_attn_implementation('eager'): others have none to return"
            )
        cache = past_key_values if cache is None else cache
        num_cached = 0 if cache is None else int(cache.get_seq_length())
        has_columns = self.config.scratchpad == "columns"
        if grid is not None and not has_columns:
            raise ValueError("a grid needs scratchpad = 'columns'")
        if position_ids is None and not has_columns:
            if num_cached:
                raise ValueError("positions depend on the cached tokens too: pass position_ids, or use generate()")
            position_ids = self.position_ids(input_ids, attention_mask)
        if attention_mask is None:
            # Given no mask, transformers takes positions that restart for packed sequences and silently stops
            # the numbers from attending to one another.
            attention_mask = input_ids.new_ones(input_ids.size(0), num_cached + input_ids.size(1))
        if attention_mask.ndim == 2 and attention_mask.size(1) != num_cached + input_ids.size(1):
            raise ValueError(
                f"attention_mask is for {attention_mask.size(1)} tokens; {num_cached} are in the cache and "
                f"{input_ids.size(1)} are new"
            )
        if attention_mask.ndim != 2 and (has_columns or self.config.attention_window is not None):
            raise NotImplementedError("an attention window and a scratchpad need a mask (B, S)")
        if has_columns:
            grid = self._whole_grid(input_ids, attention_mask, grid, num_cached)
            position_ids = grid.kinds if position_ids is None else position_ids
            sees = in_view(grid.looks, grid.addresses)
            attention_mask = self._mask(sees, attention_mask, cache, sees_itself=False)
        elif self.config.attention_window is not None:
            if key_position_ids is None and num_cached:
                raise ValueError("what is in the window depends on the cached tokens: pass key_position_ids")
            keys = position_ids if key_position_ids is None else key_position_ids
            sees = in_window(position_ids, keys, **self.config.attention_window)
            attention_mask = self._mask(sees, attention_mask, cache)
        position_ids = table_rows(position_ids, self.config.position_period)
        if not torch.compiler.is_compiling() and position_ids.max() >= self.config.n_positions:
            raise ValueError(
                f"position {int(position_ids.max())} is past the position table of n_positions = "
                f"{self.config.n_positions}: the numbers are longer than this model knows"
            )
        placed = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
        return {**others, **placed, _CACHE: cache}

    def _whole_grid(self, input_ids: Tensor, attention_mask: Tensor | None, grid: Grid | None, num_cached: int) -> Grid:
        """The grid that was given, if it is of these tokens and of those in the cache, or else that of whole rows."""
        if grid is None:
            if num_cached:
                raise ValueError("where tokens stand depends on the cached tokens too: pass grid, or use generate()")
            return self.grid(input_ids, attention_mask)
        num_placed, num_tokens = grid.looks.size(1), grid.addresses.size(1)
        if num_placed != input_ids.size(1) or num_tokens != num_cached + num_placed:
            raise ValueError(
                f"grid is for {num_placed} tokens, {num_tokens - num_placed} before them; {input_ids.size(1)} are new, "
                f"{num_cached} are in the cache"
            )
        return grid

    def _mask(self, sees: Tensor, is_token: Tensor, cache, sees_itself: bool = True) -> Tensor:
        """Mask what is not in view, what comes later, and padding: (B, 1, T, S), in the form attention takes.

        Padding sees itself: a row of the softmax must have something to add up to 1. A static cache has room for more
        keys than there are yet; nobody sees what is not there.

        Args:
            sees: (B, T, S) what is in view.
            is_token: (B, S) 0 for padding.
            sees_itself: whether every token does, in view or not; else those that see nothing.
        """
        num_new, num_keys = sees.shape[1:]
        column = torch.arange(num_keys, device=sees.device)
        row = column[num_keys - num_new :, None]
        sees = sees & (column <= row) & is_token.bool()[:, None, :]
        sees = sees | (column == row) & (sees_itself or ~sees.any(-1, keepdim=True))  # (B, T, S)
        if cache is not None:
            room = cache.get_mask_sizes(num_new, 0)[0]  # the library's own way to know how many keys attention gets
            sees = torch.nn.functional.pad(sees, (0, room - sees.size(2)))
        if self.config._attn_implementation != "eager":
            return sees[:, None]
        return torch.zeros_like(sees, dtype=self.dtype).masked_fill(~sees, torch.finfo(self.dtype).min)[:, None]

    # ---- generate() -------------------------------------------------------------------------------

    def generate(self, inputs: Tensor | None = None, generation_config=None, **arguments):
        """Say what follows prompts, by greedy search or sampling, k tokens a step or the whole answer in one pass.

        The loop is this file's own, with or without a cache. What else GenerationMixin.generate offers (beams,
        assistants, scores, ...) is left to it where k is 1, and refused where it is not: it would be silently wrong.

        Args:
            inputs: (B, T) token IDs that begin with the delimiter, padded on the left; `input_ids` is another name.
            generation_config: settings, over those of this model; `arguments` are over both.
            arguments: attention_mask (B, T), logits_processor, stopping_criteria, streamer, and settings by name.

        Returns:
            (B, T + L) token IDs, with padding after each row's end; with return_dict_in_generate an output that has
            them as `sequences`.

        Raises:
            ValueError: rows that no tokenizer of this model wrote, no number of tokens to say, a setting out of range.
            NotImplementedError: what is asked for needs one token a step.
            RuntimeError: the library is of a release this file was not tested with, and says something else with it.
        """
        was_training = self.training
        if was_training:
            self.eval()  # an answer is said without dropout
        try:
            return self._generate(inputs, generation_config, arguments)
        except (AttributeError, KeyError, TypeError) as error:
            if not untested_versions():
                raise
            raise RuntimeError(untested_message(f"generate() fails ({error})")) from error
        finally:
            if was_training:
                self.train()

    def _generate(self, inputs: Tensor | None, given, arguments: dict):
        config, others = self._settings(given, arguments)
        asked = _asked(config, others)
        asked_for = config.to_dict() | others
        for name, why in _NEVER.items():
            if asked_for.get(name) is not None and not (name == "position_ids" and asked_for.get("is_assistant")):
                raise NotImplementedError(f"{name} is not supported: {why}")
        if asked and self.config.tokens_per_step != 1:
            raise NotImplementedError(f"{', '.join(asked)}: needs tokens_per_step = 1; use greedy search or sampling")
        has_cache = config.use_cache is not False
        way = Way(not asked, has_cache, config.cache_implementation if has_cache else None, config.num_beams or 1)
        self._try_library(way)
        if asked:
            if "assistant_model" not in asked:
                arguments.pop("tokenizer", None)
            return super().generate(inputs, generation_config=given, **arguments)
        named = others.pop("input_ids", None)
        if (inputs is None) == (named is None):
            raise ValueError("generate() needs input_ids, once: what this model's tokenizer makes of '1342+879='")
        rows = (named if inputs is None else inputs).to(self.device)
        is_token = others.pop("attention_mask", None)
        is_token = (rows != self.config.pad_token_id if is_token is None else is_token.to(self.device)).long()
        self._refuse_other_rows(rows, is_token)
        saying = Saying.of(config, others, rows.size(1), self.config.pad_token_id)
        if config.num_return_sequences is not None:
            rows, is_token = (one.repeat_interleave(config.num_return_sequences, 0) for one in (rows, is_token))
        rows = self._say(rows, is_token, saying, way)
        return GenerateDecoderOnlyOutput(sequences=rows) if config.return_dict_in_generate else rows

    def _settings(self, given, arguments: dict) -> tuple[object, dict]:
        """Settings by name, over those given, over this model's; and the arguments that are no settings."""
        config = copy.deepcopy(self.generation_config)
        named = {} if given is None else given.to_dict()
        named = {name: value for name, value in named.items() if value is not None and not name.startswith("_")}
        unknown = config.update(**named)
        if unknown:
            raise ValueError(f"no setting of generate(): {', '.join(unknown)}")
        named |= arguments
        if named.get("max_length") is not None and named.get("max_new_tokens") is None:
            config.max_new_tokens = None  # the model's own is over no other
        return config, config.update(**arguments)

    @torch.no_grad()
    def _say(self, rows: Tensor, is_token: Tensor, saying: Saying, way: Way) -> Tensor:
        """Put tokens behind prompts until each has ended: (B, T), (B, T) -> (B, T + L).

        A step reads what was not read yet, or everything where there is no cache, and says k tokens; with "all" there
        is one step, and it says as many tokens as the longest answer has.
        """
        k = self.config.tokens_per_step
        num_left = self.num_answer_tokens(rows) if k == "all" else None  # (B,) tokens still to say
        num_step = int(num_left.max()) if k == "all" else k
        num_before, num_read, cache, grid = rows.size(1), 0, None, None
        if way.has_cache:
            room = num_before + saying.max_new_tokens + num_step
            is_static = way.cache_kind == "static"
            cache = StaticCache(self.config, max_cache_len=room) if is_static else DynamicCache(config=self.config)
        if saying.streamer is not None:
            saying.streamer.put(rows.cpu())
        is_alive = torch.ones(rows.size(0), dtype=torch.bool, device=rows.device)  # (B,)
        while is_alive.any():
            new = rows[:, num_read:]
            if self.config.scratchpad == "columns":
                grid = self.grid(new, is_token[:, num_read:], grid if num_read else None)
                places = {"grid": grid}
            else:
                positions = self.position_ids(rows, is_token)  # (B, S)
                places = {"position_ids": positions[:, num_read:], "key_position_ids": positions}
            outputs = self(
                input_ids=new,
                attention_mask=is_token,
                **places,
                cache=cache,
                use_cache=way.has_cache,
                logits_to_keep=num_step,
            )
            num_read = rows.size(1) if way.has_cache else 0
            said = outputs.logits[:, -num_step:].float()  # (B, num_step, V)
            for logits in (answer_logits(said, num_left) if k == "all" else said).unbind(1):  # (B, V) each
                token = torch.where(is_alive, saying.choose(rows, logits), saying.pad_id)  # (B,)
                rows = torch.cat([rows, token[:, None]], dim=1)
                is_token = torch.cat([is_token, torch.ones_like(is_token[:, :1])], dim=1)
                if saying.streamer is not None:
                    saying.streamer.put(token.cpu())
                is_alive &= ~saying.ends(rows, logits)
                if k == "all":
                    num_left = num_left - 1
                    is_alive &= num_left > 0
                if rows.size(1) == num_before + saying.max_new_tokens:
                    is_alive &= False
                if not is_alive.any():
                    break
        if saying.streamer is not None:
            saying.streamer.end()
        return rows

    def num_answer_tokens(self, input_ids: Tensor) -> Tensor:
        """Count what is said in one pass: one token at each digit of the second operand, one at the delimiter.

        Args:
            input_ids: (B, T) prompts `+x+y+`, padded on the left.

        Returns:
            (B,) counts.

        Raises:
            ValueError: a row is no whole prompt, or its longer operand comes first.
        """
        digit_ids = torch.tensor(self.config.digit_token_ids, device=input_ids.device)
        places = block_position_ids(input_ids, digit_ids)  # (B, T)
        num_digits = (places > 0).sum(1)  # (B,) of both operands
        y_length = places[:, -2] if input_ids.size(1) > 1 else num_digits
        is_delimiter = input_ids == self.config.eos_token_id
        is_mark = is_delimiter | self._is_other_sign(input_ids)
        is_prompt = is_delimiter[:, -1] & (is_mark.sum(1) == 3) & (y_length > 0) & (num_digits > y_length)
        if not is_prompt.all():
            raise ValueError(
                "tokens_per_step = 'all' answers whole prompts +x+y+, padded on the left, and nothing else"
            )
        if (num_digits > 2 * y_length).any():
            raise ValueError("tokens_per_step = 'all' needs the longer operand second; the tokenizer puts it there")
        return y_length + 1

    def _is_other_sign(self, input_ids: Tensor) -> Tensor:
        """Whether each token is an operator other than the delimiter: (B, T) -> (B, T)."""
        others = torch.tensor([*(self.config.sign_token_ids or {}).values()], device=input_ids.device, dtype=torch.long)
        return (input_ids[..., None] == others).any(-1)

    def _refuse_other_rows(self, rows: Tensor, is_token: Tensor) -> None:
        """Refuse rows that are not what this model's tokenizer writes: digits and delimiters, one in front."""
        if self.config.scratchpad == "columns":
            self._refuse_other_questions(rows, is_token)
            return
        known = torch.tensor([*self.config.digit_token_ids, self.config.eos_token_id], device=rows.device)
        is_sign = self._is_other_sign(rows)
        is_known = (rows[..., None] == known).any(-1) | is_sign | (is_token == 0)  # (B, T)
        first = (is_token != 0).long().argmax(1, keepdim=True)  # (B, 1)
        begins = rows.gather(1, first)[:, 0] == self.config.eos_token_id
        is_left = is_token[:, -1:].bool() & (is_token.cummax(1).values == is_token)
        is_whole = (((rows == self.config.eos_token_id) | is_sign) & (is_token != 0)).sum(1) >= 3
        if not (is_known.all() and begins.all() and is_left.all() and is_whole.all()):
            raise ValueError(
                "generate() takes rows that begin with the delimiter +, of digits and delimiters, both operands whole, "
                "padded on the left: what this model's own tokenizer makes of '1342+879='"
            )

    def _refuse_other_questions(self, rows: Tensor, is_token: Tensor) -> None:
        """Refuse rows that do not begin with a question: *75*64| and, if it has begun, its work."""
        is_zero = rows == self.config.digit_token_ids[0]
        if not begin_with_questions(symbols_of(self.config, rows, is_token), is_zero):
            raise ValueError(
                "generate() takes rows that begin with a question, lowest digits first, and end with |, or with work "
                "after it: what this model's own tokenizer makes of '57*46=', padded on the left; no divisor begins "
                "with 0"
            )

    # ---- Other libraries --------------------------------------------------------------------------

    def _try_library(self, way: Way) -> None:
        """Under a library that nobody tested, ask the model's own questions first, in the way that is about to be used.

        Each is asked by itself, and all in one batch with padding: a library can be wrong about either alone.

        Raises:
            RuntimeError: the answers are others, or none.
        """
        untested = untested_versions()
        here = (*untested.items(), self.dtype, self.device.type, self.config._attn_implementation, way)
        if not untested or here in self._ways_tried:
            return
        if self.config.self_test is None:
            self._ways_tried.add(here)
            warnings.warn(untested_message("it may say anything, and has no question to be asked"), stacklevel=4)
            return
        prompts, answers, logits = ([numbers_of(one) for one in self.config.self_test[name]] for name in QUESTION)
        try:
            said, said_by = self._answer(prompts, way, max(map(len, answers)))
            alone = [self._answer([prompt], way, max(map(len, answers)))[0][0] for prompt in prompts[:2]]
        except Exception as error:  # whatever the library does now, the way out is the same
            raise RuntimeError(untested_message(f"it fails ({error})")) from error
        # Narrow numbers round more than this, and a beam's logits are no logits.
        has_logits = way.num_beams == 1 and self.dtype in (torch.float32, torch.float64)
        is_near = not has_logits or (said_by.cpu() - torch.tensor(logits)).abs().max() < LOGITS_MOVE
        if said != answers or alone != answers[:2] or not is_near:
            raise RuntimeError(
                untested_message(
                    "it gives other answers than when it was saved (if its weights are others since then: "
                    "config.self_test = None)"
                )
            )
        self._ways_tried.add(here)

    def _answer(self, prompts: list[list[int]], way: Way, most: int) -> tuple[list[list[int]], Tensor]:
        """Answer its own questions by greedy search, dropout off.

        Args:
            most: tokens of an answer.

        Returns:
            The answers, and the logits (B, V) that their first tokens were chosen by.
        """
        pad, end, length = self.config.pad_token_id, self.config.eos_token_id, max(map(len, prompts))
        rows = torch.tensor([[pad] * (length - len(prompt)) + prompt for prompt in prompts], device=self.device)
        seen = []

        def note(input_ids: Tensor, scores: Tensor) -> Tensor:
            seen.append(scores)
            return scores

        was_training, settings = self.training, self.generation_config
        self.eval()
        try:
            if way.is_ours:
                saying = Saying(most, (end,), pad, processors=(note,))
                rows = self._say(rows, (rows != pad).long(), saying, way)
            else:  # in a config of its own: the model's may ask for less than the best token, or for an output
                self.generation_config = type(settings)(
                    do_sample=False,
                    max_new_tokens=most,
                    eos_token_id=end,
                    pad_token_id=pad,
                    num_beams=way.num_beams,
                    use_cache=way.has_cache,
                    cache_implementation=way.cache_kind,
                )
                is_token = (rows != pad).long()
                rows = super().generate(rows, attention_mask=is_token, logits_processor=[note])
        finally:
            self.generation_config = settings
            self.train(was_training)
        return [up_to_the_end(row, end, pad) for row in rows[:, length:].tolist()], seen[0]

    def self_test_of(self, prompts: list[list[int]], most: int) -> dict[str, list[str]]:
        """Ask questions, and write them and what is said as `config.self_test` has it; `most` tokens an answer."""
        return write_self_test(prompts, *self._answer(prompts, Way(True, False), most))

    def save_pretrained(self, save_directory, *arguments, **settings):
        """Write the model, see PreTrainedModel.save_pretrained; its questions get the present weights' answers."""
        self._bring_pipeline(Path(save_directory))
        is_whole = not torch.distributed.is_initialized() and self.device.type != "meta"
        if self.config.self_test is not None and is_whole and not untested_versions():
            prompts, answers = ([numbers_of(one) for one in self.config.self_test[name]] for name in QUESTION[:2])
            self.config.self_test = self.self_test_of(prompts, max(map(len, answers)))
        return super().save_pretrained(save_directory, *arguments, **settings)

    def _bring_pipeline(self, folder: Path) -> None:
        """Put what config.json names for pipeline() there, if it lies beside this code or where the model came from, or
        name none.
        """
        tasks = getattr(self.config, "custom_pipelines", None) or {}
        names = [f"{task['impl'].partition('.')[0]}.py" for task in tasks.values()]
        beside = (Path(__file__).parent, *map(Path, [self.name_or_path] if self.name_or_path else ()))
        sources = [next((place / name for place in beside if (place / name).is_file()), None) for name in names]
        if None in sources:
            self.config.custom_pipelines = {}
            return
        folder.mkdir(parents=True, exist_ok=True)
        for source in sources:
            if source.resolve() != (folder / source.name).resolve():
                shutil.copyfile(source, folder / source.name)

    def prepare_inputs_for_generation(self, input_ids: Tensor, *arguments, **kwargs) -> dict:
        """Give GenerationMixin the positions of the whole row; with a cache it keeps those of the new tokens.

        generate() calls this only for what is left to the library.
        """
        mask = kwargs.get("attention_mask")
        mask = mask if mask is not None and mask.ndim == 2 else None
        grid = self.grid(input_ids, mask) if self.config.scratchpad == "columns" else None
        kwargs["position_ids"] = self.position_ids(input_ids, mask) if grid is None else grid.kinds
        if self.config.attention_window is not None:
            kwargs["key_position_ids"] = kwargs["position_ids"]
        inputs = super().prepare_inputs_for_generation(input_ids, *arguments, **kwargs)
        if grid is not None:
            inputs["grid"] = grid._replace(looks=grid.looks[:, -inputs["input_ids"].size(1) :])
            inputs["attention_mask"] = mask  # for a static cache the library has made one of what comes before
        return inputs

    def generate_batch(self, *args, **kwargs):
        """Refuse: continuous batching numbers the positions by itself."""
        raise NotImplementedError("continuous batching is not supported; use generate() with a left-padded batch")


SimpleLLMConfig.register_for_auto_class()
SimpleLLMForCausalLM.register_for_auto_class("AutoModelForCausalLM")
