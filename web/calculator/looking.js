// One token: what was seen when it was said, from where, what follows from it, and how sure the model is.

import { element } from "./elements.js";
import { nameOf, placeOf, reason, seenBy } from "./explanation.js";
import { shown } from "./symbols.js";
import { grouped } from "./text.js";

/** Tell of the token at an index; `shares(own, seen)` is, head by head, how much it takes of what it sees. */
export function looking(worked, index, base, shares) {
  const { tokens } = worked;
  const said = tokens[index];
  const speaker = tokens[index - 1];
  const seen = seenBy(speaker, tokens);
  const taken = shares(speaker.code, seen.map(({ token }) => token.code));
  const tile = (token, role) => element("span", { class: `tile ${nameOf(token, base)}`, "data-role": role }, shown(token.symbol, base));
  const one = ({ role, token }, place) =>
    element(
      "li",
      {},
      tile(token, role),
      element("span", { class: "from" }, element("strong", {}, role), `, ${placeOf(token, worked, base)}`),
      heads(taken.map((of) => of[place])),
    );
  return [
    element(
      "p",
      { class: "what" },
      tile(said, "said"),
      element(
        "span",
        {},
        element("strong", {}, `${nameOf(said, base)}, ${placeOf(said, worked, base)}`),
        ". Said at ",
        tile(speaker, "own"),
        ` (${placeOf(speaker, worked, base)}), which sees`,
      ),
    ),
    element("ul", { class: "seen" }, ...seen.map(one)),
    element("p", { class: "legend", "aria-hidden": "true" }, "Bars: what each head takes of it."),
    element("p", { class: "reason" }, reason(said, worked, base)),
    element("p", { class: "sure" }, sureness(said.said, base)),
  ];
}

/** What each head takes of a token, as bars. */
function heads(shares) {
  const percents = shares.map((share) => Math.round(100 * share));
  const words = `of the attention of heads 1 to ${shares.length}: ${percents.join(", ")}%`;
  const bars = shares.map((share) => element("i", { style: { "--share": share.toFixed(3) } }));
  return element("span", { class: "heads", role: "img", "aria-label": words, title: words }, ...bars);
}

/** How sure the model is: its lead, and the chance that it would give to all else. */
export function sureness({ lead, second, doubt }, base) {
  const over = second < 0 ? "anything else" : shown(second, base) + (second >= base && second < 2 * base ? " as a carry" : "");
  const odds = grouped(Number((1 / doubt).toPrecision(2)).toFixed(0));
  return `Ahead of ${over} by ${lead.toFixed(1)} logits: were it left to chance, it would say something else once in ${odds}.`;
}
