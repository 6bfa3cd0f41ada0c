// Forward passes: what each one read and what it said.

import { element } from "./elements.js";
import { describeTokens, tile } from "./tiles.js";

/** Draw the row of tokens with its position IDs, and under it a line a pass: a bar over what it read, what it said. */
export function passesFigure(addition, model) {
  const tokens = describeTokens(addition, model);
  const passOf = (index) => addition.passes.findIndex(({ first, numSaid }) => index >= first && index < first + numSaid);
  const at = (column, span = 1) => ({ "grid-column": `${column + 1} / span ${span}` });
  const tiles = tokens.map((token, index) =>
    tile(token, "span", { style: { ...at(index), "grid-row": 1, ...(token.isAnswer ? { "--pass": passOf(index) } : {}) } }),
  );
  const ids = tokens.map(({ position, name }, index) =>
    element("span", { class: "position", title: `position ID of ${name}`, style: { ...at(index), "grid-row": 2 } }, String(position)),
  );
  const lines = addition.passes.flatMap(({ numRead, first, numSaid, milliseconds }, pass) => {
    const place = { "grid-row": pass + 3, "--pass": pass };
    const words = `pass ${pass + 1} reads ${numRead}`;
    const bar = element("span", { class: "reads", style: { ...at(0, numRead), ...place } }, element("span", {}, words));
    const said = tokens.slice(first, first + numSaid);
    bar.title = `${words} tokens, says ${said.map(({ text }) => text).join(" ")} after ${milliseconds.toFixed(1)} ms`;
    return [bar, ...said.map((token, index) => tile(token, "span", { style: { ...at(first + index), ...place } }))];
  });
  return element("div", { class: "row passes", style: { "--count": tokens.length, "--passes": addition.passes.length } }, ...tiles, ...ids, ...lines);
}
