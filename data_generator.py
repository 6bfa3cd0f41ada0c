"""Write the problems the model learns from.

    python3 data_generator.py [--force] [section.key=value ...]

    python3 data_generator.py                                      100,000 rows of numbers up to 9999
    python3 data_generator.py numbers.base=10 storage.path=/tmp/base10.txt
    python3 data_generator.py seed=1 storage.num_sequences=1000000

Reads   data_config.yaml
Writes  sequences.txt                  one problem a row: E35|F63|DA8 is 1342 + 879 = 2221 in base 16,
                                       least significant digit first
        sequences.txt.manifest.json    counts, seed, sha256, and the config it was made with

Rows come from the train and validation sides of the split; the test side is never written. The same config and
seed give the same bytes, so a valid file is used again.
"""

import json

from simple_llm import command_line

if __name__ == "__main__":
    options = command_line.pipeline_options(
        __doc__, lambda parser: parser.add_argument("--force", action="store_true", help="write the file anew")
    )

import numpy as np

from simple_llm.arithmetic.addition import ADDITION
from simple_llm.arithmetic.operation import Operation
from simple_llm.config.settings import DataConfig, Sampling
from simple_llm.data.dataset import DatasetManifest, read_manifest, require_own_dataset, write_dataset
from simple_llm.data.sampling import Draw, draw_unique, mixed, OutOfProblemsError, Sampler
from simple_llm.data.split import TRAIN, VALIDATION
from simple_llm.errors import ArtefactError, Interrupted, UsageError
from simple_llm.files.reading import require_replaceable
from simple_llm.files.writing import alone_with
from simple_llm.stopping import progress_bar, stop_on_signals


def main(options: command_line.PipelineOptions) -> None:
    config, is_forced = options.data, options.arguments.force
    manifest, is_new = None if is_forced else valid_manifest(config), False
    if manifest is None:
        for path in (config.storage.path, config.storage.manifest_path):
            require_replaceable(path)
        with alone_with(config.storage.path):
            manifest = None if is_forced else valid_manifest(config)  # another process may have written it by now
            is_new = manifest is None
            manifest = manifest or make_dataset(config, is_forced)
    if not is_new:
        print(f"{config.storage.path} is up to date: {manifest.rows:,} rows, sha256 {manifest.sha256[:12]}")
    if options.arguments.json:
        print(json.dumps({"path": str(config.storage.path), **manifest.__dict__}))


def make_dataset(config: DataConfig, is_forced: bool) -> DatasetManifest:
    """Draw and write the rows of a config, and print how many there are of each kind.

    Raises:
        ArtefactError: somebody else's file is in their place; damaged rows of ours are replaced only if forced.
    """
    require_own_dataset(config, is_forced)
    manifest = write_problems(config, draw_problems(config))
    print(f"wrote {manifest.rows:,} rows to {config.storage.path}, sha256 {manifest.sha256[:12]}")
    for name, asked in manifest.asked.items():
        drawn = manifest.drawn[name]
        print(f"  {name:8} {drawn:>12,} rows" + (f" ({asked:,} asked)" if drawn != asked else ""))
    return manifest


def valid_manifest(config: DataConfig) -> DatasetManifest | None:
    """The manifest of a file that is what this config makes, or None."""
    try:
        return read_manifest(config)
    except ArtefactError:
        return None


def draw_problems(config: DataConfig) -> Draw:
    """Draw the rows of a config, in random order."""
    rng, draws = np.random.default_rng(config.seed), {}
    for operation, num_rows in rows_by_operation(config).items():
        if not num_rows:
            raise UsageError(
                f"operations.{operation.name}: of {config.storage.num_sequences:,} rows this share is not one; set it "
                "to 0 or storage.num_sequences higher"
            )
        asked = rows_by_stratum(config.sampling, num_rows, operation)
        try:
            sampler = Sampler.of(config.numbers, operation, config.sampling.large_digits)
            draw = draw_unique(sampler, config.split, (TRAIN, VALIDATION), asked, rng)
        except OutOfProblemsError as error:
            of_them = "" if len(config.operations.known) == 1 else f" {num_rows:,} of them {operation.noun}s,"
            raise UsageError(
                f"storage.num_sequences: {config.storage.num_sequences:,} rows asked for,{of_them} but numbers from "
                f"{config.numbers.min} to {sampler.largest} make only {error.available:,} training and validation "
                "pairs"
            ) from error
        draws[operation.name] = draw
    return mixed(draws, rng)


def rows_by_operation(config: DataConfig) -> dict[Operation, int]:
    """Turn shares into whole numbers of rows that add up; what rounding leaves goes to the first operation."""
    first, *others = config.operations.known
    num_rows = {one: round(getattr(config.operations, one.name) * config.storage.num_sequences) for one in others}
    return {first: config.storage.num_sequences - sum(num_rows.values()), **num_rows}


def rows_by_stratum(sampling: Sampling, num_rows: int, operation: Operation = ADDITION) -> dict[str, int]:
    """Turn shares into whole numbers of rows that add up; what rounding leaves goes to uniform.

    An operation that does not go from column to column has no rows of carries; uniform gets their share.
    """
    lengths, carries = round(sampling.lengths * num_rows), round(sampling.carries * num_rows)
    if operation.step is None:
        return {"uniform": num_rows - lengths, "lengths": lengths}
    if sampling.uniform == 0:  # then rounding must not ask for a uniform row
        carries = num_rows - lengths
    return {"uniform": num_rows - lengths - carries, "lengths": lengths, "carries": carries}


def write_problems(config: DataConfig, draw: Draw) -> DatasetManifest:
    """Write the rows with a progress bar; a signal leaves no half-written file."""
    with (
        stop_on_signals() as stop,
        progress_bar(total=len(draw.problems), unit="row", unit_scale=True, desc="writing") as bar,
    ):

        def on_rows(num_rows: int) -> None:
            bar.update(num_rows)
            if stop:
                raise Interrupted(f"interrupted; {config.storage.path} was not written", stop.signal_number)

        return write_dataset(config, draw.problems, draw.asked, draw.drawn, on_rows)


if __name__ == "__main__":
    asked = f"with storage.num_sequences={options.data.storage.num_sequences}; try fewer"
    command_line.run(main, options, debug=options.arguments.debug, less_memory=asked)
