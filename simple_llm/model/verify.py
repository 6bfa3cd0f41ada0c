"""Prove by numpy alone that the model in a folder, or in this one, calculates right: python3 verify.py [FOLDER]

In a model of one block, what a token says depends on the few tokens that it sees and on the kind of each: its context.
There are only so many; they are listed, and the model is asked each. In work on paper, lowest digits first and carries
raised, *75*64|2⁴4³3|2³6²2|= is 57 * 46 = 2622. A token of a row sees the operator, the head of the row, and in its
column operand, digit above (of the row before) and carry. B is the base:

    sum, put back   above + operand + carry         = digit + B * next     the head is the sign
    product         above + head * operand + carry  = digit + B * next     the head is a digit of the second number
    difference      above - operand - carry         = digit - B * next     and then, of what is owed, 0 - above - carry
    taken away      above - head * operand - carry  = digit - B * next     the head is a digit of the quotient

1742 / 56 is /2471/65|07⁰1⁰|36²0¹|16¹0⁰|=. Each | guesses a head: the two highest digits of what is left by the highest
of y. If that was too much, + puts y back, and the head is one less. The highest digit of a row is of a kind of its own.

Right: the right token has the largest logit. Surely right: by more than float32 can be off, in whatever order it adds.
If all are, a text without a mistake shows these contexts alone, so the most likely token goes on without one to the
end, and by the equations of columns the result is that of integers of any length. Assumed: float32 rounds + * / sqrt to
nearest, exp, erf and tanh are within 2^-18, nothing overflows; the model is shown what this file says, and it is right.
"""

import hashlib
import json
import math
import os
import sys
from itertools import product, zip_longest
from pathlib import Path

import numpy as np

DIGITS, RAISED = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", "⁰¹²³⁴⁵⁶⁷⁸⁹ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ𐞥ʳˢᵗᵘᵛʷˣʸᶻ"
SIGN, OPERAND, HEAD, DIGIT, CARRY, TOP = range(6)  # kinds: rows of the position table
UNIT, LIBRARY = 2.0**-24, 2.0**-18  # how far float32 rounds a sum or product, and exp, erf and tanh
CELLS = {(n, kind): ((RAISED if kind == CARRY else DIGITS)[n], kind) for n in range(36) for kind in range(TOP + 1)}
stop = lambda code, line: sys.exit(print(line, file=(sys.stdout, sys.stderr)[code == 2], flush=1) or code)  # noqa: E731
length = lambda x: np.sqrt(np.einsum("...i,...i", x, x))  # noqa: E731
# From the gradient by what a norm says to that by what it reads: without the mean, and what lies along z.
before_norm = lambda g, z, scale: (g - g.mean(1)[:, None] - (g * z).mean(1)[:, None] * z) / scale[:, None]  # noqa: E731


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
    # A row above a product is no longer than x; all numbers have a first digit; a product's carry is at most its head.
    pairs = [(x, above) for x in maybe for above in maybe if not (times and x is None) or above is None]
    for head, (x, above) in product(range(base) if times else [operator], pairs):
        for carry in ["|"] * (x is not None and (times or above is not None)) + [*range(head + 1 if times else 2)]:
            seen = op, (head, HEAD), (x, OPERAND), (above, DIGIT), (carry, CARRY)
            if x is not None or above is not None:
                value = (above or 0) + sign * ((head if times else 1) * (x or 0) + (0 if carry == "|" else carry))
                yield from column([(carry, CARRY)], seen, value, base)
            else:  # all columns are done
                yield context(seen[-1], *seen), "|" if carry == 0 else "-" if operator == "-" else DIGITS[carry]
                yield from [(context((carry, DIGIT), *seen), "|")] * (carry > 0 and operator != "-")
    for x, above in product(range(base) if times else [None], maybe if times else range(base)):
        yield context(("|", CARRY), op, (x, OPERAND), (above, DIGIT), ("|", CARRY)), "="
    for above, carry in product(range(base), ["-", 0, 1] * (operator == "-")):
        yield from column([(carry, CARRY)], (op, (above, DIGIT), (carry, CARRY)), -above - (carry == 1), base)
    yield from [(context((1, CARRY), op, (1, CARRY)), "|")] * (operator == "-")  # what is owed is not 0


def division(operator, base):
    """The same of /. Only a head of 3 or more can be too much by more than one, so that y is put back again."""
    digits, maybe, op = range(base), [*range(base), None], (operator, SIGN)
    guess = lambda high, low, y: min(base - 1, ((high or 0) * base + low) // y)  # noqa: E731
    yield context(("|", SIGN), op), "="
    for y, high, low in product(digits[1:], maybe, digits):
        if (high or 0) <= y:  # what is left is less than the divisor
            yield context(("|", SIGN), op, (y, OPERAND), (high, TOP), (low, DIGIT)), DIGITS[guess(high, low, y)]
    for head, y, above in product(digits, digits, digits):
        # In the highest column the head was guessed from these digits, and less than the divisor is left.
        highs = [high for high in range(y + 1) if y and guess(high, above, y) == head]
        for carry in [None, *range(head + 1)]:  # None: in the first column, where the head asks
            seen = op, (head, HEAD), (y, OPERAND), (above, DIGIT), (carry, CARRY)
            rest = above - head * y - (carry or 0)
            is_top = any(high * base + rest <= y - (carry is None) for high in highs)
            yield from column([seen[1 if carry is None else 4]], seen, rest, base, [DIGIT, TOP][: 1 + is_top])
    for head, high, left in product(digits, maybe, [0, 1]):  # all is taken away, or once too often
        if (carry := (high or 0) + left) <= head:
            yield context((carry, CARRY), op, (head, HEAD), (high, TOP), (carry, CARRY)), "|+"[left]
    yield from ((context(("+", SIGN), op, (head, HEAD)), DIGITS[head - 1]) for head in digits[1:])
    for y, above, carry, kind in product(digits, digits, [None, 0, 1], [DIGIT, TOP]):
        # Owed is at most B - 1 times y's lower digits, so on top above > 0, or > 1 where these do not carry.
        if kind == DIGIT or (carry is not None and y and above + carry >= 2):
            seen = op, ("+", SIGN), (y, OPERAND), (above, kind), (carry, CARRY)
            owns = [(head, HEAD) for head in digits[:-1]] if carry is None else [(carry, CARRY)]
            yield from column(owns, seen, above + y + (carry or 0), base, [kind])
    yield from ((context((carry, CARRY), op, ("+", SIGN), (carry, CARRY)), "+|"[carry]) for carry in range(base < 4, 2))


def sum_contexts(x, y, base, left, right, period, places=range(99)):
    """Contexts of +x+y+z+: a token at a place sees each +, and digits from `left` places lower to `right` higher."""
    z = np.base_repr(int(x[::-1], base) + int(y[::-1], base), base)[::-1]
    for place in range(places[0], min(places[-1], len(z)) + 1):  # kinds: of + 0, of a digit its place in its period
        view, cells = range(max(0, place - left - 1), place + right), [("+", 0)] * 3
        cells += [(n[at], at % period + 1) for n in (x, y, z[:place]) for at in view if at < len(n)]
        yield context((z[place - 1], (place - 1) % period + 1) if place else ("+", 0), *cells), f"{z}+"[place]


def window_sums(base, left, right, period):
    """All of them: any digits in view, of numbers that end there or go on, with and without a carry from below."""
    for place in range(left + 2 + period):  # those that see the lowest digits, then a period of all others
        low = max(0, place - left - 1)
        ends, size = range(place + right < 2, base ** (place + right - low - 1)), base ** (place + right - low)
        numbers = [np.base_repr(n, base)[::-1] if n or not low else "" for n in [*ends, *range(size, 2 * size)]]
        for x, y, below in product(numbers, numbers, ["0", DIGITS[base - 1]] if low else [""]):
            yield from sum_contexts(low * below + x, low * below + y, base, left, right, period, [place])


def worked_out(operator, x, y, others, base, answers):
    """Work a problem out as on paper, asking the list for each token; numbers are texts. KeyError: not in the list."""
    say = lambda own, *seen: answers[context(own, (operator, SIGN), *seen)]  # noqa: E731
    value = lambda digits: int(digits[::-1] or "0", base)  # noqa: E731
    times, top, low, left = operator == "*", len(y) - 1 if operator == "/" else -1, "", "" if operator == "*" else x

    def row(own, head, operands, above):  # from its sign or head on: its digits, and the sign that follows
        digits, carry = "", own if own[1] == CARRY else (None, CARRY)
        while True:
            column, kind = slice(len(digits), len(digits) + 1), TOP if len(digits) == top else DIGIT
            is_top = top >= 0 and len(digits) == top + (head[0] != "+")
            seen = head, (operands[column] or None, OPERAND), (above[column] or None, TOP if is_top else DIGIT), carry
            token = say(own, *seen)
            if token in DIGITS:
                digits, token = digits + token, say((token, kind), *seen)
            if token in "|+-":
                return digits, token
            own = carry = token, CARRY

    if operator == "/":
        first, left = max(0, len(x) - top), x[max(0, len(x) - top) :]
        for digit in x[:first][::-1]:
            left = digit + left
            head = say(("|", SIGN), (y[top], OPERAND), (left[top], DIGIT), (left[top + 1 :] or None, TOP))
            left, sign = row((head, HEAD), (head, HEAD), y, left)
            while sign == "+":
                head = say(("+", SIGN), (head, HEAD))
                left, sign = row((head, HEAD), ("+", SIGN), y, left)
            low = head + low
        return say(("|", SIGN)) == "=" and (value(low), value(left))
    for number in y if times else [y, *others]:
        left, sign = row(("|", CARRY), (number if times else operator, HEAD), x if times else number, left)
        low, left = (low + left[0], left[1:]) if times else ("", left)
    if owed := sign == "-":
        left, _ = row(("-", CARRY), (None, HEAD), "", left)
    end = say(("|", CARRY), (x[0] if times else None, OPERAND), (left[:1] or None, DIGIT), ("|", CARRY))
    return end == "=" and value(low + left) * (-1 if owed else 1)


def check_the_list(operator, base, answers, window):
    """Compare what follows from the list with Python's integers, on 300 problems of up to 8 digits."""
    draw = np.random.default_rng(0)
    for _ in range(300):
        count = 4 if operator == "+" and not window else 2
        x, y, *others = (int(draw.integers(operator == "/", base ** draw.integers(1, 9))) for _ in range(count))
        texts = [np.base_repr(number, base)[::-1] for number in (x, y, *others)]
        right = {"+": x + y + sum(others), "-": x - y, "*": x * y, "/": divmod(x, y or 1)}[operator]
        fits = not window and worked_out(operator, *texts[:2], texts[2:], base, answers) == right
        if not fits and not (window and dict(sum_contexts(*texts, base, *window)).items() <= answers.items()):
            stop(7, f"not proved: by the list of contexts, {x} {operator} {y} is not what Python says")


def read(folder):
    """Config, base, operators, window (left, right, period) or None, IDs of tokens, weights and the sha256 of these."""
    texts = [(folder / f"{name}.json").read_text("utf-8") for name in ("config", "tokenizer", "tokenizer_config")]
    config, tokenizer, claims = map(json.loads, texts)
    base, ids, window = claims["base"], tokenizer["model"]["vocab"], config["attention_window"]
    window = window and (window["left"], window["right"], config["position_period"] or 0)
    operators, (pad, known) = claims.get("operators", "+"), ("none", "+") if window else ("columns", "+-*/")
    names = ("n_layer", "tokens_per_step", "position_embedding", "scale_attn_weights", "scratchpad")
    found = [config[name] for name in names] + [claims.get("scratchpad", "none"), claims["reversed"], 2 <= base <= 36]
    fits = found == [1, 1, "block", True, pad, pad, True, True] and set() < set(operators) <= set(known)
    if not fits or (window and not 0 < base ** min(99, 2 * sum(window[:2]) + 2) * window[1] * window[2] < 3e6):
        stop(2, f"{folder}: nothing that can be listed: no work on paper, nor sums in a window, of one block")
    said = {"digit_token_ids": [ids[one] for one in DIGITS[:base]], "eos_token_id": ids["+" if window else "="]}
    if not window:
        said |= {"carry_token_ids": [ids[one] for one in RAISED[:base]], "sign_token_ids": {o: ids[o] for o in "|+-*/"}}
    data, weights = (folder / "model.safetensors").read_bytes(), {}
    at = 8 + int.from_bytes(data[:8], "little")
    for name, one in ((name, one) for name, one in json.loads(data[8:at]).items() if name != "__metadata__"):
        raw = np.frombuffer(data, {"F32": "<f4"}[one["dtype"]], math.prod(one["shape"]), at + one["data_offsets"][0])
        weights[name.removeprefix("transformer.").removeprefix("h.0.")] = raw.reshape(one["shape"]).astype(float)
    differ = [name for name in said if said[name] != config[name]] + ["merges"] * bool(tokenizer["model"]["merges"])
    differ += ["tokens"] * (sorted(ids.values()) != [*range(config["vocab_size"])])
    differ += ["tensors"] * (len(weights) != 16 or sum(4 * one.size for one in weights.values()) != len(data) - at)
    differ += ["weights that are no numbers"] * (not all(np.isfinite(one).all() for one in weights.values()))
    if differ:
        stop(7, f"not proved: the files do not agree, or hold what they should not: {', '.join(differ)}")
    return config, base, operators, window, ids, weights, hashlib.sha256(data).hexdigest()


def linear(n, weight, bias, gain=1.0, shift=0.0):
    """A layer, or several, behind a norm's gain and shift: of vectors and e, how far float32 is off, all and own."""
    matrix, shift = weight * np.reshape(gain, (-1, 1)), shift + np.zeros(weight.shape[-2])
    stretch, most = (np.linalg.norm(one, 2, (-2, -1))[..., None] for one in (matrix, abs(matrix)))
    least, bias = length(abs(shift) @ abs(weight) + abs(bias))[..., None], (shift @ weight + bias)[..., None, :]
    return lambda x, e: (x @ matrix + bias, e * stretch + n * ((length(x) + e[0]) * most + least))


def norm(n, x, e, epsilon):
    """Mean 0 and variance 1; e, and what of it is no derivative times e, half the second being at most 0.75; scale."""
    root, mean, scale = x.shape[-1] ** 0.5, x.mean(-1), np.sqrt(x.var(-1) + epsilon)
    size, least = (length(x) + e) / root, np.where(scale > e / root, scale - e / root, np.nan)
    z, off = (x - mean[:, None]) / scale[:, None], (e + root * n * size) / least
    share = n * ((size + abs(mean) + e) / least) ** 2 / 2 + 8 * UNIT  # of scale, by any formula of the variance
    off += (root + off) * np.where(share < 1e-3, share, np.nan)
    return z, np.array([off, off - e / least + 0.75 * (e / least) ** 2 / root]), scale


def ask(config, w, kinds, contexts):
    """Of contexts (what asks, is right, is seen or -1): lead of what is right, rounding at most, and what is left."""
    both, tokens, heads = lambda name: (w[f"{name}.weight"], w[f"{name}.bias"]), w["wte.weight"], config["n_head"]
    epsilon, (gain, shift), (project, bias) = config["layer_norm_epsilon"], both("ln_f"), both("attn.c_proj")
    cells, n = (tokens[:, None] + w["wpe.weight"][:kinds]).reshape(-1, len(gain)), UNIT * (len(gain) + 6)
    mix, shifts = (one.reshape(*one.shape[:-1], 3 * heads, -1) for one in both("attn.c_attn"))
    x, e, _ = norm(n, cells, UNIT * length(cells), epsilon)
    x, e = linear(n, mix.swapaxes(0, 1), shifts, *both("ln_1"))(x, e[:, None])
    (query, key, value), (query_e, key_e, value_e) = np.split(x, 3), np.split(e[0], 3)  # (H, cells, D), (H, cells)
    query, query_e = query / key.shape[2] ** 0.5, query_e / key.shape[2] ** 0.5
    size = (length(query) + query_e)[..., None] * (length(key) + key_e)[:, None] * (1 + n)
    scores, scores_e = query @ key.swapaxes(1, 2), size - length(query)[..., None] * length(key)[:, None]
    project, value_e = project.reshape(heads, -1, len(gain)), value_e + 64 * UNIT * (length(value) + value_e)
    value, (value_e,) = linear(n, project, 0 * bias)(value, value_e[None])  # what a head adds that sees a cell
    wide, thin = w["ln_2.weight"][:, None] * w["mlp.c_fc.weight"], w["mlp.c_proj.weight"]
    first, second = linear(n, *both("mlp.c_fc"), *both("ln_2")), linear(UNIT * (len(thin) + 6), *both("mlp.c_proj"))
    gates = {"gelu": math.erf, "gelu_new": lambda x: math.tanh((2 * x + 0.17886 * x**3) / math.pi**0.5)}
    found, peak, grid = [], 1.001 * n * abs(gain).max(), np.arange(-32768, 32770) / 4096
    gelu = grid / 2 * (1 + np.array([*map(gates[config["activation_function"]], grid / 2**0.5)]))
    apart, sizes = tokens[:, None] - tokens, length(abs(tokens[:, None]) + abs(tokens))  # of two tokens
    for part in np.array_split(contexts, 1 + len(contexts) // 1024):
        own, right, seen = part[:, 0], part[:, 1], part[:, 2:]
        score = (near := np.where(seen >= 0, scores[:, own[:, None], seen], -np.inf)) - near.max(-1, keepdims=True)
        e = np.where(seen >= 0, scores_e[:, own[:, None], seen] - 4 * UNIT * score, 0) + 2 * LIBRARY  # (H, N, L)
        weight, most = np.exp(score) / np.exp(score).sum(-1, keepdims=True), np.exp(e.max(-1, keepdims=True))
        y = weight[:, :, None] @ value[:, seen]  # (H, N, 1, C)
        e = weight * (most * np.expm1(e) * length(value[:, seen] - y) + most**2 * value_e[:, seen])
        x, y = cells[own], y.sum(0)[:, 0] + bias
        x, e = x + y, 1.001 * (e.sum((0, 2)) + n * (length(bias) + length(x) + length(y)))
        inner, y_e, inner_scale = norm(n, x, e, epsilon)
        y, y_e = first(inner, y_e)
        place, bent = np.clip(y, -8, 8) * 4096 + 32768, 0.5 * y_e[0] ** 2
        at = np.nan_to_num(place).astype(int)  # between two points GELU is within 6e-9 of a line; it bends by 0.8
        y_e, slope = 1.13 * y_e + 2e-4 * y_e[0] + LIBRARY * (length(y) + y_e[0]) + 1e-6, gelu[at + 1] - gelu[at]
        y, y_e = second(gelu[at] + (place - at) * slope + np.maximum(y - 8, 0), y_e)
        y_e += n * (length(x) + length(y) + e + y_e[0])
        z, (z_e, last), scale = norm(n, x + y, e + y_e[0], epsilon)
        lead = np.einsum("nc,nvc->nv", z * gain + shift, apart[right]) + np.where(np.eye(len(tokens)), np.inf, 0)[right]
        said = ((length(z) + z_e) * peak + 2 * n * length(shift))[:, None] * sizes[right]
        moved = 1.001 * z_e[:, None] * length(gain * apart[right]) + said
        at, other = np.nonzero(lead < 2 * moved)  # where lengths are not enough: gradients of a lead, layer by layer
        last = length(g := 1.001 * gain * apart[right[at], other]) * last[at] + said[at, other]
        back = (g := before_norm(g, z[at], scale[at])) @ thin.T
        last += length(g) * y_e[1, at] + abs(back).max(1, initial=0) * bent[at]
        g += before_norm(back * 4096 * slope[at] @ wide.T, inner[at], inner_scale[at])
        moved[at, other] = last + length(g) * e[at]
        found.append([lead.min(1), moved.max(1), (lead - moved).min(1)])
    return np.concatenate(found, 1)


def prove(folder):
    """Print what is so, and end."""
    config, base, operators, window, ids, weights, digest = read(folder)
    kinds, counts = window[2] + 1 if window else TOP + 1, 0
    index = {(token, kind): number * kinds + kind for token, number in ids.items() for kind in range(kinds)}
    print(f"{folder.resolve()}, base {base}, model.safetensors with sha256\n{digest}\n")
    print("       contexts     different         right  surely right  smallest lead  rounded by <= ...and left >=")
    for operator in operators:
        listed = list(window_sums(base, *window) if window else (division if operator == "/" else rows)(operator, base))
        check_the_list(operator, base, dict(listed), window)
        asked = [[index[own], ids[right], *map(index.get, seen)] for (own, seen), right in set(listed)]
        lead, moved, left = ask(config, weights, kinds, np.array([*zip_longest(*asked, fillvalue=-1)]).T)
        counts += (count := np.array([len(listed), len(asked), (lead > 0).sum(), (left > 0).sum()]))
        print(operator, *(f"{n:13,}" for n in count), *(f"{x:14.4f}" for x in (lead.min(), moved.max(), left.min())))
    _, total, right, sure = counts
    print("\n" + __doc__.rpartition("\n\n")[2])
    if sure < total:
        stop(7, f"not proved: {total - right:,} of {total:,} contexts are wrong, {right - sure:,} not surely right")
    stop(0, f"proved: the model works out {' '.join(operators)} rightly in base {base}, for numbers of any length")


if __name__ == "__main__":
    np.seterr(all="ignore")
    try:
        stop(0, __doc__) if {"-h", "--help"} & {*sys.argv} else prove(Path([*sys.argv[1:], Path(__file__).parent][0]))
    except BrokenPipeError:
        os._exit(141)  # nobody reads on
    except Exception as error:
        stop(2, f"{' '.join(sys.argv)}: nothing can be proved here: {type(error).__name__} {str(error)[:200]!r}")
