"""Questions that a model carries with its answers, and asks itself where a library is not the one it knows."""

from simple_llm.arithmetic.operation import Operation
from simple_llm.config.settings import DataConfig, TrainConfig
from simple_llm.data.problems import concatenate, from_integers
from simple_llm.errors import EnvironmentFault
from simple_llm.model.architecture import Readable
from simple_llm.model.decoding import Decoder
from simple_llm.model.places_simple_llm import (
    LOGITS_MOVE,
    QUESTION,
    untested_message,
    untested_versions,
    up_to_the_end,
    write_self_test,
)
from simple_llm.model.tokenizer_files import one_line
from simple_llm.model.tokens import answer_tokens, prompt_tokens, Vocabulary

_LONG = 20  # digits of the longest question to a model that knows every length


def make_self_test(
    model: Readable, data: DataConfig, train: TrainConfig, vocabulary: Vocabulary
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


def refuse_other_library(model: Readable, data: DataConfig, train: TrainConfig, vocabulary: Vocabulary) -> None:
    """Under a library that was not tested, see that the model still says what it said when it was saved.

    Raises:
        EnvironmentFault: it does not; both versions are named.
    """
    asked = model.config.self_test
    if asked is None or not untested_versions():
        return
    try:
        said = make_self_test(model, data, train, vocabulary)
        is_same = all(said[name] == asked[name] for name in QUESTION[:2])
        moved = max(
            abs(float(one) - float(other))
            for texts in zip(said["logits"], asked["logits"], strict=True)
            for one, other in zip(*map(str.split, texts), strict=True)
        )
    except Exception as error:  # whatever the library does now, the way out is the same
        raise EnvironmentFault(untested_message(f"it fails ({one_line(error)})")) from error
    if not (is_same and moved < LOGITS_MOVE):
        raise EnvironmentFault(untested_message("it gives other answers than when it was saved"))
