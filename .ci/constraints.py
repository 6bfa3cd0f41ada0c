"""Write constraints.txt from pip's report of what a fresh environment would get; `make constraints` runs this."""

import json
import re
import sys
from pathlib import Path

HEADER = """\
# What the suite was run with, to the last version. Written by `make constraints`, never by hand; see docs/VERSIONS.md.
# Without what a build of torch for GPUs brings (cuda-*, nvidia-*, triton): torch names those versions itself.
"""
OF_GPU_BUILDS = ("cuda-", "nvidia-", "triton")


def constraints(report: dict) -> list[str]:
    """The lines, sorted; a version is without the name of a local build, as in 2.13.0+cpu."""
    found = {}
    for one in report["install"]:
        metadata = one["metadata"]
        name = re.sub(r"[-_.]+", "-", metadata["name"]).lower()
        found[name] = metadata["version"].partition("+")[0]
    return [f"{name}=={version}" for name, version in sorted(found.items()) if not name.startswith(OF_GPU_BUILDS)]


if __name__ == "__main__":
    report, target = map(Path, sys.argv[1:])
    target.write_text(HEADER + "".join(f"{line}\n" for line in constraints(json.loads(report.read_bytes()))))
