"""A model as transformers has it: made from the configs, loaded from a folder, and saved as one."""

import dataclasses
from pathlib import Path

import transformers

from simple_llm.config.settings import DataConfig, to_yaml, TrainConfig
from simple_llm.files.manifest import write_manifest
from simple_llm.files.names import (
    CONFIG_FILES,
    DATA_CONFIG,
    MANIFEST,
    MANIFEST_FILES,
    MODEL_CODE,
    MODEL_FILES,
    PIPELINE_CODE,
    TRAIN_CONFIG,
    VERIFY,
)
from simple_llm.files.ours import ANYTHING, claim
from simple_llm.files.sealed_folder import verified_manifest
from simple_llm.files.weights import tensor_bytes
from simple_llm.files.writing import move_in, room_for, staged
from simple_llm.model.architecture import Architecture
from simple_llm.model.folder import CUSTOM_PIPELINES, load_model, LoadedModel
from simple_llm.model.modeling_simple_llm import SimpleLLMConfig, SimpleLLMForCausalLM
from simple_llm.model.notation_simple_llm import Notation
from simple_llm.model.self_test import make_self_test
from simple_llm.model.tokenizer_files import load_tokenizer, vocabulary_of
from simple_llm.model.travelling import travelling_code

transformers.utils.logging.disable_progress_bar()  # a bar for a file of a few megabytes is noise

BESIDE_WEIGHTS = 2**20  # bytes, more than the other files take
MOST_NEW_TOKENS = 10_000  # that generate() says, of a model of every length


@dataclasses.dataclass(frozen=True)
class LoadedNetwork(LoadedModel):
    """A verified model folder in memory, its weights in a model of transformers, in evaluation mode."""

    model: SimpleLLMForCausalLM


def model_config(train: TrainConfig, tokenizer: Notation, **others: object) -> SimpleLLMConfig:
    """What config.json says of a model: all of it follows from train_config.yaml, the tokenizer and `others`."""
    implied = Architecture.of(train, tokenizer, **others)
    return SimpleLLMConfig(**implied.settings(), custom_pipelines=CUSTOM_PIPELINES)


def greedy(model: SimpleLLMForCausalLM, data: DataConfig) -> SimpleLLMForCausalLM:
    """Have generate() say the most likely tokens until a delimiter, as many as the longest answer has."""
    model.generation_config.do_sample = False
    knows_every_length = model.config.position_period is not None or model.config.scratchpad == "columns"
    model.generation_config.max_new_tokens = MOST_NEW_TOKENS if knows_every_length else data.answer_tokens
    return model


def load_network(folder: Path) -> LoadedNetwork:
    """Load a model folder as `load_model` does, as a model of transformers: to train, to generate(), to look into."""
    loaded = load_model(folder)
    pipelines = {"custom_pipelines": CUSTOM_PIPELINES} if PIPELINE_CODE in loaded.manifest["files"] else {}
    config = SimpleLLMConfig(**loaded.model.config.settings(), **pipelines)
    weights = loaded.model.state_dict()
    model = SimpleLLMForCausalLM.from_pretrained(None, config=config, state_dict=weights, dtype="float32").eval()
    return LoadedNetwork(**vars(loaded) | {"model": greedy(model, loaded.data)})


def save_model(
    folder: Path,
    model: SimpleLLMForCausalLM,
    data: DataConfig,
    train: TrainConfig,
    facts: dict[str, object],
) -> None:
    """Write the finished model beside its tokenizer; the manifest comes last, and the card after it, by `write_card`.

    Args:
        facts: what the manifest holds beside files and versions.

    Raises:
        DiskFullError: there is no room for it.
        ArtefactError: what is on the disk is not what was written, or no tokenizer is there.
    """
    extra = extra_code(train)
    claim(folder, dict.fromkeys((MANIFEST, *MODEL_FILES, *extra, *CONFIG_FILES), ANYTHING))
    (folder / MANIFEST).unlink(missing_ok=True)
    vocabulary = vocabulary_of(load_tokenizer(folder), train.model.tokens_per_step)
    model.config.self_test = make_self_test(model, data, train, vocabulary)
    with room_for(tensor_bytes(model.parameters()) + BESIDE_WEIGHTS, folder), staged(folder) as stage:
        model.save_pretrained(stage)
        for name in (MODEL_CODE, *extra):
            (stage / name).write_text(travelling_code(name), "utf-8")
        (stage / DATA_CONFIG).write_text(to_yaml(data), "utf-8")
        (stage / TRAIN_CONFIG).write_text(to_yaml(train), "utf-8")
        move_in(stage, folder, (*MODEL_FILES, *extra, *CONFIG_FILES))
    write_manifest(folder, [*MANIFEST_FILES, *extra], facts)
    verified_manifest(folder)


def extra_code(train: TrainConfig) -> tuple[str, ...]:
    """Files of code that travel with a model besides: what pipeline() takes, and what proves every length."""
    is_listed = train.model.knows_every_length and train.model.n_layer == 1
    return (PIPELINE_CODE, VERIFY) if is_listed else (PIPELINE_CODE,)
