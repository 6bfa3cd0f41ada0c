"""Copy a proved model to where the repository keeps it: what an upload of it would hold, and nothing else.

    python3 -m runs.keep_model [FOLDER]             default: ../simple-llm-data/calculator, as make calculator left it

Reads   the model folder FOLDER, with its certificate
Writes  models/calculator, anew; refused (exit code 7) where a context is wrong or was not asked, or where no commit
        holds the code that made the model
"""

import argparse
from pathlib import Path

from runs.pipeline import REPOSITORY
from simple_llm import command_line
from simple_llm.errors import GateError, UsageError
from simple_llm.evaluation.certificates import read_as_certificate
from simple_llm.evaluation.reports import read_reports
from simple_llm.files.names import CERTIFICATE, WEIGHTS
from simple_llm.files.writing import write_file
from simple_llm.model.folder import KEPT_MODEL, load_model, LoadedModel
from simple_llm.sharing.hub import uploaded_names
from simple_llm.sharing.model_card import write_card

MADE = REPOSITORY.parent / "simple-llm-data" / "calculator"


def main(arguments: argparse.Namespace) -> None:
    folder = arguments.folder
    require_proved(folder, load_model(folder))
    require_replaceable(folder, uploaded_names(folder))
    write_card(folder)
    names = uploaded_names(folder)
    KEPT_MODEL.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_file(KEPT_MODEL / name, (folder / name).read_bytes())
    for path in KEPT_MODEL.iterdir():
        if path.name not in names:
            path.unlink()
    print(f"{KEPT_MODEL}: {len(names)} files, {sum((KEPT_MODEL / name).stat().st_size for name in names):,} bytes")


def require_replaceable(folder: Path, names: list[str]) -> None:
    """Refuse to replace a model by itself, or a folder that holds more than a model.

    Raises:
        UsageError: which of the two.
    """
    if folder.resolve() == KEPT_MODEL.resolve():
        raise UsageError(f"{folder} is where the kept model lies; name the folder of another one")
    kept = uploaded_names(KEPT_MODEL) if (KEPT_MODEL / WEIGHTS).exists() else []
    others = [path.name for path in KEPT_MODEL.glob("*") if path.name not in {*names, *kept}]
    if others:
        raise UsageError(f"{KEPT_MODEL} holds {', '.join(sorted(others))}, no part of a model; move it away")


def require_proved(folder: Path, loaded: LoadedModel) -> None:
    """Refuse a model that is not right in every case, or whose code cannot be looked up.

    Raises:
        GateError: which of the two.
    """
    report = read_reports(folder, loaded.sha256).get(CERTIFICATE)
    certificate = report and read_as_certificate(report)
    if not certificate or not certificate.is_whole or certificate.wrong:
        raise GateError(f"{folder} has no certificate that all is right; `evaluate.py --all-lengths` writes one")
    made_at = loaded.manifest.get("commit")
    if not made_at or made_at.endswith("-dirty"):
        raise GateError(f"{folder} was made by code that no commit holds: {made_at or 'outside a checkout'}")


if __name__ == "__main__":
    made = command_line.parser(__doc__)
    made.add_argument("folder", type=command_line.path, nargs="?", default=MADE, metavar="FOLDER")
    asked = made.parse_args()
    command_line.run(main, asked, debug=asked.debug)
