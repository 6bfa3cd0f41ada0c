"""The proved model that the repository keeps: it is whole, it answers, and it proves itself."""

import argparse
import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from runs import keep_model
from simple_llm.errors import GateError, UsageError
from simple_llm.files.names import CARD, CERTIFICATE
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import KEPT_MODEL, load_model
from simple_llm.sharing.model_card import model_card, NEEDS, read_card_facts

pytestmark = pytest.mark.library


@pytest.fixture(scope="module")
def kept():
    return load_model(KEPT_MODEL)


def test_it_is_under_a_megabyte_and_its_card_names_the_commit_that_made_it(kept):
    assert sum(path.stat().st_size for path in KEPT_MODEL.iterdir()) < 1_000_000
    assert re.fullmatch("[0-9a-f]{12}", kept.manifest["commit"])
    assert f"`{kept.manifest['commit']}`" in (KEPT_MODEL / CARD).read_text(encoding="utf-8")
    keep_model.require_proved(KEPT_MODEL, kept)


def test_its_card_is_as_cards_are_written_now_and_shows_the_work_that_it_does(kept):
    card = (KEPT_MODEL / CARD).read_text(encoding="utf-8")
    facts = dataclasses.replace(read_card_facts(KEPT_MODEL), needs=NEEDS)  # its code was the package's when it was made
    assert card == model_card(facts)
    calculator = Calculator(kept, torch.device("cpu"))
    [problem] = re.findall(r"the work on `(.*)`", card)
    assert f"```text\n{calculator.trace(calculator.parse(problem))}\n```\n" in card


def test_fault_34_a_model_is_kept_in_place_of_another_and_of_no_file_of_somebody_else(kept, tmp_path, monkeypatch):
    place = tmp_path / "kept"
    monkeypatch.setattr(keep_model, "KEPT_MODEL", place)
    monkeypatch.setattr(keep_model, "write_card", lambda folder: None)
    shutil.copytree(KEPT_MODEL, place)
    (place / CARD).write_text("of the model before")
    (place / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in place.iterdir()}
    for source, message in (
        (KEPT_MODEL, "holds notes.txt, no part of a model"),
        (place, "is where the kept model lies"),
    ):
        with pytest.raises(UsageError, match=message):
            keep_model.main(argparse.Namespace(folder=source))
    assert {path: path.read_bytes() for path in place.iterdir()} == before
    (place / "notes.txt").unlink()
    keep_model.main(argparse.Namespace(folder=KEPT_MODEL))
    assert (place / CARD).read_bytes() == (KEPT_MODEL / CARD).read_bytes()


@pytest.mark.parametrize(
    ("spoiled", "message"),
    [
        ({"commit": None}, "no commit holds: outside a checkout"),
        ({"commit": "0123456789ab-dirty"}, "no commit holds: 0123456789ab-dirty"),
    ],
)
def test_a_model_is_not_kept_whose_code_cannot_be_looked_up(kept, spoiled, message, monkeypatch):
    monkeypatch.setitem(kept.manifest, "commit", spoiled["commit"])
    with pytest.raises(GateError, match=message):
        keep_model.require_proved(KEPT_MODEL, kept)


def test_a_model_is_not_kept_without_a_certificate_that_all_is_right(kept, tmp_path):
    folder = Path(shutil.copytree(KEPT_MODEL, tmp_path / "model"))
    for change in ({"wrong": 1}, {"checked": 5}, {"model_sha256": "0" * 64}):
        certificate = json.loads((KEPT_MODEL / CERTIFICATE).read_bytes()) | change
        (folder / CERTIFICATE).write_text(json.dumps(certificate), encoding="utf-8")
        with pytest.raises(GateError, match="no certificate that all is right"):
            keep_model.require_proved(folder, kept)
