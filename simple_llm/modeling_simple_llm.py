"""GPT-2 that adds: positions restart at every number, and a step may say more than one token.

Shape letters in this file: B rows in the batch, T tokens in a row, S tokens seen by them (the cached ones and the T),
D digit tokens, V tokens in the vocabulary, P rows of the position table, k tokens a step.

This one file travels with every checkpoint (save_pretrained copies it), so it imports nothing of the project.
"""

import math

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.generation import GenerateDecoderOnlyOutput

POSITION_EMBEDDINGS = ("block", "block_sinusoidal", "learned", "sinusoidal", "none")
IGNORE_INDEX = -100


@strict
class SimpleLLMConfig(GPT2Config):
    """GPT-2's configuration and what addition needs besides.

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
    """

    model_type = "simple-llm"

    activation_function: str = "gelu"  # GPT-2 has its tanh approximation, which takes a CPU three times as long
    digit_token_ids: list[int] | None = None
    tokens_per_step: int | str = 1
    position_embedding: str = "block"
    max_position_offset: int = 0
    attention_window: dict[str, int] | None = None
    position_period: int | None = None

    def __post_init__(self, **kwargs) -> None:
        super().__post_init__(**kwargs)
        if self.position_embedding not in POSITION_EMBEDDINGS:
            raise ValueError(f"position_embedding is {self.position_embedding!r}, not one of {POSITION_EMBEDDINGS}")
        if self.tokens_per_step not in (1, 2, "all"):
            raise ValueError(f"tokens_per_step is {self.tokens_per_step!r}, not 1, 2 or 'all'")
        if self.attention_window is not None and set(self.attention_window) != {"left", "right"}:
            raise ValueError(f"attention_window is {self.attention_window!r}, not left and right")
        if self.attention_window is not None and self.tokens_per_step != 1:
            raise ValueError("attention_window needs tokens_per_step = 1: others would not see what they add")


def block_position_ids(input_ids: Tensor, digit_ids: Tensor) -> Tensor:
    """Number the digits of every number 1, 2, 3, ...; every other token gets 0.

    Numbers are written least significant digit first, so equal IDs mean equal place value: the hundreds of all
    three numbers below get ID 3 (Abacus embeddings, McLeish et al., arXiv 2405.17399).

        tokens     + 2 4 3 1 + 9 7 8 + 1 2 2 2 +     (1342 + 879 = 2221)
        positions  0 1 2 3 4 0 1 2 3 0 1 2 3 4 0

    Args:
        input_ids: (B, T) token IDs.
        digit_ids: (D,) the token IDs that are digits.

    Returns:
        (B, T) int64 position IDs.
    """
    is_digit = (input_ids[..., None] == digit_ids).any(-1)  # (B, T)
    digits_so_far = is_digit.long().cumsum(1)  # (B, T)
    numbers_so_far = (~is_digit).long().cumsum(1)  # (B, T) which number a digit belongs to
    # At each number's delimiter note how many digits came before it. Digits write to a last column nobody reads.
    num_columns = input_ids.size(1) + 2
    column = torch.where(is_digit, num_columns - 1, numbers_so_far)  # (B, T)
    digits_before = digits_so_far.new_zeros(input_ids.size(0), num_columns).scatter(1, column, digits_so_far)
    return (digits_so_far - digits_before.gather(1, numbers_so_far)) * is_digit


def table_rows(position_ids: Tensor, period: int | None) -> Tensor:
    """Rows of the position table: with period P, places 1 to P, and again from 1; row 0 is for what is no digit."""
    if period is None:
        return position_ids
    return torch.where(position_ids > 0, 1 + (position_ids - 1) % period, 0)


def in_window(query_position_ids: Tensor, key_position_ids: Tensor, left: int, right: int) -> Tensor:
    """Whether each query may see each key, by their places alone: (B, T), (B, S) -> (B, T, S).

    What is no digit has place 0 and is seen by all. What is no digit sees the lowest `right` places of each number:

        left 0, right 1     + 2 4 3 1 + 9 7 8 + 1
        the last + sees     x x       x x     x            to say the ones
        the last 1 sees     x x x     x x x   x x          to say the tens, and both ones and the 1 for the carry
    """
    distance = key_position_ids[:, None, :] - query_position_ids[:, :, None]
    return (key_position_ids == 0)[:, None, :] | (distance >= -left) & (distance <= right)


def answer_logits(logits: Tensor, num_answer_tokens: Tensor) -> Tensor:
    """Move what is said in one pass to the left: (B, L, V) at the last L tokens of each prompt -> (B, L, V).

    Row b's answer is in its last `num_answer_tokens[b]` columns, of (B,); what stands to the right of it afterwards
    is of no use.

        tokens     + 5 + 6 7 +        + 1 2 + 5 6 7 +      (5 + 76 = 81, 21 + 765 = 786)
        said           1 8 +                  6 8 7 +      one pass
    """
    num_columns = logits.size(1)
    column = torch.arange(num_columns, device=logits.device) + (num_columns - num_answer_tokens)[:, None]  # (B, L)
    return logits.gather(1, column.clamp(max=num_columns - 1)[..., None].expand_as(logits))


def sinusoidal_table(num_positions: int, width: int) -> Tensor:
    """Fixed position vectors (Vaswani et al., arXiv 1706.03762), sines in even columns, cosines in odd: (P, width)."""
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))  # (ceil(width / 2),)
    angle = torch.arange(num_positions)[:, None] * frequency  # (P, ceil(width / 2))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)[:, :width]


class FixedPositions(torch.nn.Module):
    """A position table that is not trained: sinusoids, or zeros for no positions at all."""

    def __init__(self, config: SimpleLLMConfig) -> None:
        super().__init__()
        # Sinusoids at the scale of learned embeddings, or they would drown the digits.
        scale = 0.0 if config.position_embedding == "none" else config.initializer_range
        self.register_buffer("weight", sinusoidal_table(config.n_positions, config.n_embd) * scale)  # (P, n_embd)

    def forward(self, position_ids: Tensor) -> Tensor:
        return torch.nn.functional.embedding(position_ids, self.weight)


class SimpleLLMForCausalLM(GPT2LMHeadModel):
    """GPT2LMHeadModel with block positions and k tokens a step; loads, saves and generates like any other.

    Position IDs are derived from the tokens where none are given, and honoured where they are.
    """

    config_class = SimpleLLMConfig
    config: SimpleLLMConfig
    _supports_flash_attn = False  # its kernels take restarting position IDs for packed sequences

    def __init__(self, config: SimpleLLMConfig) -> None:
        super().__init__(config)
        if config.position_embedding not in ("block", "learned"):
            self.transformer.wpe = FixedPositions(config)

    def position_ids(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Number the tokens of whole rows as the model was trained: (B, T) -> (B, T).

        Args:
            attention_mask: (B, T), 0 for padding; index 0 is the first token that is not padding.
        """
        if self.config.position_embedding == "none":
            return torch.zeros_like(input_ids)
        if self.config.position_embedding.startswith("block"):
            digit_ids = torch.tensor(self.config.digit_token_ids, device=input_ids.device)
            return block_position_ids(input_ids, digit_ids)
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return (attention_mask.long().cumsum(1) - 1).clamp(min=0)

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values=None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        labels: Tensor | None = None,
        key_position_ids: Tensor | None = None,
        **kwargs,
    ):
        """Run the transformer; see GPT2LMHeadModel.forward for what is not named here.

        Args:
            input_ids: (B, T) token IDs.
            position_ids: (B, T); derived from `input_ids` where not given.
            key_position_ids: (B, S) of the cached tokens and the new ones; needed with a cache and an attention window.
            labels: (B, T), IGNORE_INDEX where nothing is to be learned. With k tokens a step they are as
                `input_ids`, and index t is compared with the logits at t - k; with "all", index t is what is to be
                said at t.

        Returns:
            CausalLMOutputWithCrossAttentions; its logits (B, T, V) at index t are for token t + k.

        Raises:
            ValueError: cached tokens and no position IDs, or a position past the table.
            NotImplementedError: an attention window, and a static cache or a mask that is not (B, S).
        """
        has_past = past_key_values is not None and past_key_values.get_seq_length() > 0
        if position_ids is None:
            if has_past:
                raise ValueError("positions depend on the cached tokens too: pass position_ids, or use generate()")
            position_ids = self.position_ids(input_ids, attention_mask)
        if self.config.attention_window is not None:
            attention_mask = self._window_mask(position_ids, key_position_ids, attention_mask, past_key_values)
        position_ids = table_rows(position_ids, self.config.position_period)
        if not torch.compiler.is_compiling() and position_ids.max() >= self.config.n_positions:
            raise ValueError(
                f"position {int(position_ids.max())} is past the position table of n_positions = "
                f"{self.config.n_positions}: the numbers are longer than this model knows"
            )
        if attention_mask is None and not has_past:
            # Given no mask, transformers takes positions that restart for packed sequences and silently stops
            # the numbers from attending to one another.
            attention_mask = torch.ones_like(input_ids)
        if labels is not None and kwargs.get("shift_labels") is None:
            k = 0 if self.config.tokens_per_step == "all" else self.config.tokens_per_step
            kwargs["shift_labels"] = torch.nn.functional.pad(labels, (0, k), value=IGNORE_INDEX)[:, k:].contiguous()
        return super().forward(
            input_ids=input_ids,
            past_key_values=past_key_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            labels=labels,
            **kwargs,
        )

    def _window_mask(
        self, query_position_ids: Tensor, key_position_ids: Tensor | None, is_token: Tensor | None, cache
    ) -> Tensor:
        """Mask what is not in the window, what comes later, and padding: (B, 1, T, S), in the form attention takes.

        Padding sees itself: a row of the softmax must have something to add up to 1.
        """
        if key_position_ids is None:
            if cache is not None and cache.get_seq_length() > 0:
                raise ValueError("what is in the window depends on the cached tokens: pass key_position_ids")
            key_position_ids = query_position_ids
        num_new = query_position_ids.size(1)
        if key_position_ids.size(1) != (num_new if cache is None else cache.get_mask_sizes(num_new, 0)[0]):
            raise NotImplementedError("an attention window needs a cache that grows, not a static one")
        if is_token is not None and is_token.ndim != 2:
            raise NotImplementedError("an attention window needs a mask (B, S)")
        num_queries, num_keys = query_position_ids.size(1), key_position_ids.size(1)
        column = torch.arange(num_keys, device=key_position_ids.device)
        row = column[num_keys - num_queries :, None]
        sees = in_window(query_position_ids, key_position_ids, **self.config.attention_window) & (column <= row)
        if is_token is not None:
            sees = sees & is_token.bool()[:, None, :]
        sees = (sees | (column == row))[:, None]
        if self.config._attn_implementation != "eager":
            return sees
        return torch.zeros_like(sees, dtype=self.dtype).masked_fill(~sees, torch.finfo(self.dtype).min)

    # ---- generate() -------------------------------------------------------------------------------

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, next_sequence_length: int | None = None, attention_mask: Tensor | None = None, **kwargs
    ) -> dict:
        """Give the parent the positions of the whole row; with a cache it keeps those of the new tokens."""
        mask = attention_mask if attention_mask is not None and attention_mask.ndim == 2 else None
        kwargs["position_ids"] = self.position_ids(input_ids, mask)
        if self.config.attention_window is not None:
            kwargs["key_position_ids"] = kwargs["position_ids"]
        return super().prepare_inputs_for_generation(
            input_ids, next_sequence_length=next_sequence_length, attention_mask=attention_mask, **kwargs
        )

    def _sample(
        self,
        input_ids,
        logits_processor,
        stopping_criteria,
        generation_config,
        synced_gpus=False,
        streamer=None,
        **model_kwargs,
    ):
        """Greedy search and sampling, k tokens a step or the whole answer; generate() calls this for both."""
        k = self.config.tokens_per_step
        if generation_config.prefill_chunk_size is not None:
            raise NotImplementedError("prefill_chunk_size is not supported: a chunk does not know its positions")
        if k == 1:
            return super()._sample(
                input_ids,
                logits_processor,
                stopping_criteria,
                generation_config,
                synced_gpus=synced_gpus,
                streamer=streamer,
                **model_kwargs,
            )
        self._refuse_what_k_tokens_a_step_cannot_do(generation_config, synced_gpus)
        num_left = self.num_answer_tokens(input_ids) if k == "all" else None  # (B,) tokens still to say
        is_alive = torch.ones(input_ids.size(0), dtype=torch.bool, device=input_ids.device)  # (B,)
        has_eos = any(hasattr(criterion, "eos_token_id") for criterion in stopping_criteria)
        num_new = None  # the first pass reads the whole prompt, the next ones only what was said since
        while is_alive.any():
            inputs = self.prepare_inputs_for_generation(input_ids, next_sequence_length=num_new, **model_kwargs)
            num_last = int(num_left.max()) if k == "all" else k
            outputs = self(**inputs, logits_to_keep=num_last, return_dict=True)
            model_kwargs = self._update_model_kwargs_for_generation(outputs, model_kwargs, num_new_tokens=num_last)
            said = outputs.logits.float()  # (B, num_last, V)
            if k == "all":
                said = answer_logits(said, num_left)
            for logits in said.unbind(1):  # (B, V) each
                scores = logits_processor(input_ids, logits)
                if generation_config.do_sample:
                    token = scores.softmax(-1).multinomial(1)[:, 0]  # (B,)
                else:
                    token = scores.argmax(-1)
                if has_eos or k == "all":
                    token = torch.where(is_alive, token, generation_config._pad_token_tensor)
                input_ids = torch.cat([input_ids, token[:, None]], dim=1)
                if streamer is not None:
                    streamer.put(token.cpu())
                is_alive &= ~stopping_criteria(input_ids, None)
                if k == "all":
                    num_left = num_left - 1
                    is_alive &= num_left > 0
                if not is_alive.any():
                    break
            num_new = num_last if model_kwargs.get("use_cache") else None
        if streamer is not None:
            streamer.end()
        if generation_config.return_dict_in_generate:
            return GenerateDecoderOnlyOutput(sequences=input_ids, past_key_values=model_kwargs.get("past_key_values"))
        return input_ids

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
        is_prompt = is_delimiter[:, -1] & (is_delimiter.sum(1) == 3) & (y_length > 0) & (num_digits > y_length)
        if not is_prompt.all():
            raise ValueError(
                "tokens_per_step = 'all' answers whole prompts +x+y+, padded on the left, and nothing else"
            )
        if (num_digits > 2 * y_length).any():
            raise ValueError("tokens_per_step = 'all' needs the longer operand second; the tokenizer puts it there")
        return y_length + 1

    def _refuse_what_k_tokens_a_step_cannot_do(self, generation_config, synced_gpus: bool) -> None:
        asked = {
            "output_scores": generation_config.output_scores,
            "output_logits": generation_config.output_logits,
            "output_attentions": generation_config.output_attentions,
            "output_hidden_states": generation_config.output_hidden_states,
            "synced_gpus": synced_gpus,
        }
        refused = [name for name, value in asked.items() if value]
        if refused:
            raise NotImplementedError(f"not supported with more than one token a step: {', '.join(refused)}")

    def _beam_search(self, *args, **kwargs):
        self._refuse_unless_one_token_a_step("beam search")
        return super()._beam_search(*args, **kwargs)

    def _assisted_decoding(self, *args, **kwargs):
        self._refuse_unless_one_token_a_step("assisted decoding")
        return super()._assisted_decoding(*args, **kwargs)

    def generate_batch(self, *args, **kwargs):
        """Refuse: continuous batching numbers the positions by itself."""
        raise NotImplementedError("continuous batching is not supported; use generate() with a left-padded batch")

    def _refuse_unless_one_token_a_step(self, method: str) -> None:
        if self.config.tokens_per_step != 1:
            raise NotImplementedError(f"{method} needs tokens_per_step = 1; use greedy search or sampling")


SimpleLLMConfig.register_for_auto_class()
SimpleLLMForCausalLM.register_for_auto_class("AutoModelForCausalLM")
