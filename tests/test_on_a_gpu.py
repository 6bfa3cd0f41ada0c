"""What a GPU computes, against what the CPU computes: steps of training, going on from a checkpoint, answers, proofs.

python3 -m pytest -m gpu
"""

import copy
import json
from pathlib import Path

import pytest
import torch

from simple_llm.model.decoding import Decoder
from simple_llm.model.engine import Engine
from simple_llm.model.tokens import prompt_tokens
from simple_llm.training import learner as learner_module
from simple_llm.training.checkpoint import load_checkpoint, save_checkpoint, TrainingState
from simple_llm.training.learner import Learner
from tests.pipeline import TINY_DATA, TINY_TRAIN, write_configs
from tests.tiny_models import all_pairs, make_learner, make_train_config

DEVICE = "cuda"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def learner_on(device: str, **training: object):
    """The same tiny model on either device, ready to learn, and its rows."""
    train = make_train_config(2, n_layer=4, **training)
    made, rows = make_learner(train)
    return learner_module.make_learner(made.model.to(device), train.training), rows


def losses(learner: Learner, rows, steps: range) -> torch.Tensor:
    return torch.tensor([learner.step(rows, step).item() for step in steps])


@pytest.mark.parametrize("training", [{}, {"accumulation_steps": 4}], ids=str)
def test_the_first_steps_have_the_losses_of_the_cpu(training):
    there, here = (losses(*learner_on(device, max_steps=8, **training), range(6)) for device in (DEVICE, "cpu"))
    assert here[0] > here[-1]
    torch.testing.assert_close(there, here, atol=2e-3, rtol=1e-3)


def test_bfloat16_learns_too():
    learner, rows = learner_on(DEVICE, max_steps=60, precision="bf16")
    told = losses(learner, rows, range(60))
    assert told.isfinite().all()
    assert told[-5:].mean() < 0.8 * told[0]


def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path):
    """Here AdamW is fused, and keeps its step counts on the GPU."""
    first, rows = learner_on(DEVICE, max_steps=8)
    losses(first, rows, range(3))
    path = save_checkpoint(tmp_path, first.model, first.optimizers, TrainingState(3), {}, keep=2)
    second, _ = learner_on(DEVICE, max_steps=8)
    load_checkpoint(path, second.model, second.optimizers)
    torch.testing.assert_close(
        losses(second, rows, range(3, 8)), losses(first, rows, range(3, 8)), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("k", [1, 2, "all"])
def test_every_pair_gets_the_answer_of_the_cpu(trained_for, k):
    """bfloat16 first, and what it is not sure of again, against float32 alone."""
    trained = trained_for(k)
    prompts = prompt_tokens(all_pairs(99), trained.vocabulary)
    for model in (trained.model, trained.half):
        there = Decoder.of(copy.deepcopy(model).to(DEVICE)).decode(prompts, 4)
        here = Decoder(Engine(model, torch.float32)).decode(prompts, 4)
        num_others = int((there.tokens.cpu() != here.tokens).any(1).sum())
        assert (len(prompts), num_others) == (10_000, 0)


def test_the_scripts_train_and_prove_there(call_script, tmp_path):
    training = {**TINY_TRAIN["training"], "device": "auto", "precision": "auto", "max_steps": 20}
    write_configs(tmp_path, TINY_DATA, {**TINY_TRAIN, "training": training})

    def call(name: str, *arguments: str, exit_codes: tuple[int, ...] = (0,)) -> str:
        called = call_script(name, *arguments, cwd=tmp_path)
        assert called.exit_code in exit_codes, called.stderr
        return called.stdout

    for name in ("data_generator.py", "tokenizer.py", "trainer.py"):
        call(name)
    call("evaluate.py", "--samples", "100")
    call("evaluate.py", "--exhaustive", exit_codes=(0, 7))
    call("evaluate.py", "--check-certificate", "1000")
    certificate = json.loads(Path(tmp_path / "model" / "certificate.json").read_text())
    assert certificate["checked"] == certificate["expected"] == 10_000
    assert call("inference.py", "12+7").startswith("12+7=")
