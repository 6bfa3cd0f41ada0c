"""What nobody would write on purpose is read as the rules say, or refused: never anything else, and never slowly."""

import itertools
import random
import time

import pytest

from simple_llm.config.loading import load_configs
from simple_llm.config.settings import Numbers
from simple_llm.errors import ConfigError
from simple_llm.model.prompts import parse_prompt, PromptError
from tests.mutations import fuzzed_prompts, mutated_configs
from tests.test_prompts import check_like_the_oracle

NUM_CONFIGS = 200
NUM_PROMPTS = 500
MOST_SECONDS = 2.0  # of processor time for one of them


@pytest.mark.parametrize("seed", range(2))
def test_fault_21_any_change_to_the_default_configs_is_loaded_or_refused_at_once(tmp_path, seed):
    paths = tmp_path / "data.yaml", tmp_path / "train.yaml"
    outcomes = {"loaded": 0, "refused": 0}
    for texts in itertools.islice(mutated_configs(random.Random(seed)), NUM_CONFIGS // 2):
        for path, text in zip(paths, texts, strict=True):
            path.write_bytes(text.encode())
        started = time.process_time()
        try:
            load_configs(*paths, [])
            outcomes["loaded"] += 1
        except ConfigError as error:
            outcomes["refused"] += 1
            for line in str(error).splitlines():
                assert line.isprintable() and len(line) < 400
                assert line.startswith(("  ", str(tmp_path)))
        assert time.process_time() - started < MOST_SECONDS
    assert min(outcomes.values()) > 0


def test_fault_22_any_prompt_is_read_as_the_rule_says_or_refused_in_one_line():
    outcomes = {"read": 0, "refused": 0}
    for text in itertools.islice(fuzzed_prompts(random.Random(0)), NUM_PROMPTS):
        started = time.process_time()
        try:
            parse_prompt(text, Numbers())
            outcomes["read"] += 1
        except PromptError as error:
            outcomes["refused"] += 1
            assert len(str(error)) < 250 and str(error).isprintable()
        assert time.process_time() - started < MOST_SECONDS
        if len(text) < 100:
            check_like_the_oracle(text)
    assert min(outcomes.values()) > NUM_PROMPTS // 20
