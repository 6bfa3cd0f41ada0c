"""What the page takes from npm: the runtime and typefaces, at the versions web/package.json pins."""

import json
import math
import shutil
import subprocess
from pathlib import Path

from simple_llm.errors import EnvironmentFault
from simple_llm.files.writing import exclusive

PACKAGE_JSON = Path(__file__).with_name("package.json")
INSTALLED = PACKAGE_JSON.parent.parent / ".npm"

# From a package's folder into the page's.
RUNTIME = {  # the smallest build that runs models: on the processor alone
    f"onnxruntime-web/dist/{name}": f"onnxruntime/{name}"
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
}
FONTS = {
    f"@fontsource-variable/{font}/{source}": f"fonts/{target}"
    for font, source, target in (
        ("newsreader", "files/newsreader-latin-opsz-normal.woff2", "newsreader-latin-opsz-normal.woff2"),
        ("newsreader", "LICENSE", "newsreader-LICENSE"),
        ("jetbrains-mono", "files/jetbrains-mono-latin-wght-normal.woff2", "jetbrains-mono-latin-wght-normal.woff2"),
        ("jetbrains-mono", "LICENSE", "jetbrains-mono-LICENSE"),
    )
}
FILES = RUNTIME | FONTS


def copy_packages(output: Path, files: dict[str, str] = FILES) -> None:
    """Put what the page needs of npm's packages, some of FILES, into its folder.

    Raises:
        EnvironmentFault: they are not installed, and npm is not there or fails.
    """
    if not _is_installed():
        with exclusive(INSTALLED, patience=math.inf):
            if not _is_installed():  # by the process that was waited for
                _install()
    for source, target in files.items():
        (output / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(INSTALLED / "node_modules" / source, output / target)


def _is_installed() -> bool:
    """Whether every package is there, whole and at its version."""
    if not all((INSTALLED / "node_modules" / source).exists() for source in FILES):
        return False
    for name, version in json.loads(PACKAGE_JSON.read_text("utf-8"))["dependencies"].items():
        try:
            installed = json.loads((INSTALLED / "node_modules" / name / "package.json").read_text("utf-8"))["version"]
        except (FileNotFoundError, ValueError, KeyError):
            return False
        if installed != version:
            return False
    return True


def _install() -> None:
    shutil.copyfile(PACKAGE_JSON, INSTALLED / "package.json")
    quietly = ["--omit=dev", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(
            ["npm", "install", *quietly, "--prefix", str(INSTALLED)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise EnvironmentFault("npm not found; install Node.js: the page's runtime comes from npm") from None
    if done.returncode:
        reason = next(iter(done.stderr.strip().splitlines()), "no reason given")
        raise EnvironmentFault(f"npm could not install the page's runtime: {reason}")
