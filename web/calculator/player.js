// Time on the sheet: a slider over what is written when, token by token or all rows at once, and a button that plays.

const LONGEST = 4000; // milliseconds that a whole problem plays
const EACH = 130; // and a step of a short one

/**
 * Moves over a worked problem.
 *
 * `onMove(isByHand)` is told after each move, and reads `isWritten`, `isNew` and `newest`; `onEnd()` when all is written
 * that was set or played.
 */
export class Player {
  constructor({ slider, button, ways }, onMove, onEnd) {
    Object.assign(this, { slider, button, ways, onMove, onEnd, playing: null, worked: null });
    slider.addEventListener("input", () => this.worked && this.stop().move(slider.valueAsNumber, true));
    button.addEventListener("click", () => (this.playing === null ? this.play() : this.stop()));
    for (const way of ways) way.addEventListener("change", () => this.worked && this.set(this.worked));
  }

  /** Whether all rows are written side by side. */
  get isWave() {
    return this.ways.find(({ checked }) => checked).value === "rows";
  }

  /** Take a worked problem, whole. */
  set(worked) {
    this.stop();
    this.worked = worked;
    this.slider.max = this.isWave ? worked.numSteps : worked.tokens.length - worked.first;
    this.move(Number(this.slider.max));
    this.onEnd();
  }

  move(position, isByHand = false) {
    this.position = position;
    this.slider.value = position;
    this.onMove(isByHand);
    return this;
  }

  /** When a token is written. */
  when(token) {
    return this.isWave ? token.step : token.index - this.worked.first + 1;
  }

  isWritten = (token) => this.when(token) <= this.position;
  isNew = (token) => this.when(token) === this.position && this.position < Number(this.slider.max);

  /** The index of the token that was written last, the lowest of them; null where none is. */
  get newest() {
    const found = this.worked.tokens.findLast((token) => token.said && this.when(token) === this.position);
    return found === undefined ? null : found.index;
  }

  /** Put the slider to where a token is written. */
  moveTo(index) {
    this.stop();
    const position = this.when(this.worked.tokens[index]);
    if (position > this.position) this.move(position);
  }

  /** Play from the slider's place on, or from the start. */
  play() {
    const last = Number(this.slider.max);
    const from = this.position >= last ? 0 : this.position;
    const pace = Math.min(EACH, LONGEST / last); // milliseconds a step
    const start = performance.now();
    this.button.setAttribute("aria-pressed", "true");
    const frame = (now) => {
      const position = Math.min(last, from + Math.floor(Math.max(0, now - start) / pace));
      if (position !== this.position) this.move(position);
      if (position < last) this.playing = requestAnimationFrame(frame);
      else this.stop().move(last).onEnd();
    };
    this.playing = requestAnimationFrame(frame);
    this.move(from);
  }

  stop() {
    if (this.playing !== null) cancelAnimationFrame(this.playing);
    this.playing = null;
    this.button.setAttribute("aria-pressed", "false");
    return this;
  }
}
