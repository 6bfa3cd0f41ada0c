// Attention over the tokens: arcs for one token and one head, and a small picture of every head to choose from.

import { element, svgElement } from "./elements.js";
import { describeTokens, tile } from "./tiles.js";

const HEIGHT = 10; // of the box that arcs are drawn in; its width is a token each
const SEEN = 0.005; // shares below are not drawn
const WRITTEN = 0.045; // shares below have no number

/** Draw the tokens of an addition, those of the answer as buttons that choose, with room for arcs and shares. */
export function tokenChooser(addition, model, onChoose) {
  const tiles = describeTokens(addition, model).map((token, index) => {
    if (!token.isAnswer) return tile(token);
    const answer = index - addition.promptLength;
    const button = tile(token, "button", { type: "button", "aria-pressed": false, "aria-label": token.name });
    for (const event of ["click", "focus", "pointerenter"]) button.addEventListener(event, () => onChoose(answer));
    return button;
  });
  const percents = tiles.map(() => element("span", { class: "percent" }));
  const box = { class: "arcs", viewBox: `0 0 ${tiles.length} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  return element("div", { class: "row", style: { "--count": tiles.length } }, svgElement("svg", box), ...tiles, ...percents);
}

/**
 * Draw arcs and shares into what `tokenChooser` made.
 *
 * `shares` is, for one head, a row a token of what it took from each; `chosen` is an index into the answer.
 */
export function drawArcs(row, addition, shares, chosen) {
  const speaker = addition.from[chosen];
  const said = addition.promptLength + chosen;
  row.querySelectorAll(".tile").forEach((one, index) => {
    one.toggleAttribute("data-speaker", index === speaker);
    if (one.matches("button")) one.setAttribute("aria-pressed", index === said);
  });
  row.querySelectorAll(".percent").forEach((one, index) => {
    const share = shares[speaker][index] ?? 0;
    one.textContent = share >= WRITTEN ? String(Math.round(share * 100)) : "";
  });
  row.querySelector("svg").replaceChildren(...arcs(addition.tokens.length, shares[speaker], speaker, said));
}

/** Curves from the speaker's column to every column it looks at; one more, dashed, to what it says. */
function arcs(numTokens, shares, speaker, said) {
  const arc = (to, attributes) => {
    const [left, right] = [Math.min(speaker, to) + 0.5, Math.max(speaker, to) + 0.5];
    const top = HEIGHT * (0.85 - 1.1 * Math.sqrt((right - left) / numTokens));
    const path = `M${left} ${HEIGHT} C${left} ${top} ${right} ${top} ${right} ${HEIGHT}`;
    return svgElement("path", { d: path, "vector-effect": "non-scaling-stroke", ...attributes });
  };
  const looks = [...shares].flatMap((share, index) => {
    if (share < SEEN || index === speaker) return [];
    return [arc(index, { class: "look", style: { "stroke-width": 1 + 6 * share, opacity: 0.18 + 0.82 * share } })];
  });
  return said === speaker ? looks : [...looks, arc(said, { class: "says" })];
}

/** Say in words what the arcs show: who speaks, and the three tokens it takes most from. */
export function arcsWords(addition, model, shares, chosen, { layer, head }) {
  const tokens = describeTokens(addition, model);
  const speaker = addition.from[chosen];
  const most = [...shares[speaker]]
    .map((share, index) => ({ share, name: tokens[index].name }))
    .sort((one, other) => other.share - one.share)
    .slice(0, 3)
    .filter(({ share }) => share >= SEEN)
    .map(({ share, name }) => `${Math.round(share * 100)}% from ${name}`);
  const strong = (text) => element("strong", {}, text);
  return [
    strong(tokens[addition.promptLength + chosen].name),
    " is said at ",
    strong(tokens[speaker].name),
    `. There, layer ${layer + 1}, head ${head + 1} takes ${most.join(", ")}.`,
  ];
}

/** A choice of heads: radio buttons in a table of layers by heads, each with its picture. */
export function headChooser(model, shown, onChoose) {
  const cells = [element("span", { class: "corner" })];
  for (let layer = 0; layer < model.layers; layer++) cells.push(element("span", { class: "axis" }, String(layer + 1)));
  for (let head = 0; head < model.heads; head++) {
    cells.push(element("span", { class: "axis side" }, String(head + 1)));
    for (let layer = 0; layer < model.layers; layer++) {
      const isChosen = layer === shown.layer && head === shown.head;
      const label = `layer ${layer + 1}, head ${head + 1}`;
      const radio = element("input", { type: "radio", name: "head", "aria-label": label, checked: isChosen });
      radio.addEventListener("change", () => onChoose({ layer, head }));
      const canvas = element("canvas", { "aria-hidden": "true", "data-layer": layer, "data-head": head });
      cells.push(element("label", { class: "head", title: label }, radio, canvas));
    }
  }
  const words = element("legend", {}, "Layers across, heads down");
  return [words, element("div", { class: "grid", style: { "--layers": model.layers } }, ...cells)];
}

/** Paint a head's picture: a pixel a pair of tokens, the reader in the rows, in the colour that the canvas has. */
export function paintHead(canvas, shares) {
  canvas.width = canvas.height = shares.length;
  const context = canvas.getContext("2d");
  context.fillStyle = getComputedStyle(canvas).color;
  shares.forEach((row, y) => {
    row.forEach((share, x) => {
      if (share < SEEN) return;
      context.globalAlpha = Math.sqrt(share);
      context.fillRect(x, y, 1, 1);
    });
  });
}

/** The head whose answer tokens take most from digits of the place they say: where the idea shows best. */
export function tellingHead(addition, model, attentions) {
  const tokens = describeTokens(addition, model);
  let best = { layer: 0, head: 0, share: -1 };
  for (let layer = 0; layer < model.layers; layer++) {
    for (let head = 0; head < model.heads; head++) {
      const shares = attentions(layer, head);
      let share = 0;
      addition.from.forEach((speaker, answer) => {
        const { place } = tokens[addition.promptLength + answer];
        if (!place) return;
        shares[speaker].forEach((part, index) => {
          if (!tokens[index].isAnswer && tokens[index].place === place) share += part;
        });
      });
      if (share > best.share) best = { layer, head, share };
    }
  }
  return best;
}
