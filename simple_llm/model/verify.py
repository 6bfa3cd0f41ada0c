"""Prove that the model in this folder calculates right, by numpy alone: python3 verify.py [FOLDER]

In a model of one block, what a token says depends on the few tokens that it sees and on the kind of each: its context.
There are only so many contexts; here they are listed, and the model is asked each.

Work on paper, lowest digits first, carries raised: *75*64|2⁴4³3|2³6²2|= is 57 * 46 = 2622. A row is a sign, then digits
and carries in turn. A token of it sees the operator, the head of its row, and in its column operand, digit above (of
the row before) and carry. From these follow the digit of the column and the carry into the next; B is the base:

    sum, put back   above + operand + carry         = digit + B * next     the head is the sign
    product         above + head * operand + carry  = digit + B * next     the head is a digit of the second number
    difference      above - operand - carry         = digit - B * next     and then, of what is owed, 0 - above - carry
    taken away      above - head * operand - carry  = digit - B * next     the head is a digit of the quotient

1742 / 56 is /2471/65|07⁰1⁰|36²0¹|16¹0⁰|=. Each | guesses a head: the two highest digits of what is left by the highest
of y. If that was too much, + puts y back, and the head is one less. The highest digit of a row is of a kind of its own.
"""

import hashlib
import json
import math
import random
import sys
from itertools import product, zip_longest
from pathlib import Path

import numpy as np

DIGITS, RAISED = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "⁰¹²³⁴⁵⁶⁷⁸⁹ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ𐞥ʳˢᵗᵘᵛʷˣʸᶻ"
SIGN, OPERAND, HEAD, DIGIT, CARRY, TOP = range(6)  # kinds: rows of the position table
UNIT, LIBRARY = 2.0**-24, 2.0**-18  # how far float32 rounds a sum or product, and exp, erf and tanh
CELLS = {(n, kind): ((RAISED if kind == CARRY else DIGITS)[n], kind) for n in range(36) for kind in range(TOP + 1)}
DAMAGED = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, MemoryError)
ASSUMED = """
Right: of all logits that of the right token is largest. Surely right: by more than float32 can be off in any order.
If all are, what follows: a text without a mistake shows these contexts alone, so the most likely token goes on without
one to the end, however long the numbers are; and by the equations of columns and rows the result is that of integers.
Assumed: sums, products, 1 / and sqrt of float32 rounded to nearest, exp, erf and tanh within 2^-18, nothing overflows;
the code that asks the model shows it what this file says; and this file is right: it is to be read.
"""


def context(own, *seen):
    """The cell (token, kind) that asks, and those it sees, in any order; None stands where nothing is."""
    return CELLS.get(own, own), tuple(sorted(CELLS.get(one, one) for one in seen if one[0] is not None))


def column(owns, seen, value, base, kinds=(DIGIT,)):
    """What may stand before a digit says it, and the digit, of each of some kinds, says the carry."""
    following, digit = divmod(value, base)
    yield from ((context(own, *seen), DIGITS[digit]) for own in owns)
    yield from ((context((digit, kind), *seen), RAISED[abs(following)]) for kind in kinds)


def rows(operator, base):
    """Contexts of +, - and *, each with the token that is right."""
    times, sign, op, maybe = operator == "*", -1 if operator == "-" else 1, (operator, SIGN), [*range(base), None]
    for head, x, above in product(range(base) if times else [operator], maybe, maybe):
        for carry in ["|", *range(head + 1 if times else 2)]:  # a product's carry is at most its head
            seen, first = (op, (head, HEAD), (x, OPERAND), (above, DIGIT), (carry, CARRY)), carry == "|"
            if (x is None and (first or (times and above is not None))) or (above is None and first and not times):
                continue  # a row above a product is no longer than x, and every number has a first digit
            if x is not None or above is not None:
                value = (above or 0) + sign * ((head if times else 1) * (x or 0) + (0 if first else carry))
                yield from column([(carry, CARRY)], seen, value, base)
            else:  # all columns are done
                yield context(seen[-1], *seen), "|" if carry == 0 else "-" if operator == "-" else DIGITS[carry]
                yield from [(context((carry, DIGIT), *seen), "|")] * (carry > 0 and operator != "-")
    for x, above in product(range(base) if times else [None], maybe if times else range(base)):
        yield context(("|", CARRY), op, (x, OPERAND), (above, DIGIT), ("|", CARRY)), "="
    for above, carry in product(range(base), ["-", 0, 1] * (operator == "-")):
        yield from column([(carry, CARRY)], (op, (above, DIGIT), (carry, CARRY)), -above - (carry == 1), base)
    yield from [(context((1, CARRY), op, (1, CARRY)), "|")] * (operator == "-")  # what is owed is not 0


def division(base):
    """The same of /."""
    digits, maybe, op = range(base), [*range(base), None], ("/", SIGN)
    guess = lambda high, low, y: min(base - 1, ((high or 0) * base + low) // y)  # noqa: E731
    yield context(("|", SIGN), op), "="
    for y, high, low in product(digits[1:], maybe, digits):
        if (high or 0) <= y:  # what is left is less than the divisor
            yield context(("|", SIGN), op, (y, OPERAND), (high, TOP), (low, DIGIT)), DIGITS[guess(high, low, y)]
    for head, y, above in product(digits, digits, digits):
        # In the highest column the head was guessed from these digits, and less than the divisor is left.
        highs = [high for high in range(y + 1) if y and guess(high, above, y) == head]
        for carry in [None, *range(head + 1)]:  # None: in the first column, where the head asks
            seen, own = (op, (head, HEAD), (y, OPERAND), (above, DIGIT), (carry, CARRY)), 1 if carry is None else 4
            rest = above - head * y - (carry or 0)
            is_top = any(high * base + rest <= y - (carry is None) for high in highs)
            yield from column([seen[own]], seen, rest, base, [DIGIT, TOP][: 1 + is_top])
    for head, high in product(digits, maybe):
        for carry in {high or 0, (high or 0) + 1} & {*range(head + 1)}:  # all is taken away, or once too often
            told = "|" if carry == (high or 0) else "+"
            yield context((carry, CARRY), op, (head, HEAD), (high, TOP), (carry, CARRY)), told
    yield from ((context(("+", SIGN), op, (head, HEAD)), DIGITS[head - 1]) for head in digits[1:])
    for y, above, carry, kind in product(digits, digits, [None, 0, 1], [DIGIT, TOP]):
        # At the top, at most head * (y's lower digits) is owed: less than B - 1 of that column; and without a carry,
        # less than B - 2. Divisors of one digit are never put back.
        if kind == DIGIT or (carry is not None and y and above + carry >= 2):
            seen = op, ("+", SIGN), (y, OPERAND), (above, kind), (carry, CARRY)
            owns = [(head, HEAD) for head in digits[:-1]] if carry is None else [(carry, CARRY)]
            yield from column(owns, seen, above + y + (carry or 0), base, [kind])
    yield from ((context((carry, CARRY), op, ("+", SIGN), (carry, CARRY)), "+|"[carry]) for carry in (0, 1))


def digits_of(number, base):
    return DIGITS[number] if number < base else DIGITS[number % base] + digits_of(number // base, base)


def value_of(digits, base):
    return int(digits[::-1] or "0", base)


def sum_contexts(x, y, base, left, right, period, places=None):
    """Contexts of +x+y+z+, where a token sees each + and the digits from `left` places below its own to `right` above;
    + is at place 0. The kind of a digit is its place, counted anew after each period.
    """
    z = digits_of(value_of(x, base) + value_of(y, base), base)
    for place in range(len(z) + 1) if places is None else places:
        view, cells = range(max(0, place - left - 1), place + right), [("+", 0)] * 3
        cells += [(n[at], at % period + 1) for n in (x, y, z[:place]) for at in view if at < len(n)]
        yield context((z[place - 1], (place - 1) % period + 1) if place else ("+", 0), *cells), f"{z}+"[place]


def sums_in_a_window(base, left, right, period):
    """All of them: any digits in view, of numbers that end there or go on, with and without a carry from below."""
    for place in range(left + 2 + period):  # those that see the lowest digits, then a period of all others
        low, numbers = max(0, place - left - 1), []  # digits below those in view
        size = place + right - low
        for count in range(low == 0, size + 1):
            for digits in map("".join, product(DIGITS[:base], repeat=count)):
                if count == size or digits[-1:] != "0" or low + count == 1:  # no number ends in 0 but 0 itself
                    numbers.append(digits + "1" * (count == size))
        for x, y, below in product(numbers, numbers, ["0", DIGITS[base - 1]] if low else [""]):
            x, y = low * below + x, low * below + y
            if place < 2 or value_of(x, base) + value_of(y, base) >= base ** (place - 1):
                yield from sum_contexts(x, y, base, left, right, period, [place])


def worked_out(operator, x, y, others, base, answers):
    """Work a problem out as on paper, asking the list for each token; numbers are texts. KeyError: not in the list."""
    say = lambda own, *seen: answers[context(own, (operator, SIGN), *seen)]  # noqa: E731
    times, top, low, left = operator == "*", len(y) - 1 if operator == "/" else -1, "", "" if operator == "*" else x

    def row(own, head, operands, above):  # from its sign or head on: its digits, and the sign that follows
        digits, carry = "", own if own[1] == CARRY else (None, CARRY)
        for place, (operand, upper) in enumerate([*zip_longest(operands, above), (None, None)]):
            is_top = top >= 0 and place == top + (head[0] != "+")
            seen = head, (operand, OPERAND), (upper, TOP if is_top else DIGIT), carry
            token = say(own, *seen)
            if token in DIGITS:
                digits += token
                token = say((token, TOP if place == top else DIGIT), *seen)
            if token in "|+-":
                return digits, token
            own = carry = token, CARRY
        raise KeyError(own)

    if operator == "/":
        first = max(0, len(x) - top)
        left = x[first:]
        for digit in x[:first][::-1]:
            left = digit + left
            head = say(("|", SIGN), (y[top], OPERAND), (left[top], DIGIT), (left[top + 1 :] or None, TOP))
            left, sign = row((head, HEAD), (head, HEAD), y, left)
            while sign == "+":
                head = say(("+", SIGN), (head, HEAD))
                left, sign = row((head, HEAD), ("+", SIGN), y, left)
            low = head + low
        return say(("|", SIGN)) == "=" and (value_of(low, base), value_of(left, base))
    for number in y if times else [y, *others]:
        left, sign = row(("|", CARRY), (number if times else operator, HEAD), x if times else number, left)
        low, left = (low + left[0], left[1:]) if times else ("", left)
    if owed := sign == "-":
        left, _ = row(("-", CARRY), (None, HEAD), "", left)
    end = say(("|", CARRY), (x[0] if times else None, OPERAND), (left[:1] or None, DIGIT), ("|", CARRY))
    return end == "=" and value_of(low + left, base) * (-1 if owed else 1)


def check_the_list(operator, base, answers, window):
    """Compare what follows from the list with Python's integers, on 300 problems of 1 to 8 digits."""
    draw = random.Random(operator)
    for _ in range(300):
        texts = []
        for _ in range(draw.randint(2, 4) if operator == "+" and not window else 2):
            digits = draw.choice([DIGITS[:base], "01" + DIGITS[base - 1], DIGITS[base - 2 : base]])
            texts.append("".join(draw.choices(digits, k=draw.randint(1, 8))).rstrip("0") or "01"[operator == "/"])
        x, y, *others = (value_of(text, base) for text in texts)
        if window:
            fits = all(answers[context] == right for context, right in sum_contexts(*texts, base, *window))
        else:
            right = {"+": x + y + sum(others), "-": x - y, "*": x * y, "/": divmod(x, y or 1)}[operator]
            fits = worked_out(operator, *texts[:2], texts[2:], base, answers) == right
        if not fits:
            stop(7, f"not proved: by the list of contexts, {x} {operator} {y} is not what Python says")


def stop(code, line):
    print(line)
    sys.exit(code)


def read(folder):
    """Config, base, operators, window (left, right, period) or None, IDs of tokens, weights and the sha256 of these."""
    texts = [(folder / f"{name}.json").read_text("utf-8") for name in ("config", "tokenizer", "tokenizer_config")]
    config, tokenizer, claims = map(json.loads, texts)
    base, ids, operators = claims["base"], tokenizer["model"]["vocab"], claims.get("operators", "+")
    window = config["attention_window"] and (
        *map(config["attention_window"].get, ("left", "right")),
        config["position_period"] or 0,
    )
    needed = {"n_layer": 1, "tokens_per_step": 1, "position_embedding": "block", "scale_attn_weights": True}
    needed |= {"tie_word_embeddings": True, "scratchpad": "none" if window else "columns"}
    fits = all(config[name] == value for name, value in needed.items()) and claims["reversed"] and 2 <= base <= 36
    fits &= claims.get("scratchpad", "none") == config["scratchpad"] and (
        not window or window[0] >= 0 < min(window[1:])
    )
    if not fits or not operators or not set(operators) <= set("+" if window else "+-*/"):
        stop(2, f"{folder}: nothing that can be listed: no work on paper, nor sums in a window, of one block")
    said = {"digit_token_ids": [ids[one] for one in DIGITS[:base]], "eos_token_id": ids["+" if window else "="]}
    if not window:
        said |= {"carry_token_ids": [ids[one] for one in RAISED[:base]], "sign_token_ids": {o: ids[o] for o in "|+-*/"}}
    strange = [name for name in said if said[name] != config[name]]
    if strange or sorted(ids.values()) != [*range(config["vocab_size"])] or tokenizer["model"]["merges"]:
        stop(7, f"not proved: tokenizer.json has other {[*strange, 'tokens'][0]} than config.json")
    data, weights = (folder / "model.safetensors").read_bytes(), {}
    start = 8 + int.from_bytes(data[:8], "little")
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            shape, first = entry["shape"], start + entry["data_offsets"][0]
            numbers = np.frombuffer(data, {"F32": "<f4"}[entry["dtype"]], math.prod(shape), first).reshape(shape)
            weights[name.removeprefix("transformer.").removeprefix("h.0.")] = numbers.astype(float)
    if len(weights) != 16 or sum(4 * one.size for one in weights.values()) != len(data) - start:
        raise ValueError("model.safetensors does not hold one block")
    return config, base, operators, window, ids, weights, hashlib.sha256(data).hexdigest()


def length(x):
    return np.sqrt(np.einsum("...i,...i", x, x))


def linear(weight, bias, gain=1.0, shift=0.0, terms=0):
    """A layer, or several, behind the gain and shift of a norm, as a function of vectors x and of e: here and below at
    least the length of what float32 is off in each x, in whatever order it adds up.
    """
    matrix, shift, one = weight * np.reshape(gain, (-1, 1)), shift + np.zeros(weight.shape[-2]), (..., None)
    rounding, stretch = UNIT * (len(shift) + terms + 6), np.linalg.norm(matrix, 2, (-2, -1))[one]
    most = rounding * np.linalg.norm(abs(matrix), 2, (-2, -1))[one]
    least, bias = rounding * length(abs(shift) @ abs(weight) + abs(bias))[one], (shift @ weight + bias)[..., None, :]
    return lambda x, e: (x @ matrix + bias, e * stretch + (length(x) + e) * most + least)


def norm(x, e, epsilon):
    """Mean 0 and variance 1: what x is off is turned, and divided by the scale at most."""
    root, mean, rounding = x.shape[-1] ** 0.5, x.mean(-1), UNIT * (x.shape[-1] + 6)
    size, scale = (length(x) + e) / root, np.sqrt(((x - mean[:, None]) ** 2).mean(-1) + epsilon)
    least = np.where(scale > e / root, scale - e / root, np.nan)
    z, off = (x - mean[:, None]) / scale[:, None], (e + root * rounding * size) / least
    share = rounding * ((size + abs(mean) + e) / least) ** 2 / 2 + 8 * UNIT  # of scale, by any formula of the variance
    return z, off + (root + off) * np.where(share < 1e-3, share, np.nan)


def asking(config, w, kinds):
    """The model as a function of cells (N,) that ask, cells (N, L) seen, -1 for none, and tokens (N,) that are right:
    the smallest lead of each over the others, the most that rounding moves one, and the least that is left of one.
    """
    both, tokens, heads = lambda name: (w[f"{name}.weight"], w[f"{name}.bias"]), w["wte.weight"], config["n_head"]
    epsilon, (gain, shift), (project, bias) = config["layer_norm_epsilon"], both("ln_f"), both("attn.c_proj")
    cells = (tokens[:, None] + w["wpe.weight"][:kinds]).reshape(-1, len(gain))
    weights, biases = (one.reshape(*one.shape[:-1], 3 * heads, -1) for one in both("attn.c_attn"))
    x, e = linear(weights.swapaxes(0, 1), biases, *both("ln_1"))(*norm(cells, UNIT * length(cells), epsilon))
    (query, key, value), (query_e, key_e, value_e) = np.split(x, 3), np.split(e, 3)  # (H, cells, D), (H, cells)
    size = (length(key) + key_e)[:, None]
    key_e, value_e = key_e[:, None] + UNIT * (key.shape[2] + 6) * size, value_e + 64 * UNIT * (length(value) + value_e)
    e = query_e[..., None] * size + (length(query) + query_e)[..., None] * key_e
    scores, scores_e = (np.moveaxis(one, 0, 2) / key.shape[2] ** 0.5 for one in (query @ key.swapaxes(1, 2), e))
    added, added_e = linear(project.reshape(heads, -1, len(gain)), 0 * bias, terms=len(gain))(value, value_e)
    size = length(added) ** 2  # of what a head adds that sees a cell; apart: how far two of these are, squared
    apart = np.moveaxis(size[..., None] + size[:, None] - 2 * added @ added.swapaxes(1, 2) + 1e-14 * size.max(), 0, 2)
    widen, narrow = linear(*both("mlp.c_fc"), *both("ln_2")), linear(*both("mlp.c_proj"))
    wide, thin = w["ln_2.weight"][:, None] * w["mlp.c_fc.weight"], w["mlp.c_proj.weight"]
    spare = (np.linalg.norm(wide, 2) * np.linalg.norm(thin, 2) - np.linalg.norm(wide @ thin, 2)) / 2
    gates = {"gelu": math.erf, "gelu_new": lambda x: math.tanh((2 * x + 0.17886 * x**3) / math.pi**0.5)}
    gate, grid = gates[config["activation_function"]], np.arange(-32768, 32770) / 4096
    gelu = grid / 2 * (1 + np.array([gate(x) for x in grid / 2**0.5]))  # between two points 6e-9 from a line
    sizes = length(gain * (tokens[:, None] - tokens)), length(abs(tokens[:, None]) + abs(tokens))  # (V, V) each

    def ahead(own, seen, right):
        there, each, n = (seen >= 0)[..., None], np.arange(len(own)), UNIT * (len(gain) + 6)
        score = np.where(there, scores[own[:, None], seen], -np.inf)  # (N, L, H)
        score = np.where(there, score - score.max(1, keepdims=True), -1000)
        e = np.where(there, scores_e[own[:, None], seen], 0) - 4 * UNIT * score + 2 * LIBRARY
        weight, spread = np.exp(score), np.expm1(2 * e.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)  # by at most w (1 - w) spread too large or small
        around = np.einsum("nlkh,nkh->nlh", apart[seen[:, :, None], seen[:, None]], weight)
        around = np.sqrt(np.maximum(around - (weight * around).sum(1, keepdims=True) / 2, 0))
        e = (weight * (1 - weight) * spread * around + weight * (1 + spread) * added_e.T[seen]).sum((1, 2))
        x = np.einsum("hnl,hnld->nhd", weight.transpose(2, 0, 1), value[:, seen]).reshape(len(own), -1) @ project + bias
        e, x = 1.001 * (e + n * (length(bias) + length(x) + length(cells[own]))), x + cells[own]
        z, z_e = norm(x, e, epsilon)
        y, y_e = widen(z, z_e)
        place, y_e = np.clip(y, -8, 8) * 4096 + 32768, 1.13 * y_e + LIBRARY * (length(y) + y_e) + 1e-6
        at = place.astype(np.int32)
        under, over = gelu.take(at, mode="clip"), gelu.take(at + 1, mode="clip")
        y, y_e = narrow(under + (place - at) * (over - under) + np.maximum(y - 8, 0), y_e)
        y_e -= z_e * spare  # GELU's slope is 0.5, give or take 0.63
        z, e = norm(x + y, e + y_e + n * (length(x) + length(y) + e + y_e), epsilon)
        moved = n * ((length(z) + e) * abs(gain).max() + length(shift))
        moved = 1.001 * (e[:, None] * sizes[0][right] + moved[:, None] * sizes[1][right])
        logits = (z * gain + shift) @ tokens.T
        lead = logits[each, right][:, None] - logits
        lead[each, right], moved[each, right] = np.inf, 0
        return lead.min(1), moved.max(1), (lead - moved).min(1)

    return ahead


def prove(folder):
    """Print what is so, and end."""
    config, base, operators, window, ids, weights, digest = read(folder)
    kinds, counts = window[2] + 1 if window else TOP + 1, 0
    ahead = asking(config, weights, kinds)
    index = {(token, kind): number * kinds + kind for token, number in ids.items() for kind in range(kinds)}
    print(f"{folder.resolve()}, base {base}, model.safetensors with sha256\n{digest}\n")
    print("    contexts  different       right  surely right  smallest lead  rounding at most  left at least")
    for operator in operators:
        columns = rows(operator, base) if operator != "/" else division(base)
        listed = list(sums_in_a_window(base, *window) if window else columns)
        check_the_list(operator, base, dict(listed), window)
        most, asked = max(len(seen) for (_, seen), _ in listed), []
        for (own, seen), right in set(listed):
            asked.append([index[own], *map(index.get, seen), *[-1] * (most - len(seen)), ids[right]])
        parts = np.array_split(np.array(asked), 1 + len(asked) // 2048)
        lead, moved, left = np.concatenate([ahead(part[:, 0], part[:, 1:-1], part[:, -1]) for part in parts], 1)
        count = np.array([len(listed), len(asked), (lead > 0).sum(), (left > 0).sum()])
        counts += count
        print("{} {:10,} {:10,} {:11,} {:13,}".format(operator, *count), end="")
        print(f" {lead.min():14.4f} {moved.max():17.4f} {left.min():14.4f}")
    print(ASSUMED)
    _, total, right, sure = counts
    if right < total:
        stop(7, f"not proved: {total - right:,} of {total:,} contexts are wrong")
    if sure < total:
        stop(7, f"not proved: all {total:,} contexts are right in float64, but rounding may change {total - sure:,}")
    stop(0, f"proved: {' '.join(operators)} in base {base} are right for numbers of any length")


if __name__ == "__main__":
    with np.errstate(all="ignore"):
        where = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
        try:
            prove(where)
        except DAMAGED as error:
            stop(2, f"{where}: no model that can be read: {type(error).__name__} {str(error)[:80]!r}")
