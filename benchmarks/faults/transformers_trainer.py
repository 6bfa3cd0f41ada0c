"""The run of tiny_run.py as transformers.Trainer makes it, in the current folder; a script that trainer.py here kills.

Reads   what the project's own trainer.py reads
Writes  into by_transformers/:
        checkpoint-N/     after every step; two stay
        final/            the finished model, last of all

The model, its first weights, the rows, the slices of a batch, the dropout and the thread are the same. The optimizer is
Trainer's own, and nothing is added to the positions.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from simple_llm.config.loading import load_configs
from simple_llm.config.settings import Training
from simple_llm.data.dataset import read_problems
from simple_llm.files.names import DATA_CONFIG, TRAIN_CONFIG
from simple_llm.model.tokenizer_files import load_tokenizer, vocabulary_of
from simple_llm.model.tokens import Examples
from simple_llm.training.learner import build_model
from trainer import prepare_data

FOLDER, FINAL = "by_transformers", "final"


class RowDataset(Dataset):
    """Rows as Trainer takes them: a dict each, of what the model's forward is given."""

    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        targets = self.examples.targets[index]  # (T,) shifted already; `labels` is what makes the model give its loss
        return {"input_ids": self.examples.inputs[index], "labels": targets, "shift_labels": targets}


def main() -> None:
    data, train = load_configs(Path(DATA_CONFIG), Path(TRAIN_CONFIG), [])
    tokenizer = load_tokenizer(train.paths.model)
    rows = prepare_data(
        read_problems(data), data, train, vocabulary_of(tokenizer, train.model.tokens_per_step)
    ).training
    torch.manual_seed(train.training.seed)
    model = build_model(data, train, tokenizer)
    trainer = Trainer(model, training_arguments(train.training), train_dataset=RowDataset(rows))
    Path(FOLDER).mkdir(exist_ok=True)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(FOLDER))
    trainer.save_model(f"{FOLDER}/{FINAL}")


def training_arguments(config: Training) -> TrainingArguments:
    """Say to Trainer what the config says to the project's own trainer.py."""
    return TrainingArguments(
        FOLDER,
        max_steps=config.max_steps,
        per_device_train_batch_size=config.batch_size // config.accumulation_steps,
        gradient_accumulation_steps=config.accumulation_steps,
        learning_rate=config.learning_rate,
        warmup_steps=config.warmup_steps,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        save_strategy="steps",
        save_steps=config.save_every,
        save_total_limit=config.keep_checkpoints,
        logging_steps=1,
        report_to="none",
        push_to_hub=False,
        disable_tqdm=True,
        remove_unused_columns=False,  # it would take shift_labels, which forward passes on, for one
        use_cpu=True,
    )


if __name__ == "__main__":
    main()
