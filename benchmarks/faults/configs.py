"""Mutated pairs of config files: loaded, or refused with exit code 2, in a second."""

import itertools
import time

from benchmarks.faults.tally import Plan, Tally
from simple_llm.config.loading import load_configs
from simple_llm.errors import ConfigError
from simple_llm.files.names import DATA_CONFIG, TRAIN_CONFIG
from tests.mutations import mutated_configs

LIMIT = 1.0  # seconds of processor time
REFUSED = 2


def run(plan: Plan) -> list[Tally]:
    """Load one pair after another, from files as a script does."""
    tally = Tally("a mutated pair of configs: loaded, or refused in a second")
    paths = plan.folder / DATA_CONFIG, plan.folder / TRAIN_CONFIG
    for number, texts in enumerate(itertools.islice(mutated_configs(plan.rng), plan.count)):
        for path, text in zip(paths, texts, strict=True):
            path.write_bytes(text.encode(errors="surrogatepass"))
        started = time.process_time()
        try:
            load_configs(*paths, [])
            wrong, is_refused = "", False
        except ConfigError as error:
            is_refused = error.exit_code == REFUSED
            wrong = "" if is_refused else f"exit code {error.exit_code}"
        except Exception as error:  # whatever else a config can bring about is what is looked for here
            wrong, is_refused = repr(error), False
        seconds = time.process_time() - started
        if seconds > LIMIT:
            wrong = f"{seconds:.1f} s"
        if wrong:
            tally.lose(f"pair {number}: {wrong}")
        elif is_refused:
            tally.detect()
        else:
            tally.survive()
        plan.advance(1)
    return [tally]
