"""Many rows of work on paper at once: who writes which, what each token of them sees, and what may come next.

Shape letters in this file: N problems, P pens, L of them that are at work.

A pen says one token a step. In a product a row may follow the row above at three tokens' distance: the digit above,
one column further up, was said one step before. In a sum it is the same column, so one token's distance will do:

    *75*64|         step  0 1 2 3 4 5 6 7      +21+378+4|         step  0 1 2 3 4 5 6 7
           row 1          2 ⁴ 4 ³ 3 |                  row 1            5 ⁰ 8 ⁰ 8 ⁰ |
           row 2                2 ³ 6 ² 2 |            row 2              9 ⁰ 8 ⁰ 8 ⁰ |
           end                        =                end                  =

So each of their rows has its own pen, as has the end. What a difference says on depends on its first row, and in a
division a head needs the whole row above: there one pen writes all, and many problems go side by side.

What does not belong where it is said ends its row, and no row below it counts.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simple_llm.arithmetic.contexts import CARRY, DIGIT, HEAD, SIGN, TOP
from simple_llm.arithmetic.symbols import BAR, END, MINUS, NOTHING, OVER, PLUS, sign, SIGNS, Symbols, TIMES
from simple_llm.model.known_contexts import KnownContexts
from simple_llm.model.questions import Questions

A_DIGIT, A_CARRY, A_BAR, A_PLUS, A_MINUS, AN_END = 1, 2, 4, 8, 16, 32  # what a symbol is; sums say what it may be
_A_SIGN = A_BAR | A_PLUS | A_MINUS | AN_END
_DISTANCE = {TIMES: 3, PLUS: 1}  # tokens from a row to the next
_NONE_WRONG = np.iinfo(np.int64).max


def classes(base: int) -> NDArray[np.int8]:
    """What each symbol is; the last two are the operators that begin no row, and what is no symbol."""
    signs = {BAR: A_BAR, PLUS: A_PLUS, MINUS: A_MINUS, END: AN_END}
    of_signs = [signs.get(one, 0) for one in SIGNS]
    return np.array([A_DIGIT] * base + [A_CARRY] * base + of_signs + [0], np.int8)


class Paper:
    """What N problems have on paper that is still in view: of each column the latest digit.

    Attributes:
        columns: of all problems, one after another, symbols; at first the digits of the first number, which stands
            above the first row. A product has none there.
        heads: alike, the digits of quotients.
        corner, room: (N,) where the columns of each problem begin, and how many it may need.
        wrong_row: (N,) the first row where something was said that does not belong there.
        has_ended: (N,) whether = was said behind the last row.
    """

    def __init__(self, questions: Questions) -> None:
        self.questions, self.base = questions, questions.base
        self.room = _columns(questions)
        self.corner = self.room.cumsum() - self.room
        self.columns = np.full(self.room.sum() + 1, NOTHING, np.int16)
        self.heads = self.columns.copy()
        self.wrong_row = np.full(len(self.room), _NONE_WRONG)
        self.has_ended = np.zeros(len(self.room), bool)
        self._write_first_numbers()

    def _write_first_numbers(self) -> None:
        size = self.questions.size(0) * ~self.questions.are(TIMES)
        column = np.arange(size.sum()) - np.repeat(size.cumsum() - size, size)
        digits = self.questions.symbols[np.repeat(self.questions.start(0), size) + column]
        self.columns[np.repeat(self.corner, size) + column] = digits

    def of(self, problem: int) -> tuple[Symbols, Symbols]:
        """The columns and the heads of one problem."""
        start = self.corner[problem]
        columns = slice(start, start + self.room[problem])
        return self.columns[columns], self.heads[columns]

    @property
    def is_right(self) -> NDArray[np.bool_]:
        """(N,) whether the text of a problem has its form, from end to end."""
        return self.has_ended & (self.wrong_row == _NONE_WRONG)


def _columns(questions: Questions) -> NDArray[np.int64]:
    """How many columns each problem may need, and one: (N,)."""
    room = questions.longest + np.where(questions.are(PLUS), questions.count, 1)
    return np.where(questions.are(TIMES), questions.size(0) + questions.size(1) + 1, room)


def num_pens(questions: Questions) -> NDArray[np.int64]:
    """How many pens each problem has: (N,)."""
    several = [questions.are(TIMES), questions.are(PLUS)]
    return np.select(several, [questions.size(1) + 1, questions.count], 1)


class View(NamedTuple):
    """What the pens at work have in view, (L,) each.

    Attributes:
        code: the context.
        place: where a digit goes, in Paper.columns.
        allowed: what may be said.
    """

    code: NDArray[np.int64]
    place: NDArray[np.int64]
    allowed: NDArray[np.int64]


class Pens:
    """P pens of problems of a kind.

    Attributes:
        problem, row: (P,) whose, and which of its rows from 0 on; those that write several are in row 0.
        operator: (P,) of the problem, a symbol.
        start: (P,) the step in which it begins.
        length: (P,) how many tokens it said, when it is done.
        begins: (P,) the step of the first token in the row that it writes; of a division, that behind the head.
        corner: (P,) where the row's columns begin in Paper.columns.
        operand, size: (P,) where the operand is among the symbols of the questions, and how many digits it has.
        head, carry, above, own: (P,) symbols in view; own is what was said last.
        is_last: (P,) whether only the end is left to be said.
        at_work: (L,) the pens that are due.
    """

    def __init__(self, paper: Paper, known: KnownContexts, problems: NDArray[np.bool_]) -> None:
        questions, base = paper.questions, paper.base
        number = num_pens(questions)[problems]  # of each of the problems
        self.paper, self.known, self.classes = paper, known, classes(base)
        self.plus, self.bar, self.minus = (sign(one, base) for one in (PLUS, BAR, MINUS))
        self.problem = np.repeat(np.flatnonzero(problems), number)
        self.row = np.arange(len(self.problem)) - np.repeat(number.cumsum() - number, number)
        self.operator = questions.operator[self.problem]
        distance = [(self.operator == sign(one, base)) * tokens for one, tokens in _DISTANCE.items()]
        self.start = self.row * sum(distance)
        self.length, self.begins = np.zeros_like(self.start), self.start.copy()
        self.corner = paper.corner[self.problem]
        self.head, self.carry, self.above, self.own = np.full((4, len(self.problem)), NOTHING, np.int16)
        self.own[:] = self.bar
        self.at_work = np.empty(0, np.int64)
        self._order = np.argsort(self.start, kind="stable")
        self._starts, self._num_started = self.start[self._order], 0
        self._lay_out(questions)

    def _lay_out(self, questions: Questions) -> None:
        """Say where operands are, and what the first row of each pen begins with."""
        raise NotImplementedError

    def look(self, step: int) -> View:
        """See what the pens at work see."""
        raise NotImplementedError

    def turn(self, pens: NDArray, said: NDArray, step: int) -> NDArray[np.bool_]:
        """Go on behind a sign that some pens said; which of them have more to say."""
        raise NotImplementedError

    @property
    def are_done(self) -> bool:
        return not len(self.at_work) and self._num_started == len(self.problem)

    def begin(self, step: int) -> None:
        """Let those pens begin that are due, but for rows that do not count."""
        end = int(np.searchsorted(self._starts, step, side="right"))
        if end > self._num_started:
            due = self._order[self._num_started : end]
            self._num_started = end
            self.at_work = np.concatenate([self.at_work, due[self._counts(due)]])

    def _counts(self, pens: NDArray) -> NDArray[np.bool_]:
        return self.row[pens] <= self.paper.wrong_row[self.problem[pens]]

    def hear(self, view: View, said: NDArray, step: int) -> None:
        """Write down what each of the pens at work said, (L,) symbols; those that are done lie down."""
        pens = self.at_work
        fits = self.classes[said] & view.allowed
        is_digit, is_carry = fits == A_DIGIT, fits == A_CARRY
        self.write_digits(pens[is_digit], view.place[is_digit], said[is_digit])
        self.carry[pens[is_carry]] = said[is_carry]
        self.own[pens] = said
        goes_on = is_digit | is_carry
        if goes_on.all():
            return
        turns = (fits & _A_SIGN) > 0
        goes_on[turns] = self.turn(pens[turns], said[turns], step)
        self.paper.has_ended[self.problem[pens[fits == AN_END]]] = True
        done = pens[~goes_on]
        self.length[done] = step + 1 - self.start[done]
        wrong = pens[fits == 0]
        np.minimum.at(self.paper.wrong_row, self.problem[wrong], self.row[wrong])
        self.at_work = pens[goes_on]
        if len(wrong):
            self.at_work = self.at_work[self._counts(self.at_work)]

    def write_digits(self, pens: NDArray, place: NDArray, digits: NDArray) -> None:
        self.paper.columns[place] = digits

    def operands(self, pens: NDArray, column: NDArray) -> NDArray[np.int16]:
        """The digit of the operand in a column, or NOTHING: (L,), (L,) -> (L,)."""
        size = self.size[pens]
        digit = self.paper.questions.symbols[self.operand[pens] + np.minimum(column, size)]  # a sign is behind the last
        return np.where(column < size, digit, NOTHING)

    def lengths(self) -> NDArray[np.int64]:
        """How many tokens of each pen count, (P,)."""
        return self.length * self._counts(np.arange(len(self.problem)))


class RowPens(Pens):
    """Pens of sums, products and differences: each row begins with a sign, which takes the place of a carry.

    Attributes:
        above_all: (P,) what may be said above all columns of a row.
        owes: (P,) whether a difference is below zero.
    """

    @classmethod
    def of(cls, paper: Paper, known: KnownContexts) -> "RowPens":
        return cls(paper, known, ~paper.questions.are(OVER))

    def _lay_out(self, questions: Questions) -> None:
        adds, times, takes = (self.operator == sign(one, self.paper.base) for one in (PLUS, TIMES, MINUS))
        number = questions.first[self.problem] + np.where(adds, self.row + 1, takes)  # the operand
        last_row = np.where(times, questions.size(1)[self.problem], questions.count[self.problem] - 1)
        self.is_last = ~takes & (self.row == last_row)
        number = number - (adds & self.is_last)
        self.operand = questions.starts[number]
        self.size = questions.sizes[number] * ~(adds & self.is_last)
        self.corner = self.corner + self.row * times
        self.owes = np.zeros(len(self.problem), bool)
        digit = questions.symbols[questions.start(1)[self.problem] + self.row * times]
        self.head[:] = np.where(self.is_last, NOTHING, np.where(times, digit, self.operator))
        self.carry[:] = self.bar
        self.above_all = np.where(takes, A_BAR | A_MINUS, A_BAR | A_DIGIT)

    def look(self, step: int) -> View:
        pens = self.at_work
        since = step - self.begins[pens]
        column, by_digit = since >> 1, (since & 1).astype(bool)
        place = self.corner[pens] + column
        operand = self.operands(pens, column)
        above = np.where(by_digit, self.above[pens], self.paper.columns[place])
        self.above[pens] = above
        code = self.known.code(
            np.where(by_digit, DIGIT, CARRY),
            operator=self.operator[pens],
            head=self.head[pens],
            operand=operand,
            above=above,
            carry=self.carry[pens],
            top=NOTHING,
            own=self.own[pens],
        )
        is_column = (operand != NOTHING) | (above != NOTHING)
        next_one = np.where(by_digit, A_CARRY, A_DIGIT)
        allowed = np.where(is_column, next_one, np.where(by_digit, A_BAR, self.above_all[pens]))
        return View(code, place, np.where(self.is_last[pens], AN_END, allowed))

    def turn(self, pens: NDArray, said: NDArray, step: int) -> NDArray[np.bool_]:
        """Only a difference goes on: behind | to its end, behind - with what is owed."""
        goes_on = (self.operator[pens] == self.minus) & ~self.is_last[pens]
        pens, said = pens[goes_on], said[goes_on]
        self.begins[pens], self.carry[pens], self.head[pens], self.size[pens] = step + 1, said, NOTHING, 0
        self.above_all[pens] = A_BAR
        self.is_last[pens] = said == self.bar
        self.owes[pens] |= said == self.minus
        return goes_on


class DivisionPens(Pens):
    """Pens of divisions: each row begins with a sign and a head, which is guessed or, behind +, counted down.

    Attributes:
        sign: (P,) that the row begins with.
        num_left: (P,) how often the divisor may still be put back below a guess.
    """

    @classmethod
    def of(cls, paper: Paper, known: KnownContexts) -> "DivisionPens":
        return cls(paper, known, paper.questions.are(OVER))

    def _lay_out(self, questions: Questions) -> None:
        x_size, self.size = questions.size(0)[self.problem], questions.size(1)[self.problem]
        self.operand = questions.start(1)[self.problem]
        self.lowest = self.corner
        self.corner = self.lowest + x_size - self.size
        self.is_last = self.corner < self.lowest
        self.begins += 1
        self.sign = self.own.copy()
        self.num_left = np.full(len(self.problem), self.paper.base)

    def look(self, step: int) -> View:
        """The highest digit of a row is seen in the cell top by what is written after it, all other digits in above."""
        pens = self.at_work
        since, size, puts_back = step - self.begins[pens], self.size[pens], self.sign[pens] == self.plus
        column, by_digit = since >> 1, (since & 1).astype(bool)
        place = self.corner[pens] + column
        seen = np.where(by_digit, self.above[pens], self.paper.columns[place])
        self.above[pens] = seen
        first_top = size - puts_back  # the column where it is in view
        kind = np.where(by_digit, np.where(column == size - 1, TOP, DIGIT), np.where(since == 0, HEAD, CARRY))
        head, operand = np.where(puts_back, self.plus, self.head[pens]), self.operands(pens, column)
        above, top = np.where(column < first_top, seen, NOTHING), np.where(column == first_top, seen, NOTHING)
        next_row = np.where(self.num_left[pens] > 0, A_BAR | A_PLUS, A_BAR)
        allowed = np.where(by_digit, A_CARRY, np.where(column < size, A_DIGIT, next_row))
        signs = np.flatnonzero(since < 0)
        if len(signs):
            kind[signs], place[signs] = SIGN, -1
            allowed[signs] = np.where(self.is_last[pens[signs]], AN_END, A_DIGIT)
            head[signs], operand[signs], above[signs], top[signs] = self._seen_by_signs(pens[signs])
        code = self.known.code(
            kind,
            operator=self.operator[pens],
            head=head,
            operand=operand,
            above=above,
            carry=self.carry[pens],
            top=top,
            own=self.own[pens],
        )
        return View(code, place, allowed)

    def _seen_by_signs(self, pens: NDArray) -> NDArray[np.int16]:
        """Head, operand, above and top: + sees the head, | what the guess follows from, at the end nothing: (4, L)."""
        puts_back, high = self.sign[pens] == self.plus, self.corner[pens] + self.size[pens]
        operand, columns = self.operands(pens, self.size[pens] - 1), self.paper.columns
        seen = np.stack([self.head[pens], operand, columns[high - 1], columns[high]])
        seen[0, ~puts_back] = NOTHING
        seen[1:, puts_back | self.is_last[pens]] = NOTHING
        return seen

    def write_digits(self, pens: NDArray, place: NDArray, digits: NDArray) -> None:
        is_head = place < 0
        self.head[pens[is_head]] = digits[is_head]
        self.paper.heads[self.corner[pens[is_head]]] = digits[is_head]
        self.paper.columns[place[~is_head]] = digits[~is_head]

    def turn(self, pens: NDArray, said: NDArray, step: int) -> NDArray[np.bool_]:
        """Behind | bring a digit down, or come to the end; behind + put the divisor back."""
        goes_on = ~self.is_last[pens]
        pens, said = pens[goes_on], said[goes_on]
        moves = said == self.bar
        self.begins[pens], self.sign[pens], self.carry[pens] = step + 2, said, NOTHING
        self.corner[pens] -= moves
        self.is_last[pens] = self.corner[pens] < self.lowest[pens]
        self.num_left[pens] = np.where(moves, self.paper.base, self.num_left[pens] - 1)
        return goes_on
