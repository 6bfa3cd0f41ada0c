"""A picture of where in the plane of x and y a model is right, a pixel a pair.

    python3 -m runs.failure_map --model DIR [--range 0:1023] [--output PNG]

For a model that was stopped early the picture shows what it has not learned yet: the edges of carries, in squares
that repeat at every power of the base. Prints counts, the wrong pairs by longest carry chain among them.

    python3 tokenizer.py paths.model=../early && python3 trainer.py paths.model=../early training.max_steps=300
    python3 -m runs.failure_map --model ../early
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from simple_llm import command_line
from simple_llm.decoding import Decoder, MEMORY_BUDGET
from simple_llm.model_folder import load_model, vocabulary_of
from simple_llm.pair_tree import PairTree
from simple_llm.pictures import draw_margins
from simple_llm.problems import from_integers, longest_carry_chain
from simple_llm.scoring import by_stratum


def main(arguments: argparse.Namespace) -> None:
    loaded = load_model(arguments.model)
    minimum, maximum = arguments.range
    base = loaded.data.numbers.base
    reader = Decoder.of(loaded.model).readers[-1]  # float32: the picture shows margins
    tree = PairTree(
        reader, vocabulary_of(loaded.tokenizer), minimum, maximum, MEMORY_BUDGET // reader.bytes_per_token()
    )
    margins = tree.margins(minimum, maximum).numpy()
    is_asked = np.isfinite(margins)
    num_wrong, num_asked = int((is_asked & ~(margins > 0)).sum()), int(is_asked.sum())
    output = arguments.output or arguments.model / "failure_map.png"
    title = f"{num_wrong:,} of {num_asked:,} prompts wrong after {loaded.manifest['step']:,} steps"
    draw_margins(margins, minimum, base, title, output)
    pairs = itertools.product(range(minimum, maximum + 1), repeat=2)
    chains = longest_carry_chain(from_integers(pairs, base, loaded.data.operand_digits)).reshape(margins.shape)
    print(title)
    for chain, score in by_stratum((margins > 0)[is_asked], chains[is_asked]).items():
        print(f"  longest carry chain {chain}: {score} right")
    print(json.dumps({"wrong": num_wrong, "asked": num_asked, "picture": str(output), "model_sha256": loaded.sha256}))


if __name__ == "__main__":
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--model", type=Path, required=True)
    made.add_argument("--range", type=command_line.integer_range, default=(0, 1023), metavar="MIN:MAX")
    made.add_argument("--output", type=Path, metavar="PNG", help="default: failure_map.png in the model folder")
    command_line.run(main, made.parse_args())
