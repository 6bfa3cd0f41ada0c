// The model: one transformer block as a function of what is in view, in doubles.
//
// Letters: N cells (a symbol and its kind), C the width, H heads, D = C / H, F neurons, V tokens.
//
// In one block keys, values and queries depend on a cell alone, so they are tables that are made once: how much each
// cell looks at each (H, N, N), and what a head adds that looks at a cell alone (H, N, C). What is left for a context
// is to mix up to seven of them, and the neurons.

import { KINDS } from "./symbols.js";

const GRID = 256; // points a unit of the table of GELU; the parabola through three of them is within 1e-8
const REACH = 8; // beyond, GELU is 0 or its argument to 1e-14

/** A network, made of the file of weights and of model.json. */
export class Network {
  constructor(weights, model) {
    const both = (name) => [weights(`${name}.weight`), weights(`${name}.bias`)];
    this.epsilon = model.epsilon;
    this.symbols = model.symbols; // the token of each
    this.tokens = weights("wte.weight"); // (V, C)
    this.width = model.width;
    this.heads = model.heads;
    [this.inner, this.final] = [both("h.0.ln_2"), both("ln_f")];
    const layer = ([matrix, bias]) => [transposed(matrix, matrix.length / bias.length), bias];
    [this.neurons, this.outer] = [layer(both("h.0.mlp.c_fc")), layer(both("h.0.mlp.c_proj"))]; // (F, C), (C, F)
    this.hidden = new Float64Array(this.neurons[1].length);
    this.gelu = geluTable(model.activation);
    this.#tabulate(weights("wpe.weight"), both("h.0.ln_1"), both("h.0.attn.c_attn"), both("h.0.attn.c_proj"));
    this.states = Array.from({ length: 2 }, () => new Float64Array(model.width));
    this.logits = new Float64Array(this.tokens.length / model.width);
  }

  /** Fill the tables of all cells. */
  #tabulate(positions, norm, mix, project) {
    const [width, heads, size] = [this.width, this.heads, this.width / this.heads];
    this.count = this.symbols.length * KINDS.length;
    this.cells = new Float64Array(this.count * width);
    const [queries, keys, values] = [0, 1, 2].map(() => new Float64Array(heads * this.count * size)); // (H, N, D) each
    const normal = new Float64Array(width);
    for (let code = 0; code < this.count; code++) {
      const state = this.cells.subarray(code * width, (code + 1) * width);
      const [token, kind] = [this.symbols[Math.floor(code / KINDS.length)], code % KINDS.length];
      for (let c = 0; c < width; c++) state[c] = this.tokens[token * width + c] + positions[kind * width + c];
      layerNorm(state, norm, this.epsilon, normal);
      const mixed = linear(normal, mix);
      for (let head = 0; head < heads; head++) {
        for (const [index, table] of [queries, keys, values].entries()) {
          const start = index * width + head * size;
          table.set(mixed.subarray(start, start + size), (head * this.count + code) * size);
        }
      }
    }
    this.scores = new Float64Array(heads * this.count ** 2);
    this.values = new Float64Array(heads * this.count * width);
    const none = new Float64Array(width);
    for (let row = 0; row < heads * this.count; row++) {
      const head = Math.floor(row / this.count);
      const query = queries.subarray(row * size, (row + 1) * size);
      for (let seen = 0; seen < this.count; seen++) {
        const score = product(query, keys, (head * this.count + seen) * size);
        this.scores[row * this.count + seen] = score / Math.sqrt(size);
      }
      const ofHead = project[0].subarray(head * size * width, (head + 1) * size * width); // (D, C)
      this.values.set(linear(values.subarray(row * size, (row + 1) * size), [ofHead, none]), row * width);
    }
    this.projectBias = project[1];
  }

  /** How much a head of a cell that asks takes from each that it sees; they add up to 1. */
  shares(head, own, seen) {
    const row = (head * this.count + own) * this.count;
    const scores = seen.map((code) => this.scores[row + code]);
    const most = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - most));
    const sum = weights.reduce((one, other) => one + other);
    return weights.map((weight) => weight / sum);
  }

  /** The logits of a context, (V,): the cell that asks, and those it sees. The array is used again by the next. */
  ask(own, seen) {
    const width = this.width;
    const [state, normal] = this.states;
    for (let c = 0; c < width; c++) state[c] = this.cells[own * width + c] + this.projectBias[c];
    for (let head = 0; head < this.heads; head++) {
      this.shares(head, own, seen).forEach((share, index) => {
        const at = (head * this.count + seen[index]) * width;
        for (let c = 0; c < width; c++) state[c] += share * this.values[at + c];
      });
    }
    layerNorm(state, this.inner, this.epsilon, normal);
    this.#addNeurons(normal, state);
    layerNorm(state, this.final, this.epsilon, normal);
    for (let token = 0; token < this.logits.length; token++) this.logits[token] = product(normal, this.tokens, token * width);
    return this.logits;
  }

  #addNeurons(normal, state) {
    const [[up, upBias], [down, downBias], hidden, gelu] = [this.neurons, this.outer, this.hidden, this.gelu];
    for (let neuron = 0; neuron < hidden.length; neuron++) {
      const x = upBias[neuron] + product(normal, up, neuron * normal.length);
      const place = (Math.min(Math.max(x, -REACH), REACH) + REACH) * GRID + 1;
      const near = (place + 0.5) | 0;
      const off = place - near;
      const one = gelu[near + 1] - gelu[near];
      const other = gelu[near] - gelu[near - 1];
      hidden[neuron] = gelu[near] + (off / 2) * (one + other + off * (one - other)) + Math.max(x - REACH, 0);
    }
    for (let c = 0; c < state.length; c++) state[c] += downBias[c] + product(hidden, down, c * hidden.length);
  }
}

/** x (A,), its length a multiple of 4, times a row of a matrix that begins at an index; four sums do not wait for each other. */
function product(x, matrix, at) {
  let one = 0;
  let two = 0;
  let three = 0;
  let four = 0;
  for (let index = 0; index < x.length; index += 4, at += 4) {
    one += x[index] * matrix[at];
    two += x[index + 1] * matrix[at + 1];
    three += x[index + 2] * matrix[at + 2];
    four += x[index + 3] * matrix[at + 3];
  }
  return one + two + (three + four);
}

/** The largest logit: its token, its lead over the next, that token, and the largest one's probability. */
export function likeliest(logits) {
  let [token, second] = logits[0] >= logits[1] ? [0, 1] : [1, 0];
  for (let index = 2; index < logits.length; index++) {
    if (logits[index] > logits[token]) [token, second] = [index, token];
    else if (logits[index] > logits[second]) second = index;
  }
  const others = logits.reduce((sum, logit, index) => sum + (index === token ? 0 : Math.exp(logit - logits[token])), 0);
  return { token, second, lead: logits[token] - logits[second], doubt: others / (1 + others) };
}

/** Mean 0 and variance 1, then a gain and a shift. */
function layerNorm(x, [gain, shift], epsilon, out) {
  let [mean, variance] = [0, 0];
  for (const value of x) mean += value / x.length;
  for (const value of x) variance += (value - mean) ** 2 / x.length;
  const scale = 1 / Math.sqrt(variance + epsilon);
  for (let c = 0; c < x.length; c++) out[c] = (x[c] - mean) * scale * gain[c] + shift[c];
}

/** x (A,) times a matrix (A, B), and a bias (B,). */
function linear(x, [matrix, bias]) {
  const out = bias.slice();
  x.forEach((value, row) => {
    for (let column = 0; column < out.length; column++) out[column] += value * matrix[row * out.length + column];
  });
  return out;
}

/** (A, B) -> (B, A). */
function transposed(matrix, rows) {
  const columns = matrix.length / rows;
  const out = new Float64Array(matrix.length);
  matrix.forEach((value, index) => {
    out[(index % columns) * rows + Math.floor(index / columns)] = value;
  });
  return out;
}

/** GELU from a step before -REACH to one after REACH, in steps of 1 / GRID; Simpson's rule sums the normal distribution. */
function geluTable(activation) {
  const table = new Float64Array(2 * REACH * GRID + 3);
  const density = (x) => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
  let below = 0;
  table.forEach((_, index) => {
    const x = (index - 1) / GRID - REACH;
    if (activation === "gelu_new") below = (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))) / 2;
    table[index] = x * below;
    below += (density(x) + 4 * density(x + 0.5 / GRID) + density(x + 1 / GRID)) / (6 * GRID);
  });
  return table;
}
