// The golden vectors of an artefact, and the verdict on an engine by them: runtimes/golden.py in JavaScript.

const RADIUS = 6; // of the Gaussian derivatives of GRAD, with a standard deviation of 1.4: metrics.py
const SIGMA = 1.4;
const MOST = 64; // pictures
const KINDS = { "|u1": Uint8Array, "<f4": Float32Array };

/** The vectors in `golden.npz`: for each picture its image (Uint8Array) and its reference outputs (Float32Array). */
export async function readGolden(buffer, outputs) {
  const members = new Map(entries(buffer));
  const count = [...members.keys()].filter((name) => name.startsWith("image_")).length;
  if (count < 1 || count > MOST) throw new Error(`golden.npz holds ${count || "no"} pictures`);
  const array = (name) => {
    if (!members.has(`${name}.npy`)) throw new Error(`golden.npz holds no ${name}`);
    return unpacked(buffer, members.get(`${name}.npy`)).then(npy);
  };
  return Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const wanted = outputs.map(async (output) => [output.name, await array(`${output.name}_${index}`)]);
      return { image: await array(`image_${index}`), outputs: Object.fromEntries(await Promise.all(wanted)) };
    }),
  );
}

/** The members of a ZIP file: name, and where its bytes are. */
function* entries(buffer) {
  const view = new DataView(buffer);
  let end = buffer.byteLength - 22;
  while (end >= 0 && view.getUint32(end, true) !== 0x06054b50) end--;
  if (end < 0) throw new Error("golden.npz is no ZIP file, or was cut short");
  let at = view.getUint32(end + 16, true);
  for (let left = view.getUint16(end + 10, true); left > 0; left--) {
    const lengths = [28, 30, 32].map((place) => view.getUint16(at + place, true));
    const name = new TextDecoder().decode(new Uint8Array(buffer, at + 46, lengths[0]));
    const [bytes, place] = [20, 42].map((offset) => view.getUint32(at + offset, true));
    yield [name, { method: view.getUint16(at + 10, true), bytes, at: place }];
    at += 46 + lengths[0] + lengths[1] + lengths[2];
  }
}

async function unpacked(buffer, { method, bytes, at }) {
  const view = new DataView(buffer);
  const start = at + 30 + view.getUint16(at + 26, true) + view.getUint16(at + 28, true);
  const packed = new Blob([new Uint8Array(buffer, start, bytes)]);
  const stream = method === 8 ? packed.stream().pipeThrough(new DecompressionStream("deflate-raw")) : packed.stream();
  return new Response(stream).arrayBuffer();
}

/** An array of NumPy's format, of those types that golden vectors have. */
function npy(buffer) {
  const view = new DataView(buffer);
  const long = view.getUint8(6) > 1;
  const start = (long ? 12 : 10) + (long ? view.getUint32(8, true) : view.getUint16(8, true));
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 0, start));
  const Kind = KINDS[/'descr': '([^']+)'/.exec(header)?.[1]];
  const shape = (/'shape': \(([^)]*)\)/.exec(header)?.[1].match(/\d+/g) ?? []).map(Number);
  if (Kind === undefined || /'fortran_order': True/.test(header)) throw new Error("golden.npz holds unknown arrays");
  return { shape, data: new Kind(buffer.slice(start), 0, shape.reduce((one, other) => one * other, 1)) };
}

/** The errors of the outputs of one picture; see `Difference` in golden.py. A NaN is within no limit. */
export function compare(reference, found, tolerance) {
  const result = { logits_mean: null, local_mean: null, local_share: null, flips: null };
  const share = (of, from) => mean(of.length, (at) => !(Math.abs(of[at] - from[at]) <= tolerance));
  const distance = (of, from) => mean(of.length, (at) => Math.abs(of[at] - from[at]));
  if (reference.global_logits) {
    const [wanted, got] = [reference.global_logits.data, found.global_logits];
    let [low, high] = [Infinity, -Infinity];
    for (const value of wanted) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
    result.logits_mean = distance(wanted, got) / (high - low || 1);
    const plane = wanted.length / 3;
    const winner = (logits, at) => {
      const [first, second, third] = [logits[at], logits[at + plane], logits[at + 2 * plane]];
      return third > Math.max(first, second) ? 2 : second > first ? 1 : 0;
    };
    result.flips = mean(plane, (at) => winner(wanted, at) !== winner(got, at));
  }
  if (reference.local_alpha) {
    result.local_mean = distance(reference.local_alpha.data, found.local_alpha);
    result.local_share = share(reference.local_alpha.data, found.local_alpha);
  }
  const [{ data: wanted, shape }, got] = [reference.alpha, found.alpha];
  const slopes = [wanted, got].map((values) => gradient(values, shape[3], shape[2]));
  let largest = 0;
  for (let at = 0; at < wanted.length; at++) largest = Math.max(largest, Math.abs(wanted[at] - got[at]));
  return {
    ...result,
    alpha_mean: distance(wanted, got),
    alpha_max: largest,
    alpha_share: share(wanted, got),
    mse: mean(wanted.length, (at) => (wanted[at] - got[at]) ** 2),
    grad_mean: mean(wanted.length, (at) => (slopes[0][at] - slopes[1][at]) ** 2),
  };
}

function mean(length, value) {
  let sum = 0;
  for (let at = 0; at < length; at++) sum += Number(value(at));
  return sum / length;
}

/** The magnitude of the gradient, by Gaussian derivatives; pictures are mirrored at their edges. */
function gradient(values, width, height) {
  const places = Array.from({ length: 2 * RADIUS + 1 }, (_, index) => index - RADIUS);
  const bell = places.map((x) => Math.exp(-0.5 * (x / SIGMA) ** 2));
  const total = bell.reduce((one, other) => one + other);
  const smooth = bell.map((value) => value / total);
  const slope = places.map((x, index) => (x / SIGMA ** 2) * smooth[index]);
  const dx = filtered(filtered(values, width, height, 1, width, slope), height, width, width, 1, smooth);
  const dy = filtered(filtered(values, width, height, 1, width, smooth), height, width, width, 1, slope);
  return dx.map((value, at) => Math.hypot(value, dy[at]));
}

/** One axis filtered: `length` values with `step` between them, in `others` lines with `next` between those. */
function filtered(values, length, others, step, next, weights) {
  const found = new Float32Array(values.length);
  for (let at = 0; at < length; at++) {
    const from = weights.map((_, index) => {
      let place = at + index - RADIUS;
      while (place < 0 || place >= length) place = place < 0 ? -1 - place : 2 * length - 1 - place;
      return place * step;
    });
    for (let other = 0; other < others; other++) {
      let sum = 0;
      for (let index = 0; index < weights.length; index++) sum += weights[index] * values[other * next + from[index]];
      found[other * next + at * step] = sum;
    }
  }
  return found;
}

/** A sentence for each limit that the errors of a picture exceed; see `checks` in golden.py. */
export function failures(name, item, limits) {
  const off = `off by > ${limits.pixel_tolerance}`;
  const mean = Math.min(limits.local_mean + item.alpha_share, limits.alpha_mean ?? Infinity);
  const figures = [
    ["mean error of the global logits, of their range,", item.logits_mean, limits.logits_mean],
    ["share of flipped classes", item.flips, limits.flips],
    ["mean error of the local alpha", item.local_mean, limits.local_mean],
    [`share of local alpha ${off}`, item.local_share, limits.pixel_share],
    ["mean error of alpha", item.alpha_mean, mean],
    [`share of alpha ${off}`, item.alpha_share, limits.pixel_share + limits.flips],
    ["MSE of alpha", item.mse, limits.mse],
    ["mean GRAD of alpha", item.grad_mean, limits.grad_mean],
  ];
  return figures
    .filter(([, value, limit]) => value !== null && (limit ?? null) !== null && !(value <= limit))
    .map(([what, value, limit]) => `${name}: ${what} is ${value.toPrecision(3)}, limit ${limit.toPrecision(3)}`);
}
