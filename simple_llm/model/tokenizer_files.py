"""A tokenizer's files in a model folder: written whole, loaded if they are ours, and what they decide."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import tokenizers

from simple_llm.arithmetic import OPERATIONS
from simple_llm.arithmetic.digits import NEGATIVE
from simple_llm.arithmetic.symbols import SIGNS
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.errors import ArtefactError
from simple_llm.files.names import TOKENIZER, TOKENIZER_CODE, TOKENIZER_CONFIG, TOKENIZER_FILES
from simple_llm.files.reading import read_json
from simple_llm.files.writing import move_in, staged
from simple_llm.model.notation_simple_llm import DELIMITER, DIGITS, Notation, OPERATORS
from simple_llm.model.places_simple_llm import SCRATCHPADS
from simple_llm.model.tokens import Vocabulary
from simple_llm.model.travelling import travelling_code

if TYPE_CHECKING:
    from simple_llm.model.tokenization_simple_llm import SimpleLLMTokenizer


class TokenTable(Notation):
    """A tokenizer's tokens and their IDs, and how problems are written with them: all of it that calculating needs.

    Args:
        backend: what tokenizer.json describes.
        settings: what tokenizer_config.json says.
    """

    def __init__(self, backend: tokenizers.Tokenizer, settings: dict[str, object]) -> None:
        self.backend_tokenizer, self.init_kwargs = backend, settings
        self.pad_token, self.unk_token = settings["pad_token"], settings["unk_token"]
        self._ids = backend.get_vocab()
        self._tokens = {token_id: token for token, token_id in self._ids.items()}

    def __len__(self) -> int:
        return len(self._ids)

    def get_vocab(self) -> dict[str, int]:
        """The ID of each token."""
        return dict(self._ids)

    @property
    def pad_token_id(self) -> int:
        """ID of what stands where no token is."""
        return self._ids[self.pad_token]

    @property
    def unk_token_id(self) -> int:
        """ID of what stands for a character that is no token."""
        return self._ids[self.unk_token]

    def convert_tokens_to_ids(self, tokens: str | list[str]) -> int | list[int]:
        """The ID of a token, or those of a list; that of the unknown token where there is no such."""
        if isinstance(tokens, str):
            return self._ids.get(tokens, self.unk_token_id)
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: int | list[int]) -> str | list[str]:
        """The token of an ID, or those of a list."""
        return self._tokens[ids] if isinstance(ids, int) else [self._tokens[int(token_id)] for token_id in ids]


def save_tokenizer(tokenizer: "SimpleLLMTokenizer", folder: Path) -> None:
    """Write a tokenizer of the library and its code, each file whole."""
    with staged(folder) as stage:
        tokenizer.save_pretrained(stage)
        (stage / TOKENIZER_CODE).write_text(travelling_code(TOKENIZER_CODE), "utf-8")
        move_in(stage, folder, TOKENIZER_FILES)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer of one model folder to another, its code as it is here."""
    for name in (TOKENIZER, TOKENIZER_CONFIG):
        shutil.copyfile(source / name, folder / name)
    (folder / TOKENIZER_CODE).write_text(travelling_code(TOKENIZER_CODE), "utf-8")


def load_tokenizer(folder: Path) -> TokenTable:
    """Load the tokenizer of a model folder from its two files, and whatever else lies there from nothing.

    Raises:
        ArtefactError: there is none, or it cannot be read.
    """
    for name in (TOKENIZER, TOKENIZER_CONFIG):
        if not (folder / name).exists():
            raise ArtefactError(f"{folder / name} not found; run `python3 tokenizer.py` first")
    return tokenizer_from(read_json(folder, TOKENIZER), read_json(folder, TOKENIZER_CONFIG), folder)


def tokenizer_from(backend: dict, settings: dict, folder: Path) -> TokenTable:
    """Make the tokenizer that its two documents describe.

    Args:
        folder: where they lie, for who has to look there.

    Raises:
        ArtefactError: they describe none of ours.
    """
    try:
        tokenizer = TokenTable(tokenizers.Tokenizer.from_str(json.dumps(backend)), settings)
        is_ours = _has_its_tokens(tokenizer)
    except Exception as error:  # the library has no narrower one for a file that is no tokenizer
        raise ArtefactError(
            f"the tokenizer in {folder} is damaged ({one_line(error)}); run `python3 tokenizer.py`"
        ) from error
    if not is_ours:
        raise ArtefactError(f"the tokenizer in {folder} is damaged (other tokens); run `python3 tokenizer.py`")
    return tokenizer


def differences_from(tokenizer: Notation, data: DataConfig, train: TrainConfig) -> Iterator[tuple[str, object, object]]:
    """Where a tokenizer does not write problems as the configs say: the setting, what it has, and what they say.

    Without a scratchpad it may take `+` besides: of older ones the operators are what they have tokens of.
    """
    learned = "".join(one.symbol for one in data.operations.known)
    for name, there, here in (
        ("scratchpad", "columns" if tokenizer.has_columns else "none", train.model.scratchpad),
        ("base", tokenizer.base, data.numbers.base),
        ("reversed", tokenizer.reversed, data.numbers.reversed),
        ("says_all", tokenizer.says_all, train.model.tokens_per_step == "all"),
        ("operators", tokenizer.operators, learned),
    ):
        is_same = there == here
        if name == "operators" and not tokenizer.has_columns:
            is_same = there.removeprefix(DELIMITER) == here.removeprefix(DELIMITER)
        if not is_same:
            yield name, there, here


def _has_its_tokens(tokenizer: Notation) -> bool:
    """Whether it has padding, unknown, the delimiter, other operators, the digits of its base, and no other token."""
    if type(tokenizer.base) is not int or not 2 <= tokenizer.base <= len(DIGITS):
        return False
    if type(tokenizer.reversed) is not bool or type(tokenizer.says_all) is not bool:
        return False
    if tokenizer.init_kwargs.get("scratchpad", "none") not in SCRATCHPADS or not _knows_operators(tokenizer.operators):
        return False
    sign_ids = {tokenizer.delimiter_id, tokenizer.end_id, *(tokenizer.sign_ids or {}).values()}
    digit_ids = [*tokenizer.digit_ids, *(tokenizer.carry_ids or ())]
    ids = [tokenizer.pad_token_id, tokenizer.unk_token_id, *sign_ids, *digit_ids]
    return sorted(ids) == list(range(len(ids))) == sorted(tokenizer.get_vocab().values())


def _knows_operators(operators: object) -> bool:
    """Whether it is some of the operators there are, in their order."""
    return isinstance(operators, str) and operators == "".join(one for one in OPERATORS if one in operators)


def tokenizer_sha256(tokenizer: Notation) -> str:
    """Hash what decides token IDs and the writing of numbers."""
    writing = (tokenizer.base, tokenizer.reversed, tokenizer.says_all)
    if tokenizer.has_columns:
        writing = (*writing, tokenizer.operators)
    facts = (tokenizer.backend_tokenizer.to_str(), *writing, tokenizer.pad_token)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def vocabulary_of(tokenizer: Notation, tokens_per_step: int | str) -> Vocabulary:
    """How a model with this tokenizer reads and writes problems."""
    ids, known = tokenizer.get_vocab(), tokenizer.operators
    work_ids = None
    if tokenizer.has_columns:
        work_ids = (*tokenizer.digit_ids, *tokenizer.carry_ids, *(ids[one] for one in SIGNS))
    return Vocabulary(
        tuple(tokenizer.digit_ids),
        tokenizer.delimiter_id,
        tokenizer.pad_token_id,
        tuple(ids[one.symbol] if one.symbol in known else None for one in OPERATIONS),
        ids[NEGATIVE] if NEGATIVE in known else None,
        tokenizer.reversed,
        tokens_per_step,
        work_ids,
    )


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
