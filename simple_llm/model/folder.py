"""A model is a folder that needs nothing else: written whole, verified when read, none of its code run.

model.safetensors  config.json  generation_config.json
tokenizer.json  tokenizer_config.json
modeling_simple_llm.py  tokenization_simple_llm.py     for AutoModel with trust_remote_code
pipeline_simple_llm.py  verify.py                      with work on paper; a proof that needs nothing else
data_config.yaml  train_config.yaml                    as used
manifest.json                                          written last: it makes the folder a model
README.md                                              the model card, after all of them
"""

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError

from simple_llm.arithmetic.operation import Operation
from simple_llm.config.loading import load_configs
from simple_llm.config.settings import DataConfig, to_yaml, TrainConfig
from simple_llm.data.problems import concatenate, from_integers
from simple_llm.errors import ArtefactError, ConfigError, EnvironmentFault
from simple_llm.files.manifest import write_manifest
from simple_llm.files.names import (
    CHECKPOINTS,
    CONFIG,
    CONFIG_FILES,
    DATA_CONFIG,
    EXTRA_CODE,
    MANIFEST,
    MANIFEST_FILES,
    MODEL_CODE,
    MODEL_FILES,
    PIPELINE_CODE,
    TOKENIZER,
    TOKENIZER_CONFIG,
    TRAIN_CONFIG,
    VERIFY,
    WEIGHTS,
)
from simple_llm.files.ours import ANYTHING, claim
from simple_llm.files.sealed_folder import SealedFolder, verified_manifest
from simple_llm.files.weights import Shapes, tensor_bytes
from simple_llm.files.writing import move_in, room_for, staged, write_ours
from simple_llm.model import modeling_simple_llm
from simple_llm.model.decoding import Decoder
from simple_llm.model.modeling_simple_llm import (
    LOGITS_MOVE,
    SimpleLLMConfig,
    SimpleLLMForCausalLM,
    untested_message,
    untested_versions,
    up_to_the_end,
    write_self_test,
)
from simple_llm.model.tokenization_simple_llm import SimpleLLMTokenizer
from simple_llm.model.tokenizer_files import (
    differences_from,
    load_tokenizer,
    one_line,
    tokenizer_from,
    tokenizer_sha256,
    vocabulary_of,
)
from simple_llm.model.tokens import answer_tokens, prompt_tokens, Vocabulary

transformers.utils.logging.disable_progress_bar()  # a bar for a file of a few megabytes is noise

KEPT_MODEL = Path(__file__).resolve().parents[2] / "models" / "calculator"  # proved, in a checkout
BESIDE_WEIGHTS = 2**20  # bytes, more than the other files take
MOST_NEW_TOKENS = 10_000  # that generate() says, of a model of every length
# Of config.json: what neither train_config.yaml nor the tokenizer says, and what is no setting at all.
_OTHER_SETTINGS = ("activation_function", "layer_norm_epsilon", "initializer_range", "self_test")
CUSTOM_PIPELINES = {
    "text-generation": {"impl": f"{Path(PIPELINE_CODE).stem}.SimpleLLMPipeline", "pt": ["AutoModelForCausalLM"]}
}
_LONG = 20  # digits of the longest question to a model that knows every length
_ACTIVATIONS = ("gelu", "gelu_new")  # ours, and GPT-2's own
_WRITTEN_BY_LIBRARY = ("architectures", "auto_map", "dtype", "transformers_version", "_name_or_path")


@dataclass(frozen=True)
class LoadedModel:
    """A verified model folder in memory.

    Attributes:
        model: in evaluation mode, float32.
        sha256: of the weights file.
        manifest: what manifest.json says.
    """

    model: SimpleLLMForCausalLM
    tokenizer: SimpleLLMTokenizer
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


def model_config(train: TrainConfig, tokenizer: SimpleLLMTokenizer, **others: object) -> SimpleLLMConfig:
    """What config.json says of a model: all of it follows from train_config.yaml, the tokenizer and `others`."""
    model = train.model
    return SimpleLLMConfig(
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
        custom_pipelines=CUSTOM_PIPELINES,
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


def greedy(model: SimpleLLMForCausalLM, data: DataConfig) -> SimpleLLMForCausalLM:
    """Have generate() say the most likely tokens until a delimiter, as many as the longest answer has."""
    model.generation_config.do_sample = False
    knows_every_length = model.config.position_period is not None or model.config.scratchpad == "columns"
    model.generation_config.max_new_tokens = MOST_NEW_TOKENS if knows_every_length else data.answer_tokens
    return model


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
        shutil.copyfile(modeling_simple_llm.__file__, stage / MODEL_CODE)
        for name in extra:
            shutil.copyfile(Path(modeling_simple_llm.__file__).with_name(name), stage / name)
        (stage / DATA_CONFIG).write_text(to_yaml(data), "utf-8")
        (stage / TRAIN_CONFIG).write_text(to_yaml(train), "utf-8")
        move_in(stage, folder, (*MODEL_FILES, *extra, *CONFIG_FILES))
    write_manifest(folder, [*MANIFEST_FILES, *extra], facts)
    verified_manifest(folder)


def extra_code(train: TrainConfig) -> tuple[str, ...]:
    """Files of code that travel with a model besides: what pipeline() takes, and what proves every length."""
    is_listed = train.model.knows_every_length and train.model.n_layer == 1
    return (PIPELINE_CODE, VERIFY) if is_listed else (PIPELINE_CODE,)


def make_self_test(
    model: SimpleLLMForCausalLM, data: DataConfig, train: TrainConfig, vocabulary: Vocabulary
) -> dict[str, list[str]]:
    """Questions, and what the model says to them, which it asks itself where a library is not the one it knows.

    Long sums with carries and short ones, so that a batch of them is padded; longer ones than in training where the
    model knows every length. They are answered by this package's own pass over the weights, which shares no more with
    the library's than their names; under a release that was tested, save_pretrained then asks the library's.

    Returns:
        what SimpleLLMConfig.self_test says.
    """
    numbers, width = data.numbers, data.operand_digits
    if train.model.knows_every_length:
        width = max(width, 2 * _LONG)
    problems = concatenate(
        [from_integers(_asked_of(one, data, train), numbers.base, width, one) for one in data.operations.known]
    )
    prompts = prompt_tokens(problems, vocabulary)  # (N, T)
    most = answer_tokens(problems, vocabulary).size(1)
    answers = Decoder.in_float32(model).decode(prompts, most, keep_logits=True)
    end, pad = vocabulary.end_id, vocabulary.pad_id
    rows = [[token for token in prompt if token != pad] for prompt in prompts.tolist()]
    said = [up_to_the_end(answer, end, pad) for answer in answers.tokens.tolist()]
    return write_self_test(rows, said, answers.logits[:, 0])


def _asked_of(operation: Operation, data: DataConfig, train: TrainConfig) -> list[tuple[int, ...]]:
    """Problems of one operation that a model asks itself."""
    numbers = data.numbers
    (first_min, first_max), (second_min, second_max) = numbers.bounds(operation)
    shares = [(64, 60), (1, 13), (90, 90), (0, 0), (90, 1), (45, 44), (31, 59), (3, 88)]  # of the range, in 90ths
    asked = [
        (first_min + (first_max - first_min) * one // 90, second_min + (second_max - second_min) * other // 90)
        for one, other in shares
    ]
    if train.model.knows_every_length and operation.step:  # the work of other long ones is longer by far
        asked += [(numbers.base**_LONG // 3, 2 * numbers.base**_LONG // 3 + 1), (numbers.base**_LONG // 7, 1)]
    return asked


def refuse_other_library(loaded: LoadedModel) -> None:
    """Under a library that was not tested, see that the model still says what it said when it was saved.

    Raises:
        EnvironmentFault: it does not; both versions are named.
    """
    asked = loaded.model.config.self_test
    if asked is None or not untested_versions():
        return
    try:
        said = make_self_test(loaded.model, loaded.data, loaded.train, loaded.vocabulary)
        is_same = all(said[name] == asked[name] for name in ("prompts", "answers"))
        moved = max(
            abs(float(one) - float(other))
            for texts in zip(said["logits"], asked["logits"], strict=True)
            for one, other in zip(*map(str.split, texts), strict=True)
        )
    except Exception as error:  # whatever the library does now, the way out is the same
        raise EnvironmentFault(untested_message(f"it fails ({one_line(error)})")) from error
    if not (is_same and moved < LOGITS_MOVE):
        raise EnvironmentFault(untested_message("it gives other answers than when it was saved"))


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
    weights = sealed.weights(_expected_shapes(config))
    model = SimpleLLMForCausalLM.from_pretrained(None, config=config, state_dict=weights, dtype="float32").eval()
    loaded = LoadedModel(greedy(model, data), tokenizer, data, train, sealed.sha256(WEIGHTS), sealed.manifest)
    refuse_other_library(loaded)
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


def _read_tokenizer(sealed: SealedFolder, data: DataConfig, train: TrainConfig) -> SimpleLLMTokenizer:
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


def _read_config(sealed: SealedFolder, train: TrainConfig, tokenizer: SimpleLLMTokenizer) -> SimpleLLMConfig:
    """Read config.json, which has to say what train_config.yaml and the tokenizer imply; what it leaves out has its
    default, to whoever reads it.

    Raises:
        ArtefactError: naming the first key that differs.
    """
    said = sealed.json(CONFIG)
    others = {name: said[name] for name in _OTHER_SETTINGS if name in said}
    if others.get("activation_function") not in _ACTIVATIONS:
        raise ArtefactError(f"{sealed.folder / CONFIG} has an activation_function that is none of {_ACTIVATIONS}")
    try:
        implied = model_config(train, tokenizer, **others)
    except (ValueError, TypeError, StrictDataclassError) as error:
        raise ArtefactError(f"{sealed.folder / CONFIG}: {one_line(error)}") from error
    means = SimpleLLMConfig().to_dict() | said
    if "custom_pipelines" not in said:
        del implied.custom_pipelines  # older ones have none
    elif PIPELINE_CODE not in sealed.manifest["files"]:
        raise ArtefactError(f"{sealed.folder / CONFIG} names {PIPELINE_CODE}, and the manifest has no such file")
    for name, value in implied.to_dict().items():
        if name not in _WRITTEN_BY_LIBRARY and means.get(name) != value:
            raise ArtefactError(
                f"{sealed.folder / CONFIG} has {name} = {means.get(name)!r:.40} where the folder's other files "
                f"say {value!r:.40}"
            )
    return implied


def _expected_shapes(config: SimpleLLMConfig) -> Shapes:
    """Shapes of a model's tensors, the head left out, which is the token table; nothing is allocated.

    All blocks are like the first: to make a thousand of them takes seconds.
    """
    of_one_block = copy.copy(config)
    of_one_block.n_layer = 1
    with torch.device("meta"):
        tensors = SimpleLLMForCausalLM(of_one_block).state_dict()
    first = "transformer.h.0."
    return {
        name.replace(first, f"transformer.h.{block}."): tuple(tensor.shape)
        for name, tensor in tensors.items()
        if name != "lm_head.weight"
        for block in range(config.n_layer if name.startswith(first) else 1)
    }


def write_report(folder: Path, name: str, content: bytes) -> Path:
    """Write a report beside a model, whole or not at all."""
    write_ours(folder / name, content)
    return folder / name
