"""Sums, the tokens and positions that they are to the model, and what tokens mean as answers: Python and page agree."""

import json
from pathlib import Path

GOLDEN = json.loads(Path(__file__).with_name("golden_encodings.json").read_text())
