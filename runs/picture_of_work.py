"""An animated picture of a product that a model works out on paper, beside what each token of it sees.

    python3 -m runs.picture_of_work --model DIR [--output docs/images/work.svg] ["57*46"]

One SVG that moves by itself, without a script, in the colours of the page, from its style.css, light and dark; where
nothing may move it shows one token. Every token in it was said by the model.
"""

import argparse
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from simple_llm import command_line
from simple_llm.arithmetic.digits import DIGIT_ALPHABET
from simple_llm.arithmetic.row import PRODUCT
from simple_llm.arithmetic.symbols import BAR, END, RAISED, TIMES
from simple_llm.errors import UsageError
from simple_llm.evaluation.attention_maps import CELLS, tokens_in_view
from simple_llm.files.ours import SOFTWARE
from simple_llm.files.writing import write_ours
from simple_llm.machine import resolve_device
from simple_llm.model.calculator import Calculator
from simple_llm.model.folder import load_model
from simple_llm.model.places_simple_llm import Grid
from simple_llm.sharing.fetching import fetch_model

STYLE = Path(__file__).parents[1] / "web" / "shared" / "style.css"
SECONDS, LAST_SECONDS = 1.6, 5.0  # of each token, and of the result
MOST_COLUMNS = 8
LEFT, TOP, CELL, STRIP, GAP = 28, 80, 46, 30, 8  # STRIP: height of the carries above a row; GAP: between rows
PANEL, LINE = 270, 30  # width of what is told beside the paper, height of a line
CROSS = "\u00d7"


@dataclass(frozen=True)
class Spot:
    """Where a token stands: the middle of its square, and how high that is."""

    x: float
    y: float
    height: int = CELL


@dataclass(frozen=True)
class Work:
    """The text of a product, *75*64|2⁴4³3|2³6²2|=.

    Attributes:
        tokens: of which each from the first | on says the next.
        views: of each token, in which of CELLS it sees which other.
        base: of the digits.
    """

    tokens: Sequence[str]
    views: Sequence[dict[str, int]]
    base: int

    @classmethod
    def of(cls, tokens: Sequence[str], grid: Grid, base: int) -> "Work":
        """Look up what the tokens of a text see.

        Raises:
            UsageError: it is no product, or no picture holds it.
        """
        work = cls(tokens, tokens_in_view(grid), base)
        if tokens[0] != TIMES or tokens[-1] != END or work.num_columns > MOST_COLUMNS:
            raise UsageError(f"the picture is of a whole product of at most {MOST_COLUMNS} digits, such as 57*46")
        return work

    @property
    def start(self) -> int:
        """The first token of the work."""
        return self.tokens.index(BAR)

    @property
    def numbers(self) -> list[str]:
        """Both, lowest digit first."""
        return "".join(self.tokens[1 : self.start]).split(TIMES)

    @property
    def num_columns(self) -> int:
        return self.start - 2

    @property
    def num_rows(self) -> int:
        return len(self.numbers[-1])

    @property
    def question(self) -> str:
        return f" {CROSS} ".join(number[::-1] for number in self.numbers)

    @property
    def edge(self) -> list[int]:
        """The digits of the result, lowest first: the lowest of each row, and what is left of the last."""
        starts = [index for index, token in enumerate(self.tokens) if token == BAR]
        return [*(start + 1 for start in starts[:-2]), *range(starts[-2] + 1, starts[-1], 2)]

    @property
    def result(self) -> str:
        return "".join(self.tokens[index] for index in reversed(self.edge)).lstrip("0") or "0"

    def spots(self) -> dict[int, Spot]:
        """Where tokens stand, but for the second * and =: heads beside their rows, carries above their columns."""
        first, second = map(len, self.numbers)
        found = {0: beside(self.num_columns, 0)}
        found |= {1 + column: on_paper(self.num_columns, 0, column) for column in range(first)}
        found |= {2 + first + row: beside(self.num_columns, 1 + row) for row in range(second)}
        row = since = 0
        for index, token in enumerate(self.tokens[self.start : -1], self.start):
            row, since = (row + 1, 0) if token == BAR else (row, since + 1)
            found[index] = on_paper(self.num_columns, row, row - 1 + since // 2, is_carry=since % 2 == 0)
        return found

    def reckoning(self, index: int) -> str:
        """What is worked out where a token speaks: 5 times 4 + 3 + 3 = 26."""
        view, said = self.views[index], self.tokens[index + 1]
        if said == END:
            return "no digit is left: the end"
        if not {"operand", "above"} & view.keys():
            return "the row is done" if said == BAR else "the carry is a digit now"
        seen = [self.tokens[view[cell]] if cell in view else BAR for cell in ("head", "operand", "above", "carry")]
        values = [worth(token) for token in seen]
        digit, following = PRODUCT.step(*values, self.base)
        head, operand, *others = values
        terms = [f"{operand} {CROSS} {head}", *(str(one) for one in others if one)]
        return f"{' + '.join(terms)} = {digit + following * self.base}"


def worth(token: str) -> int:
    """Of a digit or a carry; | stands in the place of a carry of 0."""
    return 0 if token == BAR else (RAISED if token in RAISED else DIGIT_ALPHABET).index(token)


def on_paper(num_columns: int, row: int, column: int, is_carry: bool = False) -> Spot:
    """A square of the paper: row 0 is the first number, column 0 that of the ones."""
    x, bottom = LEFT + (num_columns - column - 0.5) * CELL, TOP + CELL + row * (CELL + STRIP + GAP)
    return Spot(x, bottom - CELL - STRIP / 2, STRIP) if is_carry else Spot(x, bottom - CELL / 2)


def beside(num_columns: int, row: int) -> Spot:
    """The place to the right of a row."""
    return Spot(LEFT + (num_columns + 1.1) * CELL, on_paper(num_columns, row, 0).y)


def picture(work: Work) -> str:
    """Draw a text: an SVG with a frame for each token that speaks, and one for the result."""
    speakers = range(work.start, len(work.tokens) - 1)
    side = LEFT + (work.num_columns + 2.5) * CELL  # where the panel begins
    bottom = max(on_paper(work.num_columns, work.num_rows + 1, 0).y + CELL, TOP + LINE * 9)
    width, height = side + PANEL, bottom + 52
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="{work.question} = {work.result}, worked out on paper token by '
        'token, and what each token sees">',
        f"<!-- made by {SOFTWARE} --><style>{style(len(speakers))}</style>",
        f'<rect class="sheet" x="0.5" y="0.5" width="{width - 1:g}" height="{height - 1:g}" rx="14"/>',
        _text(LEFT, 44, work.question, "title"),
        _text(side, 44, "each token sees five at most", "quiet"),
        *_squares(work),
    ]
    for frame, index in enumerate(speakers):
        is_still = index == work.edge[-1] - 2  # shown where nothing may move
        parts += [_group(frame, "frame still" if is_still else "frame"), *_view(work, index, side, bottom + 26), "</g>"]
    parts += [_group(len(speakers), "frame"), *_result(work, side), "</g>"]
    spots = work.spots()
    for index, token in enumerate(work.tokens):  # each is there from the frame on after the one in which it is said
        parts.append(f"<g{_moving('a', index - work.start) if index > work.start else ''}>")
        parts.append(_text(LEFT + 8 + 18 * index, bottom + 26, token, "text"))
        if index in spots:
            spot, is_carry = spots[index], spots[index].height == STRIP
            kind = "carry" if is_carry and token != BAR else "digit"
            parts.append(_text(spot.x, spot.y + (8 if is_carry else 6), token, kind))
        parts.append("</g>")
    return "\n".join([*parts, "</svg>"]) + "\n"


def _squares(work: Work) -> Iterator[str]:
    """The squares of the paper."""
    right, last = LEFT + work.num_columns * CELL, on_paper(work.num_columns, work.num_rows + 1, 0)
    for column in range(work.num_columns + 1):
        yield f'<path class="square" d="M{LEFT + column * CELL} {TOP}V{last.y + CELL / 2:g}"/>'
    for row in range(work.num_rows + 2):
        top = on_paper(work.num_columns, row, 0).y - CELL / 2
        yield f'<path class="square" d="M{LEFT} {top:g}H{right}M{LEFT} {top + CELL:g}H{right}"/>'


def _view(work: Work, index: int, side: float, baseline: float) -> Iterator[str]:
    """A token that speaks: what it sees, on the paper and in words, and what it says."""
    spots, view, said = work.spots(), work.views[index], work.tokens[index + 1]
    for cell, seen in view.items():
        yield _square(spots[seen], "seen")
        yield _text(spots[seen].x, spots[seen].y + spots[seen].height / 2 - 4, cell, "cell")
    yield _square(spots[index], "speaks")
    if index + 1 in spots:
        yield _square(spots[index + 1], "says")
    yield f'<rect class="seen" x="{LEFT + 18 * index:g}" y="{baseline - 17:g}" width="16" height="24" rx="4"/>'
    yield _text(side, TOP + 20, f"{work.tokens[index]} sees", "value")
    for number, cell in enumerate(CELLS):
        y = TOP + 20 + LINE * (number + 1.2)
        yield _text(side, y, cell, "name" if cell in view else "name none")
        if cell in view:
            yield _text(side + 110, y, work.tokens[view[cell]], "value")
    yield _text(side, TOP + 20 + LINE * 7, "and says", "name")
    yield _text(side + 110, TOP + 20 + LINE * 7, said, "said")
    yield _text(side, TOP + 20 + LINE * 8, work.reckoning(index), "name")


def _result(work: Work, side: float) -> Iterator[str]:
    """The result below all rows, and where it was read off."""
    spots = work.spots()
    for index in work.edge:
        yield _square(spots[index], "seen")
    for column, digit in enumerate(reversed(work.result)):
        spot = on_paper(work.num_columns, work.num_rows + 1, column)
        yield _text(spot.x, spot.y + 6, digit, "digit said")
    yield _text(side, TOP + 20, f"{work.question} =", "value")
    yield _text(side, TOP + 20 + LINE * 1.2, work.result, "said")
    yield _text(side, TOP + 20 + LINE * 2.4, "read along the edge", "name")


def _square(spot: Spot, kind: str) -> str:
    x, y = spot.x - CELL / 2 + 1.5, spot.y - spot.height / 2 + 1.5
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{CELL - 3}" height="{spot.height - 3}" rx="5"/>'


def _text(x: float, y: float, content: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{html.escape(content)}</text>'


def _group(frame: int, kind: str) -> str:
    return f'<g class="{kind}"{_moving("f", frame)}>'


def _moving(kind: str, frame: int) -> str:
    return f' style="animation-name:{kind}{frame}"'


def style(num_frames: int) -> str:
    """Colours and type, which are the page's, and when what is there: f3 in frame 3 alone, a3 from frame 3 on."""
    css, total = STYLE.read_text(encoding="utf-8"), num_frames * SECONDS + LAST_SECONDS
    colors = re.findall(r"--([\w-]+): light-dark\((oklch\([^)]*\)), (oklch\([^)]*\))\)", css)
    light, dark = (";".join(f"--{name}:{pair[which]}" for name, *pair in colors) for which in (0, 1))
    [font] = re.findall(r"--mono: (.+);", css)
    moves = []
    for frame in range(num_frames + 1):
        begins, ends = (f"{100 * (frame + more) * SECONDS / total:.2f}%" for more in (0, 1))
        until = f"{ends}{{opacity:0}}" if frame < num_frames else ""
        moves.append(f"@keyframes f{frame}{{0%{{opacity:0}}{begins}{{opacity:1}}{until}}}")
        moves.append(f"@keyframes a{frame}{{0%{{opacity:0}}{begins}{{opacity:1}}}}")
    return f"""
svg{{{light};font-family:{font}}}
@media (prefers-color-scheme:dark){{svg{{{dark}}}}}
text{{fill:var(--ink);font-size:15px}}
.sheet{{fill:var(--paper);stroke:var(--line)}}
.square{{stroke:var(--line);fill:none}}
.title{{font-size:23px;font-weight:600}}
.digit,.carry,.cell,.text{{text-anchor:middle}}
.digit{{font-size:25px}}
.carry{{font-size:26px}}
.cell{{font-size:9px;fill:var(--accent)}}
.quiet,.name,.text{{fill:var(--quiet)}}
.none{{opacity:.45}}
.value{{font-size:20px}}
.said{{font-size:25px;font-weight:700;fill:var(--accent)}}
.seen{{fill:var(--accent);fill-opacity:.14}}
.speaks{{fill:none;stroke:var(--accent);stroke-width:2.5}}
.says{{fill:none;stroke:var(--accent);stroke-width:2;stroke-dasharray:3 4}}
.frame{{opacity:0}}
.still{{opacity:1}}
@media (prefers-reduced-motion:no-preference){{g[style]{{animation:{total:g}s step-end infinite}}}}
{"".join(moves)}
"""


def work_of(calculator: Calculator, problem: str) -> Work:
    """Have a model work a product out."""
    transcript = calculator.transcript(calculator.parse(problem))
    text = transcript.read + transcript.said[-1:]
    grid = calculator.model.grid(torch.tensor([text], device=calculator.model.device))
    return Work.of(calculator.loaded.tokenizer.convert_ids_to_tokens(text), grid, calculator.vocabulary.base)


def main(arguments: argparse.Namespace) -> None:
    calculator = Calculator(load_model(fetch_model(arguments.model)), resolve_device("auto"))
    if calculator.vocabulary.work_ids is None:
        raise UsageError("the picture is of work on paper, which this model does not write; see docs/CALCULATOR.md")
    svg = picture(work_of(calculator, arguments.problem)).encode()
    write_ours(arguments.output, svg)
    print(f"wrote {arguments.output}, {len(svg):,} bytes")


if __name__ == "__main__":
    made = command_line.parser(__doc__)
    made.add_argument("--model", type=command_line.model_name, required=True, metavar="DIR")
    made.add_argument("--output", type=command_line.path, default=Path("docs/images/work.svg"), metavar="SVG")
    made.add_argument("problem", nargs="?", default="57*46", metavar="PRODUCT")
    command_line.run(main, made.parse_args())
