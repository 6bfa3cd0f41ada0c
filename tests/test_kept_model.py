"""The proved model that the repository keeps: it is whole, it answers, and it proves itself."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from runs import keep_model
from simple_llm.errors import GateError
from simple_llm.files.names import CARD, CERTIFICATE
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import KEPT_MODEL, load_model
from simple_llm.sharing.model_card import model_card, read_card_facts

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
    assert card == model_card(read_card_facts(KEPT_MODEL))
    calculator = Calculator(kept, torch.device("cpu"))
    [problem] = re.findall(r"the work on `(.*)`", card)
    assert f"```text\n{calculator.trace(calculator.parse(problem))}\n```\n" in card


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
