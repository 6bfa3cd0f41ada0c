// The weights: a safetensors file as it lies in the model's folder, read into arrays of doubles.

/**
 * Read a file: 8 bytes with the length of its head, the head as JSON, then numbers of 32 bits.
 *
 * Returns
 *     a function (name) -> Float64Array, row by row; names as GPT-2 has them, such as "h.0.attn.c_attn.weight"
 */
export function readWeights(buffer) {
  const start = 8 + Number(new DataView(buffer).getBigUint64(0, true));
  const head = JSON.parse(new TextDecoder().decode(buffer.slice(8, start)));
  return (name) => {
    const { dtype, data_offsets } = head[`transformer.${name}`] ?? head[name] ?? {};
    if (dtype !== "F32") throw new Error(`model.safetensors has no ${name} in numbers of 32 bits`);
    return new Float64Array(new Float32Array(buffer.slice(start + data_offsets[0], start + data_offsets[1])));
  };
}
