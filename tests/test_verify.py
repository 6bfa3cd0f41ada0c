"""The file that proves a model in its folder: what it says of models that are right, wrong, damaged, or others."""

import ast
import contextlib
import io
import json
import os
import random
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load
from torch import Tensor

from simple_llm.evaluation.margins import lead
from simple_llm.files.names import CONFIG, TOKENIZER, TOKENIZER_CONFIG, VERIFY, WEIGHTS
from simple_llm.model import verify
from simple_llm.model.context_engine import ContextEngine
from simple_llm.model.engine import Engine
from simple_llm.model.modeling_simple_llm import SimpleLLMForCausalLM
from simple_llm.model.places_simple_llm import Grid, KINDS
from simple_llm.proof import all_lengths
from tests.conftest import Called
from tests.pipeline import REPOSITORY
from tests.test_grid import characters, grid_model
from tests.test_verify_list import Context, list_of, OPERATORS
from tests.trained_model import TrainedModel

pytestmark = [pytest.mark.library, pytest.mark.usefixtures("tested_libraries")]

SOURCE = REPOSITORY / "simple_llm" / "model" / VERIFY
MOST_CELLS, NOBODY = 5, -2
CANNOT_BE_LISTED = "nothing that can be listed"


# ---- Models ---------------------------------------------------------------------------------------


def asked(contexts: Iterable[tuple[Context, str]], ids: dict[str, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Contexts of columns as ContextEngine takes them, (N, 6) each, and the right tokens, (N,)."""
    tokens, kinds, is_seen, right = [], [], [], []
    for (own, seen), says in contexts:
        cells = [*seen, *[own] * (MOST_CELLS - len(seen)), own]
        tokens.append([ids[token] for token, _ in cells])
        kinds.append([kind for _, kind in cells])
        is_seen.append([index < len(seen) for index in range(MOST_CELLS + 1)])
        right.append(ids[says])
    return torch.tensor(tokens), torch.tensor(kinds), torch.tensor(is_seen), torch.tensor(right)


def said_at_once(model: SimpleLLMForCausalLM, tokens: Tensor, kinds: Tensor, is_seen: Tensor) -> Tensor:
    """What the model itself says in contexts, (N, V): each is a row of six tokens, of which the last one looks back."""
    addresses = torch.arange(MOST_CELLS + 1).expand_as(tokens)
    looks = addresses[..., None].repeat(1, 1, MOST_CELLS)  # each sees itself,
    looks[:, -1] = torch.where(is_seen[:, :-1], addresses[:, :-1], NOBODY)  # but for the last
    counted = model.grid(tokens[:, :1]).counted
    grid = Grid(kinds, looks, torch.ones_like(is_seen), addresses, counted)
    return model(input_ids=tokens, grid=grid).logits[:, -1]


def train(model: SimpleLLMForCausalLM, say, right: Tensor, steps: int = 150) -> SimpleLLMForCausalLM:
    """Train on all contexts at a time; `say` is what the model says in them."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 20) * (1 - step / steps))
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(say(), right).backward()
        optimizer.step()
        schedule.step()
    return model


def write_folder(folder: Path, model: SimpleLLMForCausalLM, vocab: dict[str, int], claims: dict) -> Path:
    """A model's folder as far as it is read, and the file in it."""
    model.save_pretrained(folder)
    (folder / TOKENIZER).write_text(json.dumps({"model": {"type": "BPE", "vocab": vocab, "merges": []}}))
    (folder / TOKENIZER_CONFIG).write_text(json.dumps({"reversed": True, **claims}))
    shutil.copy(SOURCE, folder / VERIFY)
    return folder


def columns_folder(folder: Path, model: SimpleLLMForCausalLM, base: int, operators: str) -> Path:
    claims = {"base": base, "scratchpad": "columns", "operators": operators}
    return write_folder(folder, model, columns_ids(base), claims)


def columns_ids(base: int) -> dict[str, int]:
    return {character: index for index, character in enumerate(characters(base))}


@pytest.fixture(scope="module")
def right_model() -> SimpleLLMForCausalLM:
    """In base 2 it works out all four operations."""
    torch.manual_seed(0)
    model = grid_model(2, n_embd=32, n_head=2, initializer_range=0.1)
    every = [one for operator in OPERATORS for one in list_of(operator, 2)]
    *cells, right = asked(every, columns_ids(2))
    return train(model, lambda: said_at_once(model, *cells), right)


@pytest.fixture(scope="module")
def right_folder(right_model: SimpleLLMForCausalLM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return columns_folder(tmp_path_factory.mktemp("right"), right_model, 2, OPERATORS)


@pytest.fixture
def folder(right_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(right_folder, tmp_path / "model")


def start(folder: Path, *arguments: str) -> Called:
    """Run the file that is in a folder as a stranger does."""
    done = subprocess.run([sys.executable, VERIFY, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr, done.stderr
    return Called(done.returncode, done.stdout, done.stderr)


def run(folder: Path) -> Called:
    """Run the file that is in a folder in this process: the seconds in which numpy is imported are spared."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
        np.errstate(),
        pytest.raises(SystemExit) as stopped,
    ):
        patch.setattr(sys, "argv", [VERIFY])
        runpy.run_path(VERIFY, run_name="__main__")
    return Called(stopped.value.code, out.getvalue(), err.getvalue())


def refused(folder: Path, code: int) -> str:
    """The last line of a run that does not prove."""
    return last_line(run(folder), code)


def last_line(done: Called, code: int) -> str:
    """Of a run that does not prove."""
    assert done.exit_code == code, done
    last = (done.stderr if code == 2 else done.stdout).splitlines()[-1]
    assert code == 2 or last.startswith("not proved: ")
    assert code == 7 or (len(done.stderr.splitlines()) == 1 and done.stdout == "")
    return last


def change_weights(folder: Path, change) -> None:
    """Let `change` alter a tensor's numbers, by its name, in place."""
    data = bytearray((folder / WEIGHTS).read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    numbers = {
        name: np.frombuffer(data, "<f4", offset=start)[entry["data_offsets"][0] // 4 : entry["data_offsets"][1] // 4]
        for name, entry in json.loads(data[8:start]).items()
        if name != "__metadata__"
    }
    shapes = {name: entry["shape"] for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"}
    change({name: part.reshape(shapes[name]) for name, part in numbers.items()})
    (folder / WEIGHTS).write_bytes(data)


def change_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# ---- What is right --------------------------------------------------------------------------------


def test_a_right_model_proves_itself_on_one_screen(right_folder: Path) -> None:
    done = start(right_folder)
    assert done.exit_code == 0, done
    assert run(right_folder) == done
    lines = done.stdout.splitlines()
    assert lines[-1].startswith("proved: ") and len(lines) <= 24 and max(map(len, lines)) <= 120
    for operator, line in zip(OPERATORS, lines[4:], strict=False):
        count = str(len(list_of(operator, 2)))
        assert line.split()[:5] == [operator, *[count] * 4]


def test_a_folder_may_be_named(right_folder: Path, tmp_path: Path) -> None:
    shutil.copy(SOURCE, tmp_path / VERIFY)
    assert start(tmp_path, str(right_folder)).exit_code == 0
    assert CONFIG in last_line(start(tmp_path), 2)


def test_a_right_window_model_proves_itself(any_length: TrainedModel, tmp_path: Path) -> None:
    for name, model, is_right in (("half", any_length.half, False), ("whole", any_length.model, True)):
        claims = {"base": any_length.data.numbers.base}
        done = run(write_folder(tmp_path / name, model, any_length.tokenizer.get_vocab(), claims))
        assert done.exit_code == (0 if is_right else 7), done
        report = all_lengths.prove_all_lengths(Engine(model, torch.float64), any_length.vocabulary)
        row = done.stdout.splitlines()[4].split()
        assert row[:2] == ["+", str(report["checked"])]
        assert (row[3] == row[2]) == is_right == (report["wrong"] == 0)
        assert float(row[5]) == pytest.approx(report["min_logit_margin"], abs=1e-3)


@pytest.mark.parametrize("activation", ["gelu", "gelu_new"])
def test_leads_are_those_of_the_package_and_float32_is_nearer_to_them_than_the_bound(activation: str) -> None:
    base, ids, generator = 3, columns_ids(3), torch.Generator().manual_seed(1)
    model = grid_model(base, n_embd=32, activation_function=activation, initializer_range=0.2)
    for name, weight in model.named_parameters():
        if "ln_" in name or name.endswith("bias"):
            weight.data += 0.3 * torch.randn(weight.shape, generator=generator)
    weights = {
        name.removeprefix("transformer.").removeprefix("h.0."): weight.detach().double().numpy()
        for name, weight in model.named_parameters()
    }
    every = [one for operator in OPERATORS for one in list_of(operator, base)]
    tokens, kinds, is_seen, right = asked(every, ids)
    codes = torch.where(is_seen, tokens * len(KINDS) + kinds, -1)
    own = (tokens * len(KINDS) + kinds)[:, -1:]
    rows = torch.cat([own, right[:, None], codes[:, :-1]], dim=1).numpy()
    found, moved, left = verify.ask(model.config.to_dict(), weights, len(KINDS), rows)
    exact = lead(ContextEngine(model, torch.float64).logits(tokens, kinds, is_seen), right).numpy()
    # array_split keeps the order
    np.testing.assert_allclose(found, exact, atol=1e-5)
    rounded = lead(ContextEngine(model, torch.float32).logits(tokens, kinds, is_seen), right).numpy()
    whole = lead(said_at_once(model, tokens, kinds, is_seen).detach(), right).numpy()
    for other in (rounded, whole):
        assert (abs(other - exact) <= moved).all() and abs(other - exact).max() > 0
        assert (other >= exact - (found - left).clip(0) - 1e-9).all()
    assert moved.max() < 1  # it says something


# ---- What is wrong --------------------------------------------------------------------------------


def test_a_negated_matrix_is_found(folder: Path) -> None:
    def negate(tensors: dict) -> None:
        tensors["transformer.h.0.mlp.c_proj.weight"][:] *= -1

    change_weights(folder, negate)
    assert "contexts are wrong" in refused(folder, 7)


def test_two_exchanged_digits_are_found(folder: Path) -> None:
    zero, one = (columns_ids(2)[digit] for digit in "01")

    def exchange(tensors: dict) -> None:
        table = tensors["transformer.wte.weight"]
        table[[zero, one]] = table[[one, zero]]

    change_weights(folder, exchange)
    assert "contexts are wrong" in refused(folder, 7)


def test_a_changed_exponent_is_found(folder: Path) -> None:
    def change(tensors: dict) -> None:
        table = tensors["transformer.wte.weight"]
        table[columns_ids(2)["|"]].view(np.uint32)[:4] ^= 1 << 25  # times or by 16

    change_weights(folder, change)
    assert "contexts are wrong" in refused(folder, 7)


@pytest.mark.parametrize("pair", ["01", "|=", "¹1", "+-"])
def test_other_tokens_than_those_of_the_model_are_found(folder: Path, pair: str) -> None:
    def exchange(tokenizer: dict) -> None:
        vocab = tokenizer["model"]["vocab"]
        vocab[pair[0]], vocab[pair[1]] = vocab[pair[1]], vocab[pair[0]]

    change_json(folder / TOKENIZER, exchange)
    assert "token_id" in refused(folder, 7)


def test_other_tokens_of_the_model_and_of_the_tokenizer_are_found(folder: Path) -> None:
    def exchange(tokenizer: dict) -> None:
        vocab = tokenizer["model"]["vocab"]
        vocab["0"], vocab["1"] = vocab["1"], vocab["0"]

    change_json(folder / TOKENIZER, exchange)
    change_json(folder / CONFIG, lambda config: config["digit_token_ids"].reverse())
    assert "contexts are wrong" in refused(folder, 7)


@pytest.mark.parametrize("weight", [np.nan, np.inf, 3e38])
def test_weights_that_are_no_numbers_prove_nothing(folder: Path, weight: float) -> None:
    def change(tensors: dict) -> None:
        tensors["transformer.h.0.mlp.c_fc.weight"][0, 0] = weight

    change_weights(folder, change)
    refused(folder, 7)


def test_what_is_right_by_less_than_rounding_is_not_proved(folder: Path, right_model: SimpleLLMForCausalLM) -> None:
    """A matrix is made smaller until the smallest lead is next to nothing."""
    every = [one for operator in OPERATORS for one in list_of(operator, 2)]
    *cells, right = asked(every, columns_ids(2))
    name = "transformer.h.0.mlp.c_proj.weight"
    matrix = dict(right_model.named_parameters())[name].detach()

    model = SimpleLLMForCausalLM.from_pretrained(folder)

    def smallest_lead(scale: float) -> float:
        dict(model.named_parameters())[name].data.copy_(scale * matrix)
        return lead(ContextEngine(model, torch.float64).logits(*cells), right).min().item()

    wrong, right_scale = 0.0, 1.0
    for _ in range(40):
        middle = (wrong + right_scale) / 2
        wrong, right_scale = (wrong, middle) if smallest_lead(middle) > 0 else (middle, right_scale)
        if smallest_lead(right_scale) < 1e-4:
            break
    assert 1e-5 < smallest_lead(right_scale) < 1e-4

    def change(tensors: dict) -> None:
        tensors[name][:] = right_scale * matrix.numpy()

    change_weights(folder, change)
    assert f": 0 of {len(every)} contexts are wrong, " in refused(folder, 7)


def test_random_flips_are_judged_as_the_package_judges_them(
    folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float64 the package's own forward says the same of all contexts; what is surely right is so, too."""
    generator, right_bytes, verdicts = random.Random(4), (folder / WEIGHTS).read_bytes(), []
    start = 8 + int.from_bytes(right_bytes[:8], "little")
    every = [one for operator in OPERATORS for one in list_of(operator, 2)]
    *cells, right = asked(every, columns_ids(2))
    model = SimpleLLMForCausalLM.from_pretrained(folder)
    monkeypatch.setattr(verify, "check_the_list", lambda *one: None)  # it is the same one 40 times
    for _ in range(40):
        data = bytearray(right_bytes)
        data[generator.randrange(start, len(data))] ^= 1 << generator.randrange(8)
        (folder / WEIGHTS).write_bytes(data)
        model.load_state_dict(load(bytes(data)), strict=False)  # the table of tokens is the head's, and is there once
        is_right = bool((lead(ContextEngine(model, torch.float64).logits(*cells), right) > 0).all())
        with np.errstate(all="ignore"), pytest.raises(SystemExit) as stopped:
            verify.prove(folder)
        said = capsys.readouterr().out
        rows = [line.split() for line in said.splitlines() if line[:2] in ("+ ", "- ", "* ", "/ ")]
        is_finite = all(bool(weight.isfinite().all()) for weight in model.parameters())
        assert (is_finite and all(row[2] == row[3] for row in rows)) == (is_right and is_finite)
        assert (stopped.value.code == 0) <= is_right
        assert stopped.value.code in (0, 7)
        verdicts.append((is_right, stopped.value.code))
    assert {is_right for is_right, _ in verdicts} == {False, True}
    assert (True, 0) in verdicts


# ---- Files that are damaged, and other models ------------------------------------------------------


@pytest.mark.parametrize("name", [CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS])
def test_files_that_are_missing_cut_off_or_garbage_are_refused_in_one_line(folder: Path, name: str) -> None:
    path = folder / name
    whole = path.read_bytes()
    garbage = random.Random(0).randbytes(len(whole))
    for content in (b"", whole[:7], whole[:100], whole[: len(whole) // 2], whole[:-5], garbage, b"[]", b"{}", b"null"):
        if content != whole:
            path.write_bytes(content)
            refused(folder, 2)
    path.unlink()
    assert name in refused(folder, 2)
    path.mkdir()
    refused(folder, 2)


def test_headers_that_lie_are_refused(folder: Path) -> None:
    path = folder / WEIGHTS
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + size])
    name = "transformer.ln_f.weight"
    for change in (
        {"dtype": "F16"},
        {"shape": [2**62]},
        {"shape": "x"},
        {"data_offsets": [2**63, 2**63 + 4]},
        {"data_offsets": None},
    ):
        text = json.dumps({**header, name: {**header[name], **change}}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])
        refused(folder, 2)
    path.write_bytes((2**63).to_bytes(8, "little") + whole[8:])
    refused(folder, 2)
    shorter = {**header, name: {**header[name], "shape": [1]}}
    without = {key: one for key, one in header.items() if key != name}
    for changed in (shorter, without, {**header, "more": header[name]}):
        text = json.dumps(changed).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + whole[8 + size :])
        refused(folder, 7)
    path.write_bytes(whole + b"\0\0\0\0")
    refused(folder, 7)


@pytest.mark.parametrize(
    "changed",
    [
        {"n_layer": 2},
        {"tokens_per_step": 2},
        {"scratchpad": "none"},
        {"position_embedding": "learned"},
        {"attention_window": {"left": 0, "right": 1}},
        {"attention_window": {"left": 10**9, "right": 1}, "position_period": 4, "scratchpad": "none"},
        {"attention_window": {"left": 0, "right": 0}, "position_period": 4, "scratchpad": "none"},
    ],
)
def test_a_model_that_cannot_be_listed_is_refused(folder: Path, changed: dict) -> None:
    change_json(folder / CONFIG, lambda config: config.update(changed))
    assert CANNOT_BE_LISTED in refused(folder, 2)


@pytest.mark.parametrize("changed", [{"reversed": False}, {"operators": ""}, {"operators": "+%"}, {"base": 40}])
def test_claims_that_cannot_be_listed_are_refused(folder: Path, changed: dict) -> None:
    change_json(folder / TOKENIZER_CONFIG, lambda claims: claims.update(changed))
    assert CANNOT_BE_LISTED in refused(folder, 2)


# ---- The file itself ------------------------------------------------------------------------------


def test_help_is_what_the_file_says_of_itself_and_an_output_that_is_closed_ends_it_quietly() -> None:
    done = subprocess.run([sys.executable, SOURCE, "--help"], capture_output=True, encoding="utf-8", timeout=120)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, verify.__doc__.strip(), "")
    end, start = os.pipe()
    os.close(end)
    with os.fdopen(start, "w") as closed:
        done = subprocess.run([sys.executable, SOURCE, "--help"], stdout=closed, stderr=subprocess.PIPE, timeout=120)
    assert (done.returncode, done.stderr) == (141, b"")


def test_it_needs_numpy_and_the_standard_library_alone_and_fits_on_a_few_pages() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 10))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} - sys.stdlib_module_names == {"numpy"}
    assert not any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))
    assert len(SOURCE.read_text(encoding="utf-8").splitlines()) <= 300
