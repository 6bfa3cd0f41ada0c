"""What a model is without a library: what config.json says that decides its answers, and its weights by name.

Whatever has a `config` with the attributes of Architecture, a `device` and a `state_dict()` can be read by an engine:
Weights here, and SimpleLLMForCausalLM, which can be trained besides.
"""

import dataclasses
from typing import Protocol

import pydantic
import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor

from simple_llm.config.settings import TrainConfig
from simple_llm.files.weights import Shapes
from simple_llm.model.notation_simple_llm import Notation
from simple_llm.model.places_simple_llm import Places, refuse_wrong_settings


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(strict=True))
class Architecture:
    """GPT-2's sizes and what arithmetic needs besides; names, meaning and defaults are those of SimpleLLMConfig.

    Raises:
        ValueError: a setting is of another type, out of range, or does not go with another.
    """

    vocab_size: PositiveInt = 50257
    n_positions: PositiveInt = 1024
    n_embd: PositiveInt = 768
    n_layer: PositiveInt = 12
    n_head: PositiveInt = 12
    n_inner: PositiveInt | None = None
    activation_function: str = "gelu"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: NonNegativeFloat = 1e-5
    initializer_range: NonNegativeFloat = 0.02
    bos_token_id: NonNegativeInt | None = 50256
    eos_token_id: NonNegativeInt | None = 50256
    pad_token_id: NonNegativeInt | None = None
    digit_token_ids: list[int] | None = None
    sign_token_ids: dict[str, int] | None = None
    carry_token_ids: list[int] | None = None
    tokens_per_step: int | str = 1
    position_embedding: str = "block"
    max_position_offset: NonNegativeInt = 0
    attention_window: dict[str, int] | None = None
    position_period: PositiveInt | None = None
    scratchpad: str = "none"
    self_test: dict[str, list[str]] | None = None

    def __post_init__(self) -> None:
        refuse_wrong_settings(self)

    @classmethod
    def of(cls, train: TrainConfig, tokenizer: Notation, **others: object) -> "Architecture":
        """What train_config.yaml and a tokenizer imply, and `others`, of which neither says anything."""
        model = train.model
        return cls(
            vocab_size=len(tokenizer),
            n_layer=model.n_layer,
            n_head=model.n_head,
            n_embd=model.n_embd,
            n_inner=model.n_inner,
            n_positions=model.n_positions,
            resid_pdrop=model.dropout,
            embd_pdrop=model.dropout,
            attn_pdrop=model.dropout,
            digit_token_ids=tokenizer.digit_ids,
            sign_token_ids=tokenizer.sign_ids,
            carry_token_ids=tokenizer.carry_ids,
            scratchpad=model.scratchpad,
            tokens_per_step=model.tokens_per_step,
            position_embedding=model.position_embedding,
            max_position_offset=model.max_position_offset,
            attention_window=model.attention_window and model.attention_window.model_dump(),
            position_period=model.position_period,
            bos_token_id=None,
            eos_token_id=tokenizer.end_id,
            pad_token_id=tokenizer.pad_token_id,
            **others,
        )

    def settings(self) -> dict[str, object]:
        """The same by name, as SimpleLLMConfig takes it and config.json has it."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @property
    def trains_positions(self) -> bool:
        """Whether the position table is learned; others are computed, and kept beside the weights."""
        return self.position_embedding in ("block", "learned")

    def shapes(self) -> Shapes:
        """Shapes of the tensors by the names that GPT-2's have in transformers; the head is the token table."""
        width, inner = self.n_embd, self.n_inner or 4 * self.n_embd
        norm = {"weight": (width,), "bias": (width,)}
        block = {
            "ln_1": norm,
            "attn.c_attn": {"weight": (width, 3 * width), "bias": (3 * width,)},
            "attn.c_proj": {"weight": (width, width), "bias": (width,)},
            "ln_2": norm,
            "mlp.c_fc": {"weight": (width, inner), "bias": (inner,)},
            "mlp.c_proj": {"weight": (inner, width), "bias": (width,)},
        }
        layers = {"wte": {"weight": (self.vocab_size, width)}, "wpe": {"weight": (self.n_positions, width)}}
        layers |= {f"h.{number}.{name}": shapes for number in range(self.n_layer) for name, shapes in block.items()}
        return {
            f"transformer.{layer}.{name}": shape
            for layer, shapes in (layers | {"ln_f": norm}).items()
            for name, shape in shapes.items()
        }


class Readable(Protocol):
    """What an engine reads: Weights, or SimpleLLMForCausalLM."""

    config: Architecture
    device: torch.device

    def state_dict(self) -> dict[str, Tensor]: ...


class Weights(Places):
    """A model that answers and does nothing else: its tensors, and what they are the weights of.

    Args:
        tensors: by the names, and of the shapes, that `config.shapes()` has.
    """

    def __init__(self, config: Architecture, tensors: dict[str, Tensor]) -> None:
        self.config = config
        self._tensors = tensors

    @property
    def device(self) -> torch.device:
        return next(iter(self._tensors.values())).device

    def to(self, device: torch.device | str) -> "Weights":
        """Move the tensors, here as well, as a module does."""
        self._tensors = {name: tensor.to(device) for name, tensor in self._tensors.items()}
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return self._tensors

    def num_parameters(self) -> int:
        """Count what was learned."""
        learned = [name for name in self._tensors if self.config.trains_positions or ".wpe." not in name]
        return sum(self._tensors[name].numel() for name in learned)
