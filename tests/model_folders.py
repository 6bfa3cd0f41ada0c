"""Model folders as save_model writes them, and as somebody who means harm would change them."""

from pathlib import Path

import torch

from simple_llm.config import DataConfig, TrainConfig
from simple_llm.manifest import write_manifest
from simple_llm.model_folder import build_model, save_model, save_tokenizer
from simple_llm.modeling_simple_llm import SimpleLLMForCausalLM
from tests.tiny_models import make_tokenizer

FILES = {
    *("model.safetensors", "config.json", "generation_config.json", "modeling_simple_llm.py"),
    *("tokenizer.json", "tokenizer_config.json", "tokenization_simple_llm.py", "data_config.yaml", "train_config.yaml"),
}


def write_model(folder: Path, data: DataConfig, train: TrainConfig) -> SimpleLLMForCausalLM:
    """Write an untrained model, and return it."""
    tokenizer = make_tokenizer(data, says_all=train.model.tokens_per_step == "all")
    torch.manual_seed(0)
    model = build_model(data, train, tokenizer)
    save_tokenizer(tokenizer, folder)
    save_model(folder, model, data, train, "a card", {"step": 7})
    return model


def vouch_again(folder: Path) -> None:
    """Write the manifest anew over changed files."""
    write_manifest(folder, sorted(FILES), {"step": 7})
