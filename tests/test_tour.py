"""docs/tour.ipynb runs from a checkout, from the first cell to the last, on a model that is trained in seconds."""

import nbformat
import pytest
from nbclient import NotebookClient

from tests.pipeline import REPOSITORY

pytestmark = pytest.mark.library

TOUR = REPOSITORY / "docs" / "tour.ipynb"
# In base 2, and all that can occur on paper does in these rows: 3 of 3 seeds were proved, with leads of 3.5 logits.
SMALL = [
    "numbers.base=2",
    "numbers.sizes={add: [6, 6], subtract: [6, 6], multiply: [5, 4], divide: [7, 5]}",
    *(f"operations.{name}=0.2" for name in ("add", "subtract", "multiply")),
    "operations.divide=0.4",
    "split.seed=1",  # with 0 / 1 in training, which alone shows a context
    "storage.num_sequences=1500",
    "model.n_embd=32",
    "model.n_inner=64",
    "training.batch_size=64",
    "training.precision=fp32",
    *(f"training.{name}=300" for name in ("max_steps", "eval_every", "save_every")),
]
NUM_CONTEXTS = 45 + 57 + 70 + 89


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said_by(cell, name):
    return "".join(output.text for output in cell.outputs if output.get("name") == name)


def test_the_notebook_is_kept_without_outputs():
    notebook = nbformat.read(TOUR, as_version=4)
    nbformat.validate(notebook)
    assert [cell.id for cell in code_cells(notebook) if cell.outputs or cell.execution_count is not None] == []
    assert {key for cell in notebook.cells for key in cell.metadata} == {"tags"}
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}


def test_the_notebook_trains_a_model_proves_it_and_has_it_divide_long_numbers(tmp_path):
    notebook = nbformat.read(TOUR, as_version=4)
    [parameters] = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    parameters.source += f"\nfolder, overrides, product = Path({str(tmp_path)!r}), {SMALL}, (7, 5)"
    NotebookClient(notebook, startup_timeout=600, resources={"metadata": {"path": str(TOUR.parent)}}).execute()
    cells = {cell.id: cell for cell in code_cells(notebook)}
    assert "training: 100%" in said_by(cells["train"], "stderr")
    assert "57*46=2622\n" in said_by(cells["ask"], "stdout")
    assert f"{NUM_CONTEXTS} of {NUM_CONTEXTS} contexts right, which is every sum" in said_by(cells["prove"], "stdout")
    assert "proved: the model works out + - * / rightly in base 2" in said_by(cells["again"], "stdout")
    shown = {name: [kind for one in cell.outputs for kind in one.get("data", ())] for name, cell in cells.items()}
    assert ("text/html" in shown["text"], "image/png" in shown["train"], "image/png" in shown["look"]) == (True,) * 3
    assert (tmp_path / "certificate.json").exists()
