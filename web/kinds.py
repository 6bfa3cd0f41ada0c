"""The two kinds of page, and what each is made of: one for sums said in one row, one for work on paper."""

from dataclasses import dataclass
from pathlib import Path

from simple_llm.files.names import WEIGHTS
from web.packages import FONTS, RUNTIME

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Kind:
    """A kind of page.

    Attributes:
        folder: where it is beside a page of the other kind.
        sources: folders of this project whose files are the page's own.
        packages: files of npm's packages, and where they go.
        weights: the file with the model's.
        title, story: of the Space that shows it.
    """

    folder: str
    sources: tuple[Path, ...]
    packages: dict[str, str]
    weights: str
    title: str
    story: str

    @property
    def own_files(self) -> dict[str, Path]:
        """The page's own files, by where they go."""
        return {
            str(path.relative_to(source)): path
            for source in self.sources
            for path in sorted(source.rglob("*"))
            if path.is_file()
        }


SUMS = Kind(
    folder="sums",
    sources=(HERE / "shared", HERE / "sums"),
    packages=FONTS | RUNTIME,
    weights="model.onnx",
    title="A transformer that adds",
    story="A small GPT-2, trained from scratch on sums, that adds two numbers in your browser and shows how.",
)
CALCULATOR = Kind(
    folder="calculator",
    sources=(HERE / "shared", HERE / "calculator"),
    packages=FONTS,
    weights=WEIGHTS,
    title="A transformer that calculates",
    story="A transformer of one block that calculates as on paper in your browser, and proves there that it is right.",
)
KINDS = (SUMS, CALCULATOR)
