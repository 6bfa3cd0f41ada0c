"""The repository's scripts, called one after another by what compares runs."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent


def script(name: str, *arguments: str) -> dict[str, object]:
    """Run one of the repository's scripts; return the JSON it ends in."""
    command = [sys.executable, name, *arguments, "--json"]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
