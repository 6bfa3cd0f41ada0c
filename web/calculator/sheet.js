// The sheet of paper: the tokens where `layOut` puts them, those that are written so far, and one that is looked at.

import { element, svgElement } from "./elements.js";
import { nameOf, placeOf, seenBy } from "./explanation.js";
import { layOut } from "./layout.js";
import { BAR, shown } from "./symbols.js";

const LARGE = 800; // tokens
const KEYS = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];

/** A worked problem on paper. */
export class Sheet {
  /** Draw it; `onChoose(index, how)` is told of a token that is chosen by an event: pointerover, click or keydown. */
  constructor(worked, problem, base, onChoose) {
    Object.assign(this, { worked, base, chosen: null });
    const layout = layOut(worked, problem, base);
    this.places = new Map(layout.lines.flat().map((place) => [place.index, place]));
    [this.cells, this.states] = [new Map(), new Map()];
    const rows = layout.lines.map((items) => {
      const [{ y, isSmall }] = items;
      const row = { role: "row", class: isSmall ? "small" : "", style: { "--y": y } };
      return element("div", row, ...items.map((place) => this.#cell(place)));
    });
    const drawn = (kind, style, ...text) => element("span", { class: kind, "aria-hidden": "true", style }, ...text);
    this.notes = layout.notes.map(({ text, kind, ...place }) => drawn(`note ${kind}`, at(place), text));
    const rules = layout.rules.map(({ width, ...place }) => drawn("rule", { ...at(place), "--w": width }));
    this.lines = svgElement("svg", { class: "looks", viewBox: `0 0 ${layout.width} ${layout.height}`, "aria-hidden": "true" });
    this.element = element(
      "div",
      {
        class: `sheet ${worked.tokens.length > LARGE ? "large" : ""}`,
        role: "grid",
        tabindex: 0,
        "aria-label": "The work on paper; arrow keys step through what was written",
        style: { "--wide": layout.width, "--high": layout.height },
      },
      ...rules,
      ...this.notes,
      this.lines,
      ...rows,
    );
    this.#listen(onChoose);
  }

  #cell(place) {
    const { tokens, first } = this.worked;
    const token = tokens[place.index];
    const isBar = token.symbol === 2 * this.base + BAR;
    const kinds = ["cell", nameOf(token, this.base), isBar ? "stroke" : "", place.index < first ? "asked" : "said"];
    if (token.symbol === this.base) kinds.push("nothing"); // a carry of 0
    const attributes = { class: kinds.join(" "), role: "gridcell", "data-index": place.index, style: { "--x": place.x } };
    const cell = element("span", attributes, shown(token.symbol, this.base));
    this.cells.set(place.index, cell);
    return cell;
  }

  #listen(onChoose) {
    const pointed = ({ target, type }) => {
      const index = Number(target.closest?.("[data-index]")?.dataset.index ?? -1);
      if (index >= this.worked.first && index !== this.chosen) onChoose(index, type);
    };
    for (const event of ["pointerover", "click"]) this.element.addEventListener(event, pointed);
    this.element.addEventListener("keydown", (event) => {
      if (!KEYS.includes(event.key) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      onChoose(this.#step(event.key), event.type);
    });
  }

  /** Where a key leads: left and right along the text, which runs to the left, up and down in the column. */
  #step(key) {
    const [first, last] = [this.worked.first, this.worked.tokens.length - 1];
    const here = this.chosen ?? last;
    if (key === "Home") return first;
    if (key === "End") return last;
    if (key === "ArrowLeft") return Math.min(here + 1, last);
    if (key === "ArrowRight") return Math.max(here - 1, first);
    const from = this.places.get(here);
    if (from === undefined) return here; // work that has not its form is not all on the sheet
    const down = key === "ArrowDown" ? 1 : -1;
    let best = { index: here, far: Infinity };
    for (const { index, x, y } of this.places.values()) {
      if (index < first || (y - from.y) * down <= 0) continue;
      const far = Math.abs(y - from.y) + 4 * Math.abs(x - from.x);
      if (far < best.far) best = { index, far };
    }
    return best.index;
  }

  /** Show what is written when `isWritten(token)`; the newest of it, by `isNew`, stands out. */
  write(isWritten, isNew) {
    let isWhole = true;
    for (const [index, cell] of this.cells) {
      if (index < this.worked.first) continue;
      const token = this.worked.tokens[index];
      const state = isNew(token) ? "new" : isWritten(token) ? "" : "later";
      isWhole &&= state !== "later";
      if (state === (this.states.get(index) ?? "")) continue; // of thousands a few change
      cell.classList.remove("new", "later");
      if (state) cell.classList.add(state);
      this.states.set(index, state);
    }
    for (const note of this.notes) note.classList.toggle("later", !isWhole);
  }

  /** Look at one token: mark it, what said it and what that saw, and draw lines between. */
  look(index) {
    for (const cell of this.element.querySelectorAll("[data-role]")) cell.removeAttribute("data-role");
    this.element.querySelector("#here")?.removeAttribute("id");
    this.chosen = index;
    this.lines.replaceChildren();
    const cell = this.cells.get(index);
    if (index === null || cell === undefined) return;
    const { tokens } = this.worked;
    const speaker = tokens[index - 1];
    this.cells.get(speaker.index)?.setAttribute("data-role", "own");
    const seen = seenBy(speaker, tokens);
    for (const { role, token } of seen) this.cells.get(token.index)?.setAttribute("data-role", role);
    cell.dataset.role = "said";
    cell.id = "here";
    cell.setAttribute("aria-label", `${cell.textContent}, ${nameOf(tokens[index], this.base)}, ${placeOf(tokens[index], this.worked, this.base)}`);
    this.element.setAttribute("aria-activedescendant", "here");
    this.lines.replaceChildren(...seen.flatMap(({ role, token }) => this.#line(token.index, index, role)));
  }

  /** A curve from the middle of one cell to that of another. */
  #line(from, to, role) {
    const [start, end] = [from, to].map((index) => this.places.get(index));
    if (start === undefined || end === undefined || from === to) return [];
    const [[x1, y1], [x2, y2]] = [start, end].map(({ x, y, isSmall }) => [x + 0.5, y + (isSmall ? 0.3 : 0.5)]);
    const bend = 0.18 * Math.hypot(x2 - x1, y2 - y1);
    const [x, y] = [(x1 + x2) / 2 + (y1 === y2 ? 0 : bend), (y1 + y2) / 2 - bend];
    return [svgElement("path", { d: `M${x1} ${y1} Q${x} ${y} ${x2} ${y2}`, "data-line": role })];
  }

  /** Move what the box shows of the sheet to where a token is; the page stays. */
  revealIn(box, index) {
    const [cell, room] = [this.cells.get(index), box].map((one) => one?.getBoundingClientRect());
    if (cell === undefined) return;
    const move = (low, high, least, most) => Math.min(0, low - least) || Math.max(0, high - most);
    box.scrollLeft += move(cell.left, cell.right, room.left, room.right);
    box.scrollTop += move(cell.top, cell.bottom, room.top, room.bottom);
  }

  /** Bring a token into view, without moving the page more than it has to. */
  reveal(index) {
    this.cells.get(index)?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

function at({ x, y }) {
  return { "--x": x, "--y": y };
}
