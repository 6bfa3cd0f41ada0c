"""Train the model, evaluating and saving on the way, and write the finished model folder.

    python3 trainer.py [--resume PATH | --fresh | --push-only] [section.key=value ...]

    python3 trainer.py                                          the 6.3-million-parameter default
    python3 trainer.py training.seed=1 paths.model=../seed-1    another seed, another folder (with its tokenizer)
    python3 trainer.py model.n_layer=1 model.n_embd=64 model.tokens_per_step=1
    python3 trainer.py --resume ../simple-llm-data/simple-llm-gpt2/checkpoints/step-400
    python3 trainer.py --push-only hub.repo_id=me/adder         upload the finished model, see docs/HUB.md
    torchrun --nproc-per-node 2 trainer.py                      shared by two processes, see docs/RELIABILITY.md

Reads   data_config.yaml, train_config.yaml, the sequences file, and the tokenizer in the model folder
Writes  into the model folder (paths.model):
        checkpoints/step-N/                     while training, each verified
        metrics.jsonl, training_curve.png       loss and exact match
        run.log                                 what happened and when, over all starts; --fresh keeps it
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
            "--resume", type=command_line.path, metavar="PATH", help="go on with this checkpoint or fail"
        )
        choice.add_argument("--fresh", action="store_true", help="start over, deleting the run that is there")
        choice.add_argument("--push-only", action="store_true", help="upload the finished model, without training")

    options = command_line.pipeline_options(__doc__, add_arguments)

import contextlib
import dataclasses
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from simple_llm.config.settings import DataConfig, Hub, TrainConfig, Training
from simple_llm.data.dataset import read_manifest, read_problems
from simple_llm.data.problems import Problems
from simple_llm.data.split import split_sides, TRAIN, VALIDATION
from simple_llm.errors import ArtefactError, DivergedError, HubError, Interrupted, UsageError
from simple_llm.evaluation.margins import is_exact
from simple_llm.evaluation.scoring import by_stratum, Score
from simple_llm.files.manifest import commit_of_process, versions
from simple_llm.files.names import CARD, CURVE, METRICS
from simple_llm.files.writing import exclusive
from simple_llm.machine import autocast, host_facts, resolve_device
from simple_llm.model.folder import load_model
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.network import save_model
from simple_llm.model.tokenizer_files import load_tokenizer, vocabulary_of
from simple_llm.model.tokens import Examples, make_examples, Vocabulary
from simple_llm.processes import ALONE, joined, Processes, processes_of_torchrun, require_whole_launch
from simple_llm.run_log import beside_result, events, open_log
from simple_llm.sharing.hub import push_checkpoint, push_folder, require_upload
from simple_llm.sharing.model_card import write_card
from simple_llm.stopping import progress_bar, stop_on_signals
from simple_llm.training.checkpoint import save_checkpoint, TrainingState
from simple_llm.training.learner import build_model, Learner, make_learner
from simple_llm.training.metrics import read_metrics, require_tracker, RunLog, tracking
from simple_llm.training.run import finished_result, prepare_run, require_own_folder, RESULT, Run

LOG_EVERY = 10


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Token tensors of both sides.

    Attributes:
        training: rows to learn from.
        validation: rows to measure on.
        chains: (N,) longest carry chain of each of those.
    """

    training: Examples
    validation: Examples
    chains: NDArray[np.int64]


def main(options: command_line.PipelineOptions) -> None:
    require_whole_launch()
    data, train, folder = options.data, options.train, options.train.paths.model
    if options.arguments.push_only:
        push_only(train, options.arguments.json)
        return
    require_own_folder(folder, options.arguments.fresh)
    if train.hub.push:
        require_upload(train.hub.repo_id)
    require_tracker(train.training.report_to)
    with at_work(train) as processes:
        result = train_if_needed(data, train, options.arguments, processes)
        if processes.is_first:
            report(folder, result, options.arguments.json)
        if processes.is_first and train.hub.push:
            push(folder, train.hub)


def push_only(train: TrainConfig, as_json: bool) -> None:
    """Upload the finished model, without training; a whole one has to be there before anyone is asked for a token."""
    folder = train.paths.model
    if train.hub.repo_id is None:
        raise UsageError("--push-only: name the repository, for example hub.repo_id=me/adder")
    result = finished_result(load_model(folder).manifest)
    require_upload(train.hub.repo_id)
    require_tracker(train.training.report_to)
    with at_work(train) as processes:
        if processes.is_first:
            push(folder, train.hub)
    if processes.is_first:
        report(folder, result, as_json)


@contextlib.contextmanager
def at_work(train: TrainConfig) -> Iterator[Processes]:
    """Meet the other processes of this start; the first one has the model folder to itself, and opens its log."""
    folder = train.paths.model
    with (
        joined(resolve_device(train.training.device)) as processes,
        exclusive(folder) if processes.is_first else contextlib.nullcontext(),
    ):
        if processes.is_first:
            open_log(folder)
        code = {"commit": commit_of_process(), "versions": versions()}
        events.info("%s", json.dumps({**code, **host_facts(), "processes": processes.count}))
        yield processes


def report(folder: Path, result: dict[str, object], as_json: bool) -> None:
    """Print where the finished model is, and what it was last measured at."""
    print(f"{folder}: step {result['step']:,}, validation {Score(result['num_correct'], result['num_total'])} exact")
    if as_json:
        print(json.dumps({"path": str(folder), **result}))


def train_if_needed(
    data: DataConfig, train: TrainConfig, arguments: command_line.argparse.Namespace, processes: Processes
) -> dict[str, object]:
    """Bring the run in the model folder to its end; return its result."""
    folder, device = train.paths.model, resolve_device(train.training.device)
    with processes.first_goes_first():  # it clears away what a former run left
        manifest = read_manifest(data)
        run = prepare_run(data, train, manifest, arguments.resume, arguments.fresh)
    if not processes.agree(run.fingerprint()):
        raise ArtefactError(f"the processes see different runs; {folder} must be a folder that all of them share")
    events.info("%s", json.dumps(run.identity()))
    for line in run.messages if processes.is_first else ():
        say(line)
    if run.is_finished:
        if processes.is_first:  # what failed when the model was written may work by now
            adorn(folder, tuple(name for name in (CURVE, CARD) if not os.path.lexists(folder / name)))
        return run.result
    problems, tokenizer = read_problems(data), load_tokenizer(folder)
    torch.manual_seed(train.training.seed)
    model = build_model(data, train, tokenizer).to(device)
    prepared = prepare_data(problems, data, train, vocabulary_of(tokenizer, train.model.tokens_per_step))
    on_step = uploader(model, data, train, run)
    result = train_model(model, prepared, train.training, run, on_step, processes)
    if processes.is_first:
        finish(model, data, train, {**result, "settings": run.settings, "data_sha256": manifest.sha256})
    return result


def uploader(
    model: SimpleLLMForCausalLM, data: DataConfig, train: TrainConfig, run: Run
) -> Callable[[TrainingState], None]:
    """Make what uploads the model after every hub.every steps; a failure is told, and training goes on."""

    def upload(state: TrainingState) -> None:
        if not train.hub.every or not state.step or state.step % train.hub.every:
            return
        facts = {**dataclasses.asdict(state), "num_parameters": model.num_parameters(), "settings": run.settings}
        try:
            address = push_checkpoint(model, data, train, facts)
        except Interrupted:
            raise
        except Exception as error:  # of whatever library; what was trained so far is not lost by it
            events.warning("step %d is not uploaded: %s", state.step, error)
            tqdm.write(f"warning: step {state.step:,} is not uploaded: {error}", file=sys.stderr)
        else:
            tqdm.write(f"step {state.step:,} is at {address or train.hub.repo_id}", file=sys.stderr)

    return upload


def prepare_data(problems: Problems, data: DataConfig, train: TrainConfig, vocabulary: Vocabulary) -> TrainingData:
    """Tokenize the rows of both sides once.

    Raises:
        UsageError: one of them is empty.
    """
    side = split_sides(problems, data.split)
    for name, number in (("train", TRAIN), ("validation", VALIDATION)):
        if not (side == number).any():
            raise UsageError(
                f"storage.num_sequences: of {len(problems):,} rows none is on the side of split.{name} = "
                f"{getattr(data.split, name)}; raise one of the two"
            )
    validation = problems[side == VALIDATION][: max(train.training.eval_problems, train.training.num_deciding)]
    return TrainingData(
        make_examples(problems[side == TRAIN], vocabulary),
        make_examples(validation, vocabulary),
        validation.longest_chain,
    )


def train_model(
    model: SimpleLLMForCausalLM,
    data: TrainingData,
    config: Training,
    run: Run,
    on_step: Callable[[TrainingState], object] = lambda state: None,
    processes: Processes = ALONE,
) -> dict[str, object]:
    """Train to the last step: evaluate, save, stop, step, log. The model is left with the mean of its last weights,
    where the config asks for that.

    Args:
        on_step: called by the first process before every step, after its evaluation and checkpoint, while the model
            holds what was evaluated.
        processes: that share the steps and the evaluations; the first one writes.

    Returns:
        step, num_correct and num_total of the last evaluation, num_parameters, seconds.

    Raises:
        DivergedError: the loss or the gradient is not finite.
        Interrupted: by a signal, after a checkpoint.
    """
    learner = make_learner(model, config, processes)
    run.require_room(model, learner.optimizers, config)
    if processes.is_first:
        run.clear()
    processes.wait()
    state = run.restore(model, learner.optimizers, learner.mean.tensors)
    started = time.monotonic() - state.seconds
    report_to = config.report_to if processes.is_first else "none"
    with (
        tracking(report_to, run.folder, run.settings, goes_on=run.checkpoint is not None) as track,
        stop_on_signals() as stop,
        progress(config.expected_end(state.step), state.step, processes) as bar,
    ):
        log = RunLog(run.folder / METRICS if processes.is_first else None, state.step, track)
        for step in range(state.step, config.max_steps + 1):
            is_last = step == config.max_steps
            was_saved_here = step == run.start_step  # then it was also evaluated
            if config.is_evaluated(step) and not was_saved_here:
                by_chain = evaluate(learner, data, config.num_evaluated(step))
                state = state.with_score(sum(by_chain.values(), Score()))
                log.write(
                    step,
                    num_correct=state.num_correct,
                    num_total=state.num_total,
                    by_longest_carry_chain={chain: dataclasses.astuple(score) for chain, score in by_chain.items()},
                )
            is_last = is_last or config.is_enough(step, state.num_exact_evaluations)
            state = dataclasses.replace(state, step=step, seconds=time.monotonic() - started)
            stopped_by = processes.largest(stop.signal_number)
            if (is_last or stopped_by or step % config.save_every == 0) and step and not was_saved_here:
                if processes.is_first:
                    save_checkpoint(
                        run.checkpoints,
                        model,
                        learner.optimizers,
                        state,
                        run.settings,
                        config.keep_checkpoints,
                        learner.mean.tensors,
                    )
                processes.wait()
            if stopped_by:
                raise Interrupted(f"stopped at step {step}; started again, it goes on there", stopped_by)
            if is_last:
                break
            if processes.is_first:
                with learner.mean.in_place():
                    on_step(state)
                if bar.total != config.expected_end(step):
                    bar.total = config.expected_end(step)
                    tell_of_a_restart(state, bar.total)

            try:
                loss = learner.step(data.training, step)
            except DivergedError as error:
                hint = f"last good checkpoint: {run.newest_checkpoint_name()}; try a lower training.learning_rate"
                raise DivergedError(f"{error}; {hint}") from None
            bar.update()
            if step % LOG_EVERY == 0:
                speed = config.rows_before(step + 1) / (time.monotonic() - started)
                exact = f"exact {state.score}, " if state.num_total else ""
                bar.set_postfix_str(f"loss {loss:.4f}, {exact}{speed:,.0f} problems/s")
                log.write(step, loss=loss.item(), problems_per_second=round(speed, 1))
        log.close()
    learner.mean.exchange()
    return {**dataclasses.asdict(state), "seconds": round(state.seconds, 1), "num_parameters": model.num_parameters()}


def tell_of_a_restart(state: TrainingState, next_end: int) -> None:
    """Say, between two lines of the progress bar, why training goes on."""
    line = f"step {state.step:,}: validation {state.score} exact; the learning rate falls again, to step {next_end:,}"
    tqdm.write(line, file=sys.stderr)
    events.info("%s", line)


def progress(end: int, step: int, processes: Processes) -> tqdm:
    """The bar on the terminal, drawn by the first process."""
    return progress_bar(
        total=end, initial=step, unit="step", desc="training", smoothing=0.05, is_shown=processes.is_first
    )


def evaluate(learner: Learner, data: TrainingData, num_rows: int) -> dict[int, Score]:
    """Count exact answers on so many validation rows, by longest carry chain: of the mean weights, if there are."""
    rows, chains = data.validation[:num_rows], data.chains[:num_rows]
    share = rows[learner.processes.share]
    learner.model.eval()
    with learner.mean.in_place(), autocast(learner.model.device, learner.dtype):
        is_correct = is_exact(learner.model, share.inputs, share.targets)
    learner.model.train()
    is_correct = learner.processes.gather(torch.from_numpy(is_correct).int(), len(rows))
    return by_stratum(is_correct.numpy() > 0, chains)


def finish(model: SimpleLLMForCausalLM, data: DataConfig, train: TrainConfig, facts: dict[str, object]) -> None:
    """Write the finished model, and then what stands beside it."""
    save_model(train.paths.model, model, data, train, facts)
    events.info("finished: step %d, validation %d / %d exact", *(facts[key] for key in RESULT[:3]))
    adorn(train.paths.model, (CURVE, CARD))


def adorn(folder: Path, names: tuple[str, ...]) -> None:
    """Draw the curve, and write the card that shows it, each by itself."""
    if CURVE in names:
        with beside_result(CURVE):
            # matplotlib: half a second that nothing before this waits for
            from simple_llm.evaluation.pictures import draw_curve

            draw_curve(read_metrics(folder / METRICS), folder / CURVE)
    if CARD in names:
        with beside_result(CARD):
            write_card(folder)


def push(folder: Path, hub: Hub) -> None:
    """Upload the finished model and say where it is.

    Raises:
        HubError: naming the folder that is intact and the command that tries again.
    """
    try:
        address = push_folder(folder, hub.repo_id, hub.private)
    except HubError as error:
        overrides = [f"paths.model={folder}", f"hub.repo_id={hub.repo_id}", f"hub.private={str(hub.private).lower()}"]
        command = shlex.join(["python3", "trainer.py", "--push-only", *overrides])
        raise HubError(f"{error}; the model in {folder} is intact, `{command}` tries again") from None
    say(f"pushed to {address}" if address else f"nothing to push: {hub.repo_id} holds all of it already")


def less_memory(training: Training, num_processes: int = 1) -> str:
    """Say what to try when memory runs out: settings by which a batch is shared evenly, see `make_learner`."""
    size, slices = training.batch_size, training.accumulation_steps

    def works(size: int, slices: int) -> bool:
        changed = training.model_copy(update={"batch_size": size, "accumulation_steps": slices})
        return changed.can_be_computed_in(slices * num_processes)

    smaller = next((fewer for fewer in range(size // 2, 0, -1) if works(fewer, slices)), None)
    more_slices = next((more for more in range(slices + 1, size + 1) if works(size, more)), None)
    to_try = []
    if smaller:
        to_try.append(f"training.batch_size={smaller} (another run: start it with --fresh or in another paths.model)")
    if more_slices:
        to_try.append(f"training.accumulation_steps={more_slices}, which goes on from the last checkpoint")
    return f"with training.batch_size={size}; try {', or '.join(to_try) or 'a smaller model'}"


def say(line: str) -> None:
    """Tell the user and the log."""
    print(line, file=sys.stderr)
    events.log(logging.WARNING if line.startswith("rejected") else logging.INFO, "%s", line)


if __name__ == "__main__":
    memory = less_memory(options.train.training, processes_of_torchrun().count)
    command_line.run(main, options, debug=options.arguments.debug, less_memory=memory)
