// The model itself: an ONNX file, run by onnxruntime-web in this page.

import * as ort from "./onnxruntime/ort.wasm.min.mjs";

ort.env.wasm.wasmPaths = new URL("./onnxruntime/", import.meta.url).href;
ort.env.wasm.numThreads = 1; // more need headers that a plain web server does not send

// The file is as it should run; to look for a better form of it takes longer than a sum.
const OPTIONS = { executionProviders: ["wasm"], graphOptimizationLevel: "disabled" };

/**
 * Ready the model that `download` fetched.
 *
 * Returns `likeliest(tokens, positions)`, the token with the largest logit at each index, and
 * `attentions(tokens, positions)`, a function (layer, head) -> a row a token of what it took from each token.
 */
export async function loadModel(bytes, model) {
  const session = await ort.InferenceSession.create(bytes, OPTIONS);
  const run = async (tokens, positions, output) => {
    const [input_ids, position_ids] = [tokens, positions].map(
      (values) => new ort.Tensor("int64", BigInt64Array.from(values, BigInt), [1, values.length]),
    );
    return (await session.run({ input_ids, position_ids }, [output]))[output].data;
  };
  return {
    async likeliest(tokens, positions) {
      const logits = await run(tokens, positions, "logits"); // (T, V)
      const size = logits.length / tokens.length;
      return tokens.map((_, index) => indexOfLargest(logits.subarray(index * size, (index + 1) * size)));
    },
    async attentions(tokens, positions) {
      const shares = await run(tokens, positions, "attentions"); // (L, 1, H, T, T)
      const length = tokens.length;
      return (layer, head) => {
        const start = (layer * model.heads + head) * length * length;
        return tokens.map((_, row) => shares.subarray(start + row * length, start + (row + 1) * length));
      };
    },
  };
}

function indexOfLargest(values) {
  let best = 0;
  for (let index = 1; index < values.length; index++) if (values[index] > values[best]) best = index;
  return best;
}
