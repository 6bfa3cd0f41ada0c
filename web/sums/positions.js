// Position IDs: what the model is told of where each token stands.

/**
 * Number the tokens of a row as the model was trained.
 *
 *     tokens     + 2 4 3 1 + 9 7 8 +     1342 and 879 in base 10
 *     positions  0 1 2 3 4 0 1 2 3 0     "block": 1, 2, 3, ... inside a number, 0 elsewhere
 */
export function positionIds(tokens, model) {
  if (model.position_embedding === "none") return tokens.map(() => 0);
  if (!model.position_embedding.startsWith("block")) return tokens.map((_, index) => index);
  let position = 0;
  return tokens.map((token) => (position = model.digit_ids.includes(token) ? position + 1 : 0));
}

/**
 * The place value of each digit, 1 for the ones, and which number it belongs to; place 0 is a delimiter.
 *
 * Where the least significant digit comes first, places are block positions. They colour the page whatever the model
 * is told.
 */
export function places(tokens, model) {
  const found = [];
  let number = 0;
  for (let start = 0; start < tokens.length; ) {
    let end = start;
    while (end < tokens.length && model.digit_ids.includes(tokens[end])) end++;
    for (let index = start; index < end; index++) {
      found.push({ place: model.reversed ? index - start + 1 : end - index, number });
    }
    if (end < tokens.length) found.push({ place: 0, number: number++ });
    start = end + 1;
  }
  return found;
}
