// A frame becomes the network's input, and the network's alpha the frame's: preprocess.py and refine.py in JavaScript.
// The arithmetic is OpenCV's, whose fixed point for 8 bits is followed bit by bit; tests compare the two.
// A picture here is {width, height, channels, data}, rows from the top, channels interleaved.

const PADDING_RGB = [124, 116, 104]; // the ImageNet mean
const MAX_SHRINK = 2.5; // of an axis in one bilinear pass
const FLAT = 1e-4; // the variance of grey values below which a neighbourhood has no edge
const CONTRAST = 1.2;
const DYNAMIC_AREA = 512 * 512; // of the input of an artefact of dynamic size, in pixels

/** Python's and OpenCV's rounding: half to even. */
export function round(value) {
  const near = Math.round(value);
  return near - value === 0.5 && near % 2 ? near - 1 : near;
}

const between = (value, low, high) => Math.min(Math.max(value, low), high);

/** Where a frame lies in the network's input; see `Geometry` and `fit` in preprocess.py. */
export function fit(frame, width, height, resize) {
  const place = { frameWidth: frame.width, frameHeight: frame.height, width, height, top: 0, left: 0 };
  if (resize === "stretch") return { ...place, contentWidth: width, contentHeight: height };
  const scale = Math.min(height / frame.height, width / frame.width);
  const contentWidth = between(round(frame.width * scale), 1, width);
  const contentHeight = between(round(frame.height * scale), 1, height);
  const [top, left] = [Math.floor((height - contentHeight) / 2), Math.floor((width - contentWidth) / 2)];
  return { ...place, top, left, contentWidth, contentHeight };
}

/** Width and height of the network for a frame, of an artefact of dynamic size; see `fitting_size` in size.py. */
export function fittingSize(width, height, step) {
  const scale = Math.min(1, Math.sqrt(DYNAMIC_AREA / (height * width)));
  const fitted = (side) => between(round((side * scale) / step) * step, step, Math.floor(DYNAMIC_AREA / step));
  const sides = [fitted(width), fitted(height)];
  const longer = Number(height > width);
  for (const axis of [longer, 1 - longer]) {
    if (sides[0] * sides[1] > DYNAMIC_AREA) {
      sides[axis] = Math.max(step, Math.floor(Math.floor(DYNAMIC_AREA / sides[1 - axis]) / step) * step);
    }
  }
  return sides;
}

/** The frame (RGBA) as the network's input, RGB, at the size that the geometry says. */
export function toNetwork(frame, place) {
  const { width, height, data: pixels } = frame;
  const content = toRgb(scaleTo({ width, height, channels: 4, data: pixels }, place.contentWidth, place.contentHeight));
  if (place.contentWidth === place.width && place.contentHeight === place.height) return content;
  const data = new Uint8Array(place.width * place.height * 3);
  for (let at = 0; at < data.length; at += 3) data.set(PADDING_RGB, at);
  const row = place.contentWidth * 3;
  for (let y = 0; y < place.contentHeight; y++) {
    data.set(content.data.subarray(y * row, (y + 1) * row), ((y + place.top) * place.width + place.left) * 3);
  }
  return { width: place.width, height: place.height, channels: 3, data };
}

/** The network's alpha (Float32Array of its size) at the frame's size, 0 to 1, or 0 to 255 where `largest` says so. */
export function fromNetwork(alpha, place, largest) {
  const scaled = scaleTo(contentOf(alpha, place), place.frameWidth, place.frameHeight).data;
  const found = alphaOf(scaled.length, largest);
  for (let at = 0; at < found.length; at++) found[at] = scaled[at] * largest;
  return found;
}

/** As `fromNetwork`, with the edges of the frame: the fast guided filter of refine.py. */
export function refine(alpha, frame, image, place, largest) {
  const [slope, offset] = fitLines(halved(contentOf(alpha, place)), halved(grey(crop(image, place))).data);
  for (let at = 0; at < slope.data.length; at++) {
    slope.data[at] *= largest / 255;
    offset.data[at] *= largest;
  }
  const factor = scaleTo(slope, place.frameWidth, place.frameHeight).data;
  const base = scaleTo(offset, place.frameWidth, place.frameHeight).data;
  const shades = grey(frame).data;
  const found = alphaOf(factor.length, largest);
  for (let at = 0; at < found.length; at++) {
    found[at] = Math.min(Math.max(factor[at] * shades[at] + base[at], 0), largest);
  }
  return found;
}

/** What rounds to 8 bits as OpenCV does, half to even, or single precision. */
const alphaOf = (length, largest) => (largest === 255 ? new Uint8ClampedArray(length) : new Float32Array(length));

/** The part of the network's alpha that the frame fills, limited to 0..1. Values that are no numbers are an error. */
function contentOf(alpha, place) {
  const content = crop({ width: place.width, height: place.height, channels: 1, data: alpha }, place);
  for (let at = 0; at < content.data.length; at++) {
    if (!Number.isFinite(content.data[at])) throw new Error("the network's alpha holds NaN or infinity");
    content.data[at] = between(content.data[at], 0, 1);
  }
  return content;
}

function crop(picture, place) {
  const { width, channels } = picture;
  const data = new picture.data.constructor(place.contentWidth * place.contentHeight * channels);
  const row = place.contentWidth * channels;
  for (let y = 0; y < place.contentHeight; y++) {
    const start = ((y + place.top) * width + place.left) * channels;
    data.set(picture.data.subarray(start, start + row), y * row);
  }
  return { width: place.contentWidth, height: place.contentHeight, channels, data };
}

function toRgb(frame) {
  const data = new Uint8Array(frame.width * frame.height * 3);
  for (let to = 0, from = 0; to < data.length; to += 3, from += 4) {
    data[to] = frame.data[from];
    data[to + 1] = frame.data[from + 1];
    data[to + 2] = frame.data[from + 2];
  }
  return { width: frame.width, height: frame.height, channels: 3, data };
}

/** Grey values of RGB or RGBA, as of OpenCV. */
function grey(picture) {
  const channels = picture.channels ?? 4;
  const data = new Uint8Array(picture.width * picture.height);
  const from = picture.data;
  for (let to = 0, at = 0; to < data.length; to++, at += channels) {
    data[to] = (from[at] * 9798 + from[at + 1] * 19235 + from[at + 2] * 3735 + 16384) >> 15;
  }
  return { width: picture.width, height: picture.height, channels: 1, data };
}

const halved = (picture) => scaleTo(picture, (picture.width + 1) >> 1, (picture.height + 1) >> 1);

/** A picture resized by bilinear passes, none of which shrinks an axis by more than 2.5. */
export function scaleTo(picture, width, height) {
  const pass = (length, target) => (length <= MAX_SHRINK * target ? target : (length + 1) >> 1);
  let found = picture;
  while (found.width !== width || found.height !== height) {
    found = bilinear(found, pass(found.width, width), pass(found.height, height));
  }
  return found;
}

/** For each place of an axis: the first of its two neighbours, which may lie outside, and the weight of the second. */
function taps(length, target) {
  const [places, weights] = [new Int32Array(target), new Float32Array(target)];
  const scale = 1 / (target / length);
  for (let at = 0; at < target; at++) {
    const middle = Math.fround((at + 0.5) * scale - 0.5);
    places[at] = Math.floor(middle);
    weights[at] = middle - places[at];
  }
  return [places, weights];
}

/** The places in a row, and the weights of both neighbours; at the edges one of them has all the weight. */
function columns(length, width, channels, share, Weights) {
  const [places, weights] = taps(length, width);
  const [first, second] = [new Weights(width), new Weights(width)];
  for (let x = 0; x < width; x++) {
    const weight = places[x] < 0 || places[x] >= length - 1 ? 0 : weights[x];
    places[x] = between(places[x], 0, length - 1) * channels;
    [first[x], second[x]] = [share(1 - weight), share(weight)];
  }
  return [places, first, second];
}

/** One bilinear pass: each row of the picture that is wanted is resized once, and two of them are mixed. */
function bilinear(picture, width, height) {
  const { channels, data } = picture;
  const bytes = !(data instanceof Float32Array);
  const result = { width, height, channels, data: new data.constructor(width * height * channels) };
  if (bytes && picture.width === 2 * width && picture.height === 2 * height) return averaged(picture, result);
  const share = bytes ? (weight) => round(Math.fround(weight) * 2048) : Math.fround;
  const across = columns(picture.width, width, channels, share, bytes ? Int32Array : Float32Array);
  const [rows, down] = taps(picture.height, height);
  const lines = Array.from({ length: 2 }, () => new (bytes ? Int32Array : Float32Array)(width * channels));
  const held = [-1, -1]; // the rows of the picture that are in the two lines
  const mix = bytes ? mixBytes : mixFloats;
  for (let y = 0; y < height; y++) {
    const wanted = [rows[y], rows[y] + 1].map((row) => between(row, 0, picture.height - 1));
    if (held[1] === wanted[0]) {
      lines.reverse();
      held.reverse();
    }
    for (const index of [0, 1]) {
      if (held[index] === wanted[index]) continue;
      const start = wanted[index] * picture.width * channels;
      const row = data.subarray(start, start + picture.width * channels);
      (channels === 1 ? fillGrey : fillColours)(lines[index], row, ...across);
      held[index] = wanted[index];
    }
    mix(result.data, y * width * channels, ...lines, share(1 - down[y]), share(down[y]));
  }
  return result;
}

// Beyond the end of a row there is nothing to read, and its weight is 0.
function fillGrey(line, row, places, first, second) {
  const last = row.length - 1;
  for (let x = 0; x < line.length; x++) {
    const from = places[x];
    line[x] = row[from] * first[x] + row[Math.min(from + 1, last)] * second[x];
  }
}

function fillColours(line, row, places, first, second) {
  const last = row.length - 4;
  for (let x = 0, to = 0; x < places.length; x++, to += 4) {
    const from = places[x];
    const next = Math.min(from + 4, last);
    line[to] = row[from] * first[x] + row[next] * second[x];
    line[to + 1] = row[from + 1] * first[x] + row[next + 1] * second[x];
    line[to + 2] = row[from + 2] * first[x] + row[next + 2] * second[x]; // nothing reads the frame's own alpha
  }
}

function mixBytes(found, to, above, below, upper, lower) {
  for (let x = 0; x < above.length; x++) {
    found[to + x] = ((((above[x] >> 4) * upper) >> 16) + (((below[x] >> 4) * lower) >> 16) + 2) >> 2;
  }
}

function mixFloats(found, to, above, below, upper, lower) {
  for (let x = 0; x < above.length; x++) found[to + x] = above[x] * upper + below[x] * lower;
}

/** Half the size in both axes: the mean of four. */
function averaged(picture, result) {
  const { channels, data } = picture;
  const row = picture.width * channels;
  let to = 0;
  for (let y = 0; y < result.height; y++) {
    for (let x = 0; x < result.width; x++) {
      const from = 2 * (y * row + x * channels);
      for (let c = from; c < from + channels; c++) {
        result.data[to++] = (data[c] + data[c + channels] + data[c + row] + data[c + row + channels] + 2) >> 2;
      }
    }
  }
  return result;
}

/** Slope and offset with which grey values, 0..1, give alpha; 0 and alpha where the network is sure. */
function fitLines(alpha, shades) {
  const { width, height, data } = alpha;
  const [guide, products, squares, slope, offset] = Array.from({ length: 5 }, () => new Float32Array(data.length));
  for (let at = 0; at < data.length; at++) {
    guide[at] = shades[at] / 255;
    products[at] = guide[at] * data[at];
    squares[at] = guide[at] * guide[at];
  }
  const mean = (values) => mean3(values, width, height);
  const [meanGrey, meanAlpha, meanProduct, meanSquare] = [guide, data, products, squares].map(mean);
  for (let at = 0; at < data.length; at++) {
    const covariance = meanProduct[at] - meanGrey[at] * meanAlpha[at];
    slope[at] = covariance / (meanSquare[at] - meanGrey[at] * meanGrey[at] + FLAT);
    offset[at] = meanAlpha[at] - slope[at] * meanGrey[at];
  }
  const [slopes, offsets] = [mean(slope), mean(offset)];
  for (let at = 0; at < data.length; at++) {
    const sure = flat(data, width, height, at, 2); // the reach of two means, one after the other
    slopes[at] = sure ? 0 : slopes[at] * CONTRAST;
    offsets[at] = sure ? data[at] : offsets[at] * CONTRAST - (CONTRAST - 1) / 2;
  }
  return [slopes, offsets].map((values) => ({ width, height, channels: 1, data: values }));
}

/** The mean of three by three, mirrored at the edges without repeating them (BORDER_REFLECT_101). */
function mean3(values, width, height) {
  const sums = sum3(sum3(values, width, height, 1, width), height, width, width, 1);
  return new Float32Array(sums.map((sum) => sum / 9));
}

/** The sums of three along one axis: `length` values with `step` between them, in lines with `next` between those. */
function sum3(values, length, lines, step, next) {
  const found = new Float64Array(values.length);
  for (let at = 0; at < length; at++) {
    const before = Math.min(Math.abs(at - 1), length - 1) * step;
    const after = Math.max(length - 1 - Math.abs(length - 2 - at), 0) * step;
    for (let line = 0, start = 0; line < lines; line++, start += next) {
      found[start + at * step] = values[start + before] + values[start + at * step] + values[start + after];
    }
  }
  return found;
}

/** Whether all values within reach are the same. */
function flat(values, width, height, at, reach) {
  const [x, y] = [at % width, Math.floor(at / width)];
  const [left, right] = [Math.max(x - reach, 0), Math.min(x + reach, width - 1)];
  for (let row = Math.max(y - reach, 0); row <= Math.min(y + reach, height - 1); row++) {
    for (let near = row * width + left; near <= row * width + right; near++) {
      if (values[near] !== values[at]) return false;
    }
  }
  return true;
}
