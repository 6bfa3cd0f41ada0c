"""A model as an ONNX file, for the browser and other software, and the check that it still says the same.

    python3 -m web.onnx_export --model ../simple-llm-data/calculator --output calculator.onnx

The file is asked 1,000 problems of each operation beside torch, and written only if it says the same to every one; see
docs/HUB.md for its use.

Shape letters in this file: B rows, T tokens in a row, V tokens in the vocabulary.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from onnxruntime import InferenceSession, SessionOptions

from simple_llm import command_line
from simple_llm.data.problems import concatenate, Problems
from simple_llm.data.sampling import Sampler
from simple_llm.errors import GateError
from simple_llm.files.writing import write_file, write_ours
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.network import load_network
from simple_llm.model.places_simple_llm import IGNORE_INDEX
from simple_llm.model.tokens import make_examples, Vocabulary
from simple_llm.sharing.fetching import fetch_model
from web.onnx_graph import make_onnx

BATCH_SIZE = 250
NUM_PROBLEMS = 1_000


def export_model(model: SimpleLLMForCausalLM, path: Path) -> None:
    """Write a model as an ONNX file, whole or not at all; see `make_onnx` for what is in it."""
    write_file(path, make_onnx(model).SerializeToString())


@dataclass(frozen=True)
class Comparison:
    """How a file compares with the model it was made of.

    Attributes:
        num_problems: that both were asked.
        num_same: to which they say the same at every token of the answer.
        largest_difference: of a logit there.
    """

    num_problems: int
    num_same: int
    largest_difference: float

    def __str__(self) -> str:
        return (
            f"{self.num_same:,} / {self.num_problems:,} answers as torch says them, "
            f"logits within {self.largest_difference:.1e}"
        )


@torch.inference_mode()
def compare(
    model: SimpleLLMForCausalLM,
    path: Path,
    problems: Problems,
    vocabulary: Vocabulary,
    on_batch: Callable[[int], object] = lambda num_problems: None,
) -> Comparison:
    """Ask a model and its file the same problems, the right answers before their eyes.

    Tokens that nothing is asked of do not count: what is said there is decided by rounding.

    Args:
        on_batch: called with the number of problems after each batch.
    """
    session = _open(path)
    examples = make_examples(problems, vocabulary)
    num_same, largest_difference = 0, 0.0
    for first in range(0, len(problems), BATCH_SIZE):
        inputs = examples.inputs[first : first + BATCH_SIZE].long()  # (B, T), padded on the right, which none looks at
        is_asked = examples.targets[first : first + BATCH_SIZE] != IGNORE_INDEX  # (B, T)
        positions = model.position_ids(inputs)
        expected = model(input_ids=inputs, position_ids=positions, use_cache=False).logits  # (B, T, V)
        feeds = {"input_ids": inputs.numpy(), "position_ids": positions.numpy()}
        feeds = {one.name: feeds[one.name] for one in session.get_inputs()}
        got = torch.from_numpy(session.run(["logits"], feeds)[0])
        is_same = (got.argmax(-1) == expected.argmax(-1)) | ~is_asked
        num_same += int(is_same.all(1).sum())
        largest_difference = max(largest_difference, float((got - expected).abs()[is_asked].max()))
        on_batch(len(inputs))
    return Comparison(len(problems), num_same, largest_difference)


def mixed_problems(sampler: Sampler, num_problems: int, seed: int = 0) -> Problems:
    """Draw problems of all lengths, with long carries, and uniform in value, a third each; some may come twice."""
    rng = np.random.default_rng(seed)
    lengths, carries = sampler.lengths(rng, num_problems // 3), sampler.carries(rng, num_problems // 3)
    return concatenate([lengths, carries, sampler.uniform(rng, num_problems - len(lengths) - len(carries))])


def _open(path: Path) -> InferenceSession:
    """Load a file on as many threads as torch has."""
    options = SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return InferenceSession(path, options, providers=["CPUExecutionProvider"])


def main(arguments: argparse.Namespace) -> None:
    loaded = load_network(fetch_model(arguments.model))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        export_model(loaded.model, path)
        for operation in loaded.operations:
            sampler = Sampler.of(loaded.data.numbers, operation)
            problems = sampler.uniform(np.random.default_rng(0), NUM_PROBLEMS)
            compared = compare(loaded.model, path, problems, loaded.vocabulary)
            print(f"{operation.noun}s: {compared}")
            if compared.num_same < compared.num_problems:
                raise GateError(f"the file says something else than the model; {arguments.output} is not written")
        write_ours(arguments.output, path.read_bytes())
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    made = command_line.parser(__doc__)
    made.add_argument("--model", type=command_line.model_name, required=True, metavar="DIR")
    made.add_argument("--output", type=command_line.path, required=True, metavar="FILE")
    command_line.run(main, made.parse_args())
