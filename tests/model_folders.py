"""Model folders as save_model writes them, and as somebody who means harm would change them."""

import hashlib
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.errors import ArtefactError
from simple_llm.files.manifest import SELF, write_manifest
from simple_llm.files.names import MANIFEST
from simple_llm.model.folder import load_model
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.network import save_model
from simple_llm.model.tokenizer_files import save_tokenizer
from simple_llm.training.learner import build_model
from tests.tiny_models import make_tokenizer

FILES = {
    *("model.safetensors", "config.json", "generation_config.json", "modeling_simple_llm.py"),
    "pipeline_simple_llm.py",
    *("tokenizer.json", "tokenizer_config.json", "tokenization_simple_llm.py", "data_config.yaml", "train_config.yaml"),
}
TABLE = "transformer.wte.weight"
MOST_SECONDS = 5.0  # of processor time; a busy machine is slow, and what hangs would never end
MOST_MEGABYTES = 100


def write_model(folder: Path, data: DataConfig, train: TrainConfig) -> SimpleLLMForCausalLM:
    """Write an untrained model, and return it."""
    tokenizer = make_tokenizer(data, says_all=train.model.tokens_per_step == "all")
    torch.manual_seed(0)
    model = build_model(data, train, tokenizer)
    save_tokenizer(tokenizer, folder)
    save_model(folder, model, data, train, {"step": 7})
    return model


def vouch_again(folder: Path) -> None:
    """Write the manifest anew over changed files."""
    write_manifest(folder, sorted(name for name in FILES if (folder / name).exists()), {"step": 7})


def refusal(folder: Path, load: Callable[[Path], object] = load_model) -> str:
    """Have a folder refused, and see that it is in one line, in a moment and in little memory."""
    seconds, memory = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ArtefactError) as caught:
        load(folder)
    assert time.process_time() - seconds < MOST_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MOST_MEGABYTES * 1024
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message.isprintable()
    assert len(message) < 500
    return message


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_yaml(path: Path, section: str, **changes: object) -> None:
    tree = yaml.safe_load(path.read_text())
    tree[section].update(changes)
    path.write_text(yaml.safe_dump(tree))


def forge_manifest(folder: Path, change) -> None:
    """Change what the manifest says, and have it vouch for itself again."""
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest.pop(SELF)
    change(manifest)
    sha256 = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps({**manifest, SELF: sha256}))
