"""Train the tokenizer: one token for each digit of the base, `+` and other operators, padding and unknown.

With a scratchpad of columns there are carries too, | and =, and all operators: long division writes a `+`.

    python3 tokenizer.py [--fresh] [section.key=value ...]

    python3 tokenizer.py
    python3 tokenizer.py numbers.base=10 storage.path=/tmp/base10.txt paths.model=/tmp/base10

Reads   data_config.yaml, train_config.yaml, and the sequences file that data_generator.py wrote
Writes  tokenizer.json, tokenizer_config.json, tokenization_simple_llm.py    into the model folder

The folder loads with `AutoTokenizer.from_pretrained(folder, trust_remote_code=True)` and speaks decimal:
"1342+879=" becomes the tokens of +E35+F63+ in base 16. Token IDs depend on the base and the operations alone, so a
valid tokenizer is used again.
"""

import json

from simple_llm import command_line

if __name__ == "__main__":
    options = command_line.pipeline_options(
        __doc__,
        lambda parser: parser.add_argument(
            "--fresh", action="store_true", help="replace the tokenizer even where a model was trained with it"
        ),
    )

from collections.abc import Iterator
from pathlib import Path

import tokenizers

from simple_llm.arithmetic.digits import DIGIT_ALPHABET
from simple_llm.arithmetic.symbols import RAISED, SIGNS
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.data.dataset import read_manifest
from simple_llm.errors import ArtefactError
from simple_llm.files.names import FOLDER_FILES, MANIFEST, TOKENIZER_FILES
from simple_llm.files.ours import require_ours
from simple_llm.files.reading import naming
from simple_llm.files.writing import exclusive
from simple_llm.model.folder import holds_model
from simple_llm.model.notation_simple_llm import DELIMITER
from simple_llm.model.tokenization_simple_llm import SimpleLLMTokenizer
from simple_llm.model.tokenizer_files import load_tokenizer, save_tokenizer, tokenizer_sha256
from simple_llm.stopping import progress_bar

PATIENCE = 10.0  # seconds for another tokenizer.py in the folder; a training takes longer


def main(options: command_line.PipelineOptions) -> None:
    config, folder = options.data, options.train.paths.model
    manifest = read_manifest(config)
    tokenizer = train_tokenizer(rows(config, manifest.rows), config, options.train)
    if is_current(folder, tokenizer) or not replace_tokenizer(tokenizer, folder, options.arguments.fresh):
        print(f"the tokenizer in {folder} is up to date: {len(tokenizer)} tokens")
    else:
        print(f"wrote a tokenizer of {len(tokenizer)} tokens to {folder}")
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    print("  " + " ".join(f"{token}={token_id}" for token, token_id in vocabulary))
    if options.arguments.json:
        print(json.dumps({"path": str(folder), "vocabulary": dict(vocabulary), "files": list(TOKENIZER_FILES)}))


def replace_tokenizer(tokenizer: SimpleLLMTokenizer, folder: Path, is_fresh: bool) -> bool:
    """Write the tokenizer's files; return whether that had to be done, or another process just did.

    Raises:
        ArtefactError: a model there was trained with another one.
        EnvironmentFault: a process works in the folder, such as a training.
    """
    require_ours(folder, [name for name in FOLDER_FILES if name != MANIFEST])  # trainer.py will write the others
    with exclusive(folder, PATIENCE):
        if is_current(folder, tokenizer):
            return False
        if holds_model(folder) and not is_fresh:
            raise ArtefactError(
                f"{folder} holds a model that was trained with another tokenizer; name another folder with "
                "paths.model=..., or give --fresh to this script and then to trainer.py to start it over"
            )
        save_tokenizer(tokenizer, folder)
    return True


def rows(config: DataConfig, num_rows: int) -> Iterator[str]:
    """Go through the sequences file, each row as a model without a scratchpad will see it: +E35+F63+DA8+."""
    storage, symbols = config.storage, [one.symbol for one in config.operations.known]
    with (
        naming(storage.path),
        storage.path.open(encoding="ascii", newline="") as file,
        progress_bar(total=num_rows, unit="row", unit_scale=True, desc="reading") as bar,
    ):
        rest = ""
        while block := file.read(2**20):
            *whole, rest = (rest + block).split(storage.row_delimiter)
            bar.update(len(whole))
            for row in whole:
                for symbol in symbols:  # an operator takes the place of the delimiter
                    row = row.replace(storage.column_delimiter + symbol, symbol)
                yield DELIMITER + row.replace(storage.column_delimiter, DELIMITER) + DELIMITER


def train_tokenizer(rows: Iterator[str], config: DataConfig, train: TrainConfig) -> SimpleLLMTokenizer:
    """Train a character tokenizer whose IDs depend on the base and the operations alone.

    Every digit of the base has an ID whether the rows show it or not; BPE sorts its alphabet, and with no room
    for merges that alphabet is all it learns.

    Raises:
        ArtefactError: the rows hold a character that is no digit of the base.
    """
    special = train.tokenizer
    operators = [one.symbol for one in config.operations.known]
    signs = SIGNS if train.model.has_columns else sorted({DELIMITER, *operators})
    carries = RAISED[: config.numbers.base] if train.model.has_columns else ""
    alphabet = "".join(signs) + DIGIT_ALPHABET[: config.numbers.base] + carries
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token=special.unk_token))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), behavior="isolated")
    backend.decoder = tokenizers.decoders.Fuse()
    trainer = tokenizers.trainers.BpeTrainer(
        special_tokens=[special.pad_token, special.unk_token],
        initial_alphabet=list(alphabet),
        vocab_size=len(alphabet) + 2,
        show_progress=False,
    )
    backend.train_from_iterator(rows, trainer)
    strange = set(backend.get_vocab()) - set(alphabet) - {special.pad_token, special.unk_token}
    if strange:
        raise ArtefactError(
            f"{config.storage.path} holds {sorted(strange)}, which are no digits of base {config.numbers.base}; "
            "run `python3 data_generator.py --force`"
        )
    return SimpleLLMTokenizer(
        tokenizer_object=backend,
        pad_token=special.pad_token,
        unk_token=special.unk_token,
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
        base=config.numbers.base,
        reversed=config.numbers.reversed,
        says_all=train.model.tokens_per_step == "all",
        **({"scratchpad": train.model.scratchpad} if train.model.has_columns else {}),
        **({"operators": "".join(operators)} if {*signs} != {*operators} else {}),  # else the tokens tell
    )


def is_current(folder: Path, tokenizer: SimpleLLMTokenizer) -> bool:
    """Whether the folder holds this very tokenizer."""
    try:
        return tokenizer_sha256(load_tokenizer(folder)) == tokenizer_sha256(tokenizer)
    except ArtefactError:
        return False


if __name__ == "__main__":
    command_line.run(main, options, debug=options.arguments.debug)
