"""Train the model, evaluating and saving on the way, and write the finished model folder.

    python3 trainer.py [--resume PATH | --fresh] [section.key=value ...]

    python3 trainer.py                                          the 6.3-million-parameter default
    python3 trainer.py training.seed=1 paths.model=../seed-1    another seed, another folder (with its tokenizer)
    python3 trainer.py model.n_layer=1 model.n_embd=64 model.tokens_per_step=1
    python3 trainer.py --resume ../simple-llm-data/simple-llm-gpt2/checkpoints/step-400

Reads   data_config.yaml, train_config.yaml, the sequences file, and the tokenizer in the model folder
Writes  into the model folder (paths.model):
        checkpoints/step-N/                     while training, each verified
        metrics.jsonl, training_curve.png       loss and exact match
        model.safetensors, config.json, ...     the finished model; manifest.json comes last

Started again, it goes on where it stopped; the result is the same as if it had never stopped. A finished run is
left as it is.
"""

import json

from simple_llm import command_line

if __name__ == "__main__":

    def add_arguments(parser: command_line.argparse.ArgumentParser) -> None:
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument(
            "--resume", type=command_line.Path, metavar="PATH", help="go on with this checkpoint or fail"
        )
        choice.add_argument("--fresh", action="store_true", help="start over, deleting the run that is there")

    options = command_line.pipeline_options(__doc__, add_arguments)

import dataclasses
import sys
import time

import torch
from torch import Tensor
from tqdm import tqdm

from simple_llm.batches import BatchOrder, inputs_and_targets, position_offsets, row_tokens
from simple_llm.checkpoint import save_checkpoint
from simple_llm.config import DataConfig, TrainConfig, Training
from simple_llm.dataset import read_dataset
from simple_llm.device import autocast, resolve_device, resolve_precision
from simple_llm.errors import DivergedError, Interrupted
from simple_llm.hub import model_card, push_folder, require_token
from simple_llm.locking import exclusive
from simple_llm.model_folder import build_model, load_tokenizer, save_model, vocabulary_of
from simple_llm.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.optimizer import build_optimizers, learning_rate_scale
from simple_llm.problems import Problems, split_sides, TRAIN, VALIDATION
from simple_llm.resuming import prepare_run, Run
from simple_llm.run_log import CURVE, draw_curve, METRICS, read_metrics, RunLog
from simple_llm.scoring import exact_match, Score

LOG_EVERY = 10


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Token tensors of both sides.

    Attributes:
        inputs, targets: (N, T - k) training rows, see `inputs_and_targets`.
        validation: the same for validation rows.
    """

    inputs: Tensor
    targets: Tensor
    validation: tuple[Tensor, Tensor]


def main(options: command_line.PipelineOptions) -> None:
    data, train = options.data, options.train
    if train.hub.push:
        require_token()
    folder = train.paths.model
    device = resolve_device(train.training.device)
    with exclusive(folder):
        run = prepare_run(data, train, options.arguments.resume, options.arguments.fresh)
        for line in run.messages:
            say(line)
        if run.is_finished:
            result = run.result
        else:
            problems, manifest = read_dataset(data)
            tokenizer = load_tokenizer(folder)
            torch.manual_seed(train.training.seed)
            model = build_model(data, train, tokenizer).to(device)
            result = train_model(model, prepare_data(problems, data, train, vocabulary_of(tokenizer)), train, run)
            finish(model, data, train, {**result, "settings": run.settings, "data_sha256": manifest.sha256})
    if train.hub.push:
        message = f"step {result['step']}: {result['num_correct']} of {result['num_total']} validation problems exact"
        say(f"pushed to {push_folder(folder, train.hub.repo_id, train.hub.private, message)}")
    print(f"{folder}: step {result['step']:,}, validation {Score(result['num_correct'], result['num_total'])} exact")
    if options.arguments.json:
        print(json.dumps({"path": str(folder), **result}))


def prepare_data(problems: Problems, data: DataConfig, train: TrainConfig, vocabulary) -> TrainingData:
    """Tokenize the rows of both sides once."""
    k = train.model.tokens_per_step
    side = split_sides(problems, data.split)
    rows = row_tokens(problems[side == TRAIN], vocabulary)
    validation = row_tokens(problems[side == VALIDATION][: train.training.eval_problems], vocabulary)
    return TrainingData(
        *inputs_and_targets(rows, k, vocabulary.pad_id), inputs_and_targets(validation, k, vocabulary.pad_id)
    )


def train_model(model: SimpleLLMForCausalLM, data: TrainingData, train: TrainConfig, run: Run) -> dict[str, object]:
    """Train to the last step; evaluate, save, stop, step, log.

    Returns:
        step, num_correct and num_total of the last evaluation, num_parameters, seconds.

    Raises:
        DivergedError: the loss or the gradient is not finite; the weights are those before it.
        Interrupted: by a signal, after a checkpoint.
    """
    config, device = train.training, model.device
    dtype = resolve_precision(config.precision, device)
    optimizers = build_optimizers(model, config, dtype)
    state = run.restore(model, optimizers)
    order = BatchOrder(len(data.inputs), config.batch_size, config.seed)
    log = RunLog(run.folder / METRICS, state.step)
    if device.type == "cpu":
        model.set_attn_implementation("eager")  # its backward pass is twice as fast as sdpa's on a CPU
    compute_loss = torch.compile(batch_loss) if config.compile else batch_loss
    started = time.monotonic() - state.seconds
    score = Score()
    with (
        command_line.stop_on_signals() as stop,
        tqdm(total=config.max_steps, initial=state.step, unit="step", desc="training", smoothing=0.05) as bar,
    ):
        for step in range(state.step, config.max_steps + 1):
            is_last = step == config.max_steps
            if is_last or step % config.eval_every == 0:
                score = evaluate(model, data.validation, dtype)
                num_exact = state.num_exact_evaluations + 1 if score.is_perfect else 0
                state = dataclasses.replace(state, num_exact_evaluations=num_exact)
                is_last = is_last or num_exact == config.stop_after_exact
                log.write(step, num_correct=score.num_correct, num_total=score.num_total)
            state = dataclasses.replace(state, step=step, seconds=time.monotonic() - started)
            if is_last or stop or (step % config.save_every == 0 and step > run.start_step):
                path = save_checkpoint(run.checkpoints, model, optimizers, state, run.settings, config.keep_checkpoints)
                if stop and not is_last:
                    raise Interrupted(f"stopped at step {step}; saved {path}", stop.signal_number)
            if is_last:
                break

            scale = learning_rate_scale(step, config.warmup_steps, config.max_steps)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = scale * optimizer.defaults["lr"]
            torch.manual_seed(step_seed(config.seed, step))  # dropout is a function of seed and step
            loss = accumulate_gradients(model, compute_loss, data, order.indices(step), step, config, dtype)
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            if not (loss + norm).isfinite():
                raise DivergedError(
                    f"loss {loss.item():g} and gradient norm {norm.item():g} at step {step}; "
                    f"last good checkpoint: {run.newest_checkpoint_name()}; try a lower training.learning_rate"
                )
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)

            bar.update()
            if step % LOG_EVERY == 0:
                speed = config.batch_size * (step + 1) / (time.monotonic() - started)
                bar.set_postfix_str(f"loss {loss:.4f}, exact {score}, {speed:,.0f} problems/s")
                log.write(step, loss=loss.item(), learning_rate_scale=scale, problems_per_second=speed)
    log.close()
    return {
        "step": state.step,
        "num_correct": score.num_correct,
        "num_total": score.num_total,
        "num_parameters": sum(parameter.numel() for parameter in model.parameters()),
        "seconds": round(state.seconds, 1),
    }


def accumulate_gradients(
    model: SimpleLLMForCausalLM, compute_loss, data: TrainingData, indices, step: int, config: Training, dtype
) -> Tensor:
    """Add up the gradients of one batch, a slice at a time; return its mean loss a token."""
    targets = data.targets[indices]
    num_targets = (targets >= 0).sum()
    offsets = position_offsets(len(indices), model.config.max_position_offset, config.seed, step)
    total = torch.zeros((), device=model.device)
    slices = torch.arange(len(indices)).chunk(config.accumulation_steps)
    for part in slices:
        with autocast(model.device, dtype):
            loss = compute_loss(
                model,
                data.inputs[indices[part]].to(model.device),
                targets[part].to(model.device),
                offsets[part].to(model.device),
            )
        loss = loss / num_targets
        loss.backward()
        total += loss.detach()
    return total


def batch_loss(model: SimpleLLMForCausalLM, inputs: Tensor, targets: Tensor, offsets: Tensor) -> Tensor:
    """Sum of the cross entropies of all targets that are not hidden.

    Args:
        inputs, targets: (B, T).
        offsets: (B, 1) added to the block positions of the digits.
    """
    positions = model.position_ids(inputs)  # (B, T)
    positions = torch.where(positions > 0, positions + offsets, positions)
    logits = model(input_ids=inputs, position_ids=positions, use_cache=False).logits  # (B, T, V)
    return torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100, reduction="sum"
    )


def evaluate(model: SimpleLLMForCausalLM, validation: tuple[Tensor, Tensor], dtype: torch.dtype) -> Score:
    """Count exact answers on the validation rows."""
    model.eval()
    with autocast(model.device, dtype):
        score = exact_match(model, *validation)
    model.train()
    return score


def finish(model: SimpleLLMForCausalLM, data: DataConfig, train: TrainConfig, facts: dict[str, object]) -> None:
    """Draw the curve and write the finished model."""
    folder = train.paths.model
    draw_curve(read_metrics(folder / METRICS), folder / CURVE)
    save_model(folder, model, data, train, model_card(data, train, facts), facts)


def step_seed(seed: int, step: int) -> int:
    """Mix seed and step into a generator seed."""
    return (seed * 1_000_003 + step) % 2**63


def say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main, options, debug=options.arguments.debug)
