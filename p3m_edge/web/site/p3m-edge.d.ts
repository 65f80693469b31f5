/** p3m-edge in the browser: an artefact of ONNX Runtime becomes a function from frame to alpha. */

/** RGBA of 8 bits, rows from the top: ImageData, or anything of its form. Its alpha is not looked at. */
export interface Frame {
  readonly width: number;
  readonly height: number;
  readonly data: Uint8ClampedArray | Uint8Array;
}

export type Provider = "wasm" | "webgpu";

export interface Options {
  /** Where it runs: the processor (default), or the graphics processor. */
  provider?: Provider;
  /** Threads of WASM; default: one for each core, at most 4. Without cross-origin isolation there is one. */
  threads?: number | null;
  /** How a frame meets the network's size: fills it (default), or keeps its aspect, with bars. */
  resize?: "stretch" | "letterbox";
  /** Of the alpha: 0..255 (default), or 0..1. */
  dtype?: "uint8" | "float32";
  /** Let the alpha follow the frame's edges by a guided filter (default), or only interpolate it. */
  refine?: boolean;
  /** The folder with ONNX Runtime Web; default: ort/ beside this module. */
  runtime?: string;
}

/** The artefact and what runs it. `hashed`: whether its SHA-256 were checked, which needs localhost or HTTPS. */
export interface Info {
  readonly target: string;
  readonly precision: string;
  readonly arch: string;
  readonly trained: boolean;
  /** Of the network's input; null: they depend on the frame. */
  readonly width: number | null;
  readonly height: number | null;
  readonly engine: "onnxruntime-web";
  readonly version: string;
  readonly provider: Provider;
  /** What the graphics processor calls itself. */
  readonly adapter: string | null;
  readonly threads: number;
  readonly hashed: boolean;
}

/** The errors of one golden vector; null: the artefact lacks that output. The names are those of golden.py. */
export interface Difference {
  readonly image: string;
  readonly logits_mean: number | null;
  readonly local_mean: number | null;
  readonly local_share: number | null;
  readonly flips: number | null;
  readonly alpha_mean: number;
  readonly alpha_max: number;
  readonly alpha_share: number;
  readonly mse: number;
  readonly grad_mean: number;
}

/** The verdict of the golden vectors; `failures` has a sentence for each limit that was exceeded. */
export interface SelfTest {
  readonly passed: boolean;
  readonly limits: Readonly<Record<string, number | null>>;
  readonly items: readonly Difference[];
  readonly failures: readonly string[];
}

export interface Choice {
  readonly matting: Matting;
  readonly verdict: SelfTest;
  /** The providers that came before it, and why they are not used. */
  readonly refused: readonly { provider: Provider; reason: string }[];
}

/** Something that the user can act on; `hint` says how. */
export class MattingError extends Error {
  readonly hint: string | null;
}

/** This provider does not run the artefact here; another one may. */
export class ProviderError extends MattingError {}

export class Matting {
  private constructor();
  /** What the artefact says about itself: its manifest.json. */
  readonly manifest: Readonly<Record<string, unknown>>;
  readonly info: Info;
  /**
   * Open an artefact of ONNX Runtime (default: artefact/ beside the page). A MattingError says what is wrong with it
   * or with the browser; a ProviderError, that the provider does not run it here.
   */
  static load(url?: string, options?: Options): Promise<Matting>;
  /**
   * Open it with the first of the providers (default: webgpu, wasm) that passes the self-test. Those that do not are in
   * `refused`, to be shown; none of them is used in silence.
   */
  static choose(url?: string, options?: Omit<Options, "provider"> & { providers?: Provider[] }): Promise<Choice>;
  /** The alpha of one frame, a value for each pixel, rows from the top; memory of its own. */
  matte(frame: Frame): Promise<Uint8ClampedArray | Float32Array>;
  /** Run the golden vectors, all outputs, and hold them against the limits of the parity gate. */
  selftest(): Promise<SelfTest>;
  /** Finish what is at work and free the model; closing again does nothing. */
  close(): Promise<void>;
}
