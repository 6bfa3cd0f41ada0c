"""A model is a folder that needs nothing else: written whole, verified when read, none of its code run.

model.safetensors  config.json  generation_config.json
tokenizer.json  tokenizer_config.json
modeling_simple_llm.py  tokenization_simple_llm.py     for AutoModel with trust_remote_code
pipeline_simple_llm.py  verify.py                      with work on paper; a proof that needs nothing else
data_config.yaml  train_config.yaml                    as used
manifest.json                                          written last: it makes the folder a model
README.md                                              the model card, after all of them
"""

import dataclasses
from pathlib import Path

import pydantic

from simple_llm.arithmetic.operation import Operation
from simple_llm.config.loading import load_configs
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.errors import ArtefactError, ConfigError
from simple_llm.files.names import (
    CHECKPOINTS,
    CONFIG,
    DATA_CONFIG,
    EXTRA_CODE,
    MANIFEST,
    MANIFEST_FILES,
    PIPELINE_CODE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TRAIN_CONFIG,
    WEIGHTS,
)
from simple_llm.files.sealed_folder import SealedFolder
from simple_llm.files.writing import write_ours
from simple_llm.model.architecture import Architecture, Readable, Weights
from simple_llm.model.engine import ACTIVATIONS
from simple_llm.model.notation_simple_llm import Notation
from simple_llm.model.self_test import refuse_other_library
from simple_llm.model.tokenizer_files import (
    differences_from,
    one_line,
    tokenizer_from,
    tokenizer_sha256,
    TokenTable,
    vocabulary_of,
)
from simple_llm.model.tokens import Vocabulary

CUSTOM_PIPELINES = {
    "text-generation": {"impl": f"{Path(PIPELINE_CODE).stem}.SimpleLLMPipeline", "pt": ["AutoModelForCausalLM"]}
}
KEPT_MODEL = Path(__file__).resolve().parents[2] / "models" / "calculator"  # proved, in a checkout
# Of config.json: what neither train_config.yaml nor the tokenizer says, and what is no setting at all.
_OTHER_SETTINGS = ("activation_function", "layer_norm_epsilon", "initializer_range", "self_test")
_WRITTEN_BY_LIBRARY = {"architectures", "auto_map", "dtype", "transformers_version", "_name_or_path"}
OF_GPT2 = {  # that no other model here has another value of; what GPT2Config says by default
    "model_type": "simple-llm",
    "add_cross_attention": False,
    "reorder_and_upcast_attn": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.1,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "tie_word_embeddings": True,
    "use_cache": True,
}


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A verified model folder in memory.

    Attributes:
        model: its weights, float32.
        sha256: of the weights file.
        manifest: what manifest.json says.
    """

    model: Readable
    tokenizer: Notation
    data: DataConfig
    train: TrainConfig
    sha256: str
    manifest: dict

    @property
    def operations(self) -> list[Operation]:
        """What the model was trained on."""
        return self.data.operations.known

    @property
    def vocabulary(self) -> Vocabulary:
        """How the model reads and writes problems."""
        return vocabulary_of(self.tokenizer, self.train.model.tokens_per_step)

    @property
    def hashes(self) -> dict[str, str]:
        """What a proof is about: the weights, how they are used, and what tokens mean."""
        return {
            "model_sha256": self.sha256,
            "config_sha256": self.manifest["files"][CONFIG]["sha256"],
            "tokenizer_sha256": tokenizer_sha256(self.tokenizer),
        }


def holds_model(folder: Path) -> bool:
    """Whether a finished model or an unfinished run lies in the folder."""
    return (folder / MANIFEST).exists() or any((folder / CHECKPOINTS).glob("step-*"))


def load_model(folder: Path) -> LoadedModel:
    """Verify a model folder and load it, with this package's code and never the folder's own.

    A stranger may have made it. So its files are looked at before they are opened, what it says of sizes is compared
    before anything is allocated, and no file is read but those that `MANIFEST_FILES` names.

    Raises:
        ArtefactError: no model there, or one that is not as its manifest says.
    """
    if not folder.is_dir():
        raise ArtefactError(f"{folder} not found; {_ways_to_one()}")
    if not (folder / MANIFEST).exists():
        raise ArtefactError(f"{folder} holds no finished model; {_ways_to_one()}")
    sealed = SealedFolder(folder, MANIFEST_FILES)
    extra = [name for name in EXTRA_CODE if name in sealed.manifest["files"]]
    sealed.verify(name for name in (*MANIFEST_FILES, *extra) if name != WEIGHTS)  # those are as they are read, below
    data, train = _read_configs(sealed)
    tokenizer = _read_tokenizer(sealed, data, train)
    config = _read_config(sealed, train, tokenizer)
    model = Weights(config, sealed.weights(config.shapes()))
    loaded = LoadedModel(model, tokenizer, data, train, sealed.sha256(WEIGHTS), sealed.manifest)
    refuse_other_library(model, data, train, loaded.vocabulary)
    return loaded


def _ways_to_one() -> str:
    """How to get a model, for whoever has none here."""
    from_here = Path(*KEPT_MODEL.parts[-2:])
    kept = from_here if from_here.is_dir() else KEPT_MODEL
    named = f": {kept} is a calculator that is proved already" if kept.is_dir() else ""
    return f"run `python3 trainer.py` first, or name a model with --model{named}"


def _read_configs(sealed: SealedFolder) -> tuple[DataConfig, TrainConfig]:
    """Read data_config.yaml and train_config.yaml as a run left them."""
    try:
        return load_configs(sealed.path(DATA_CONFIG), sealed.path(TRAIN_CONFIG), [], are_recorded=True)
    except ConfigError as error:
        raise ArtefactError(f"{sealed.folder}: {one_line(error)}") from error


def _read_tokenizer(sealed: SealedFolder, data: DataConfig, train: TrainConfig) -> TokenTable:
    """Read the tokenizer, which has to write problems as the configs say.

    Raises:
        ArtefactError: naming what differs.
    """
    tokenizer = tokenizer_from(sealed.json(TOKENIZER), sealed.json(TOKENIZER_CONFIG), sealed.folder)
    for name, there, here in differences_from(tokenizer, data, train):
        raise ArtefactError(
            f"the tokenizer in {sealed.folder} has {name} = {there!r} where the folder's configs say {here!r}"
        )
    return tokenizer


def _read_config(sealed: SealedFolder, train: TrainConfig, tokenizer: TokenTable) -> Architecture:
    """Read config.json, which has to say what train_config.yaml and the tokenizer imply; what it leaves out has its
    default, to whoever reads it.

    Raises:
        ArtefactError: naming the first key that differs.
    """
    said = sealed.json(CONFIG)
    others = {name: said[name] for name in _OTHER_SETTINGS if name in said}
    if others.get("activation_function") not in (activations := tuple(ACTIVATIONS)):
        raise ArtefactError(f"{sealed.folder / CONFIG} has an activation_function that is none of {activations}")
    try:
        implied = Architecture.of(train, tokenizer, **others)
    except pydantic.ValidationError as error:
        raise ArtefactError(f"{sealed.folder / CONFIG}: {_first_of(error)}") from error
    if "custom_pipelines" in said and PIPELINE_CODE not in sealed.manifest["files"]:
        raise ArtefactError(f"{sealed.folder / CONFIG} names {PIPELINE_CODE}, and the manifest has no such file")
    means = Architecture().settings() | OF_GPT2 | {"custom_pipelines": CUSTOM_PIPELINES} | said
    expected = implied.settings() | OF_GPT2 | {"custom_pipelines": CUSTOM_PIPELINES}
    if unknown := said.keys() - expected.keys() - _WRITTEN_BY_LIBRARY:
        expected |= _defaults_of_library(unknown)
    for name, value in expected.items():
        if means[name] != value:
            raise ArtefactError(
                f"{sealed.folder / CONFIG} has {name} = {means[name]!r:.40} where the folder's other files "
                f"say {value!r:.40}"
            )
    return implied


def _first_of(error: pydantic.ValidationError) -> str:
    """The first setting that is wrong, and why; of what is in it only what our own checks quote."""
    first = error.errors()[0]
    return ": ".join([*first["loc"][:1], first["msg"].removeprefix("Value error, ")])


def _defaults_of_library(names: set[str]) -> dict[str, object]:
    """Settings that a config of the library here has too, with what it says where nobody says anything."""
    from simple_llm.model.modeling_simple_llm import SimpleLLMConfig

    defaults = SimpleLLMConfig().to_dict()
    return {name: defaults[name] for name in names & defaults.keys()}


def write_report(folder: Path, name: str, content: bytes) -> Path:
    """Write a report beside a model, whole or not at all."""
    write_ours(folder / name, content)
    return folder / name
