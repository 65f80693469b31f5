// p3m-edge in the browser: an artefact of ONNX Runtime becomes a function from frame to alpha.
//
//   const matting = await Matting.load("artefact/");
//   const alpha = await matting.matte(imageData);
//
// Types and errors are in p3m-edge.d.ts. It runs in a window or a worker; a worker leaves the page free. Everything is
// fetched from the folder that this file lies in: the artefact, and ONNX Runtime Web in ort/.

import { compare, failures, readGolden } from "./golden.js";
import { fit, fittingSize, fromNetwork, refine, toNetwork } from "./preprocess.js";

const SCHEMA = 2; // of manifest.json
const NO_DIGEST = "0".repeat(64);
const MOST_THREADS = 4;
// A module with one SIMD instruction: (func (result v128) (v128.const 0)).
const SIMD = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 22, 1, 20, 0, 253, 12, ...Array(16).fill(0), 11,
];
const BUILDS = {
  wasm: { script: "ort.wasm.min.js", binary: "ort-wasm-simd-threaded" },
  webgpu: { script: "ort.webgpu.min.js", binary: "ort-wasm-simd-threaded.asyncify" },
};

/** Something that the user can act on; `hint` says how. */
export class MattingError extends Error {
  constructor(message, hint = null, cause = undefined) {
    super(message, { cause });
    this.name = this.constructor.name;
    this.hint = hint;
  }
}

/** This provider does not run the artefact here; another one may. */
export class ProviderError extends MattingError {}

export class Matting {
  #session;
  #tensor;
  #queue = Promise.resolve();
  #closed = false;
  #options;
  #fetched;

  constructor(session, tensor, manifest, info, options, fetched) {
    this.#session = session;
    this.#tensor = tensor;
    this.#options = options;
    this.#fetched = fetched;
    this.manifest = manifest;
    this.info = info;
  }

  static async load(url = "artefact/", options = {}) {
    const settings = { provider: "wasm", threads: null, resize: "stretch", dtype: "uint8", refine: true, ...options };
    oneOf("provider", settings.provider, Object.keys(BUILDS));
    oneOf("resize", settings.resize, ["stretch", "letterbox"]);
    oneOf("dtype", settings.dtype, ["uint8", "float32"]);
    if (!WebAssembly.validate(new Uint8Array(SIMD))) {
      throw new MattingError("this browser has no WebAssembly SIMD", "use Chrome 91, Firefox 89, Safari 16.4 or newer");
    }
    const folder = new URL(url.endsWith("/") ? url : `${url}/`, globalThis.location?.href ?? import.meta.url);
    const manifest = await readManifest(folder);
    const fetched = (name) => fetchFile(folder, name, manifest.files[name]);
    const adapter = settings.provider === "webgpu" ? await gpu(manifest) : null;
    const ort = await runtime(settings, new URL(settings.runtime ?? "ort/", import.meta.url));
    const model = new Uint8Array(await fetched(manifest.model_file));
    let session;
    try {
      session = await ort.InferenceSession.create(model, {
        executionProviders: [settings.provider], logSeverityLevel: 3, graphOptimizationLevel: "all",
      });
    } catch (error) {
      throw new ProviderError(`${settings.provider} does not open ${manifest.model_file}: ${told(error)}`, null, error);
    }
    const info = {
      target: manifest.target, precision: manifest.precision, arch: manifest.model.arch,
      trained: manifest.model.trained, width: manifest.input.width, height: manifest.input.height,
      engine: "onnxruntime-web", version: ort.env.versions.web, provider: settings.provider, adapter,
      threads: ort.env.wasm.numThreads, hashed: Boolean(globalThis.crypto?.subtle),
    };
    return new Matting(session, ort.Tensor, manifest, info, settings, fetched);
  }

  static async choose(url = "artefact/", { providers = ["webgpu", "wasm"], ...options } = {}) {
    const refused = [];
    for (const provider of providers) {
      let matting = null;
      try {
        matting = await Matting.load(url, { ...options, provider });
        const verdict = await matting.selftest();
        if (verdict.passed) return { matting, verdict, refused };
        refused.push({ provider, reason: `it fails its self-test: ${verdict.failures[0]}` });
      } catch (error) {
        if (!(error instanceof ProviderError)) throw error;
        refused.push({ provider, reason: error.message });
      }
      await matting?.close();
    }
    const reasons = refused.map(({ provider, reason }) => `${provider}: ${reason}`).join("; ");
    throw new MattingError(`nothing here runs the artefact. ${reasons}`, "try another browser or device");
  }

  async matte(frame) {
    const { data, width, height } = frame ?? {};
    const bytes = data instanceof Uint8ClampedArray || data instanceof Uint8Array;
    if (!bytes || !(width > 0 && height > 0) || data.length !== width * height * 4) {
      throw new MattingError("a frame is {width, height, data}, RGBA of 8 bits, as ImageData is");
    }
    const input = this.manifest.input;
    const size = input.width === null ? fittingSize(width, height, input.multiple_of) : [input.width, input.height];
    const place = fit(frame, ...size, this.#options.resize);
    const image = toNetwork(frame, place);
    const { alpha } = await this.#run(image.data, [1, image.height, image.width, 3], ["alpha"]);
    const largest = this.#options.dtype === "uint8" ? 255 : 1;
    return this.#options.refine ? refine(alpha, frame, image, place, largest) : fromNetwork(alpha, place, largest);
  }

  async selftest() {
    const { outputs, parity } = this.manifest;
    const limits = parity.limits;
    let vectors;
    const buffer = await this.#fetched("golden.npz");
    try {
      vectors = await readGolden(buffer, outputs);
    } catch (error) {
      throw new MattingError(`golden.npz cannot be read: ${told(error)}`, "copy the artefact again", error);
    }
    const items = [];
    for (const [index, { image, outputs: reference }] of vectors.entries()) {
      const found = await this.#run(image.data, image.shape, Object.keys(reference));
      items.push({ image: `golden ${index}`, ...compare(reference, found, limits.pixel_tolerance) });
    }
    const failed = items.flatMap((item) => failures(item.image, item, limits));
    return { passed: failed.length === 0, limits, items, failures: failed };
  }

  async close() {
    if (this.#closed) return;
    this.#closed = true;
    await this.#queue;
    await this.#session.release();
  }

  /** One inference; a session takes them one after the other. */
  #run(image, shape, outputs) {
    if (this.#closed) throw new MattingError("it has been closed");
    const input = { [this.manifest.input.name]: new this.#tensor("uint8", image, shape) };
    const answer = this.#queue.then(async () => {
      try {
        const found = await this.#session.run(input, outputs);
        return Object.fromEntries(outputs.map((name) => [name, found[name].data]));
      } catch (error) {
        throw new ProviderError(`${this.info.provider} fails: ${told(error)}`, "choose another provider", error);
      }
    });
    this.#queue = answer.catch(() => {});
    return answer;
  }
}

const told = (error) => String(error?.message ?? error).split("\n")[0];

function oneOf(what, name, known) {
  if (!known.includes(name)) throw new MattingError(`unknown ${what} ${name}`, `choose from: ${known.join(", ")}`);
}

/** ONNX Runtime Web, of the build that has the provider. Its number of threads is that of the first load. */
async function runtime({ provider, threads }, folder) {
  const { script, binary } = BUILDS[provider];
  let ort;
  try {
    ort = await import(new URL(script, folder).href);
  } catch (error) {
    throw new ProviderError(`ONNX Runtime Web cannot be loaded from ${folder}: ${told(error)}`, null, error);
  }
  const [mjs, wasm] = ["js", "wasm"].map((suffix) => new URL(`${binary}.${suffix}`, folder).href);
  ort.env.wasm.wasmPaths = { mjs, wasm };
  const available = globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency || 1) : 1;
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? (threads ?? available) : 1;
  ort.env.logLevel = "error";
  return ort;
}

/** What the graphics processor calls itself. */
async function gpu(manifest) {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new ProviderError("this browser has no WebGPU here");
  if (manifest.precision === "fp16" && !adapter.features.has("shader-f16")) {
    throw new ProviderError("WebGPU has no half precision (shader-f16) here, which the artefact needs");
  }
  const { vendor, architecture, description } = adapter.info ?? {};
  return description || [vendor, architecture].filter(Boolean).join(" ") || "WebGPU";
}

async function fetched(folder, name) {
  let response;
  try {
    response = await fetch(new URL(name, folder));
    if (response.ok) return await response.arrayBuffer();
  } catch (error) {
    throw new MattingError(`${new URL(name, folder)} cannot be fetched: ${told(error)}`, null, error);
  }
  throw new MattingError(`${new URL(name, folder)} cannot be fetched: ${response.status} ${response.statusText}`);
}

/** The SHA-256 as 64 digits; null where the page is neither on localhost nor on HTTPS, and browsers give none. */
async function sha256(data) {
  const digest = await globalThis.crypto?.subtle?.digest("SHA-256", data);
  return digest && Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A file of the artefact, if it is as long as the manifest says and has its hash. */
async function fetchFile(folder, name, record) {
  if (!record) throw new MattingError(`manifest.json does not list ${name}`, "export the artefact again");
  const data = await fetched(folder, name);
  if (data.byteLength !== record.bytes) {
    throw new MattingError(
      `${name} has ${data.byteLength} bytes, the manifest says ${record.bytes}`, "copy the artefact again",
    );
  }
  if (((await sha256(data)) ?? record.sha256) !== record.sha256) {
    throw new MattingError(`${name} was changed: its SHA-256 is not that in the manifest`, "copy the artefact again");
  }
  return data;
}

async function readManifest(folder) {
  const text = new TextDecoder().decode(await fetched(folder, "manifest.json"));
  let manifest;
  try {
    manifest = JSON.parse(text);
  } catch (error) {
    throw new MattingError(`manifest.json cannot be read: ${told(error)}`, "copy the artefact again", error);
  }
  const digest = String(manifest?.sha256);
  const bare = text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1").replace(digest, NO_DIGEST);
  if (((await sha256(new TextEncoder().encode(bare))) ?? digest) !== digest) {
    throw new MattingError("manifest.json has been changed or damaged since it was written", "copy the artefact again");
  }
  const { engine, schema, parity, input } = manifest;
  if (schema !== SCHEMA) throw new MattingError(`manifest.json has schema ${schema}; this module reads ${SCHEMA}`);
  if (engine.name !== "onnxruntime") throw new MattingError(`the artefact is for ${engine.name}, not onnxruntime`);
  if (!parity?.passed) throw new MattingError("the artefact has not passed its parity gate", "export it again");
  if (input.batch !== 1) throw new MattingError(`the artefact takes ${input.batch} frames at a time, not one`);
  return manifest;
}
