// Mattes in a worker, so that the page stays free: answers {id, method, args} with {id, result} or {id, error}.

import { Matting } from "./p3m-edge.js";

let matting = null;

const methods = {
  async choose(url, options) {
    const { matting: chosen, ...rest } = await Matting.choose(url, options);
    matting = chosen;
    return { ...rest, info: matting.info };
  },
  async matte(frame) {
    const start = performance.now();
    const alpha = await matting.matte(frame);
    return { frame, alpha, milliseconds: performance.now() - start };
  },
};

addEventListener("message", async ({ data: { id, method, args } }) => {
  try {
    const result = await methods[method](...args);
    postMessage({ id, result }, result.alpha ? [result.alpha.buffer, result.frame.data.buffer] : []);
  } catch (error) {
    postMessage({ id, error: { message: error.message, hint: error.hint ?? null } });
  }
});
