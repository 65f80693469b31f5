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
  const { frameWidth: width, frameHeight: height } = place;
  const [factors, bases] = [slope, offset].map((picture) => new Rows(shrunk(picture, width, height), width, height));
  const [factor, base] = [new Float32Array(width), new Float32Array(width)];
  const found = alphaOf(width * height, largest);
  for (let y = 0, at = 0; y < height; y++) {
    factors.mix(y, factor, 0);
    bases.mix(y, base, 0);
    for (let x = 0; x < width; x++, at++) {
      found[at] = Math.min(Math.max(factor[x] * shade(frame.data, 4 * at) + base[x], 0), largest);
    }
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

const shade = (rgb, at) => (rgb[at] * 9798 + rgb[at + 1] * 19235 + rgb[at + 2] * 3735 + 16384) >> 15;

/** Grey values of RGB or RGBA, as of OpenCV. */
function grey(picture) {
  const channels = picture.channels ?? 4;
  const data = new Uint8Array(picture.width * picture.height);
  const from = picture.data;
  for (let to = 0, at = 0; to < data.length; to++, at += channels) {
    data[to] = shade(from, at);
  }
  return { width: picture.width, height: picture.height, channels: 1, data };
}

const halved = (picture) => scaleTo(picture, (picture.width + 1) >> 1, (picture.height + 1) >> 1);

/** A picture resized by bilinear passes, none of which shrinks an axis by more than 2.5. */
export function scaleTo(picture, width, height) {
  const found = shrunk(picture, width, height);
  return found.width === width && found.height === height ? found : bilinear(found, width, height);
}

/** By as many passes as leave one, or none. */
function shrunk(picture, width, height) {
  const pass = (length, target) => (length <= MAX_SHRINK * target ? target : (length + 1) >> 1);
  const size = [pass(picture.width, width), pass(picture.height, height)];
  if (size[0] === width && size[1] === height) return picture;
  return shrunk(bilinear(picture, ...size), width, height);
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

/** The rows of a resized picture: each row of the picture that is wanted is resized once, and two of them are mixed. */
class Rows {
  constructor(picture, width, height) {
    const bytes = !(picture.data instanceof Float32Array);
    const Weights = bytes ? Int32Array : Float32Array;
    this.picture = picture;
    this.fill = picture.channels === 1 ? fillGrey : fillColours;
    this.blend = bytes ? mixBytes : mixFloats;
    this.share = bytes ? (weight) => round(Math.fround(weight) * 2048) : Math.fround;
    this.across = columns(picture.width, width, picture.channels, this.share, Weights);
    [this.rows, this.down] = taps(picture.height, height);
    this.lines = Array.from({ length: 2 }, () => new Weights(width * picture.channels));
    this.held = [-1, -1]; // the rows of the picture that are in the two lines
  }

  /** Put a row into `found`. */
  mix(y, found, to) {
    const { picture, lines, held, rows, down, share } = this;
    const wanted = [rows[y], rows[y] + 1].map((row) => between(row, 0, picture.height - 1));
    if (held[1] === wanted[0]) {
      lines.reverse();
      held.reverse();
    }
    for (const index of [0, 1]) {
      if (held[index] === wanted[index]) continue;
      const length = picture.width * picture.channels;
      this.fill(lines[index], picture.data.subarray(wanted[index] * length, (wanted[index] + 1) * length), ...this.across);
      held[index] = wanted[index];
    }
    this.blend(found, to, ...lines, share(1 - down[y]), share(down[y]));
  }
}

/** One bilinear pass. */
function bilinear(picture, width, height) {
  const { channels, data } = picture;
  const result = { width, height, channels, data: new data.constructor(width * height * channels) };
  const bytes = !(data instanceof Float32Array);
  if (bytes && picture.width === 2 * width && picture.height === 2 * height) return averaged(picture, result);
  const rows = new Rows(picture, width, height);
  for (let y = 0; y < height; y++) rows.mix(y, result.data, y * width * channels);
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
  const flat = steady(steady(data, width, height, 1, width), height, width, width, 1);
  for (let at = 0; at < data.length; at++) {
    const sure = !Number.isNaN(flat[at]);
    slopes[at] = sure ? 0 : slopes[at] * CONTRAST;
    offsets[at] = sure ? data[at] : offsets[at] * CONTRAST - (CONTRAST - 1) / 2;
  }
  return [slopes, offsets].map((values) => ({ width, height, channels: 1, data: values }));
}

/** The mean of three by three, mirrored at the edges without repeating them (BORDER_REFLECT_101). */
function mean3(values, width, height) {
  const [found, sums] = [new Float32Array(values.length), new Float64Array(width)];
  const [second, last] = [Math.min(1, width - 1), width - 1];
  for (let y = 0; y < height; y++) {
    const row = y * width;
    const above = Math.min(Math.abs(y - 1), height - 1) * width;
    const below = Math.max(height - 1 - Math.abs(height - 2 - y), 0) * width;
    for (let x = 0; x < width; x++) sums[x] = values[above + x] + values[row + x] + values[below + x];
    for (let x = 1; x < last; x++) found[row + x] = (sums[x - 1] + sums[x] + sums[x + 1]) / 9;
    found[row] = (sums[0] + 2 * sums[second]) / 9;
    found[row + last] = (sums[last] + 2 * sums[Math.max(last - 1, 0)]) / 9;
  }
  return found;
}

/**
 * The values that are the same as those around them along one axis, within the reach of two means, one after the other;
 * NaN elsewhere. `length` values with `step` between them, in lines with `next` between those.
 */
function steady(values, length, lines, step, next) {
  const [found, run] = [new Float32Array(values.length), new Int32Array(length)]; // as many equal ones end there
  for (let line = 0; line < lines; line++) {
    for (let place = 0, at = line * next; place < length; place++, at += step) {
      const same = place > 0 && values[at] === values[at - step];
      run[place] = same ? run[place - 1] + 1 : Number(!Number.isNaN(values[at]));
    }
    for (let place = 0, at = line * next; place < length; place++, at += step) {
      const [left, right] = [Math.max(place - 2, 0), Math.min(place + 2, length - 1)];
      found[at] = run[right] > right - left ? values[at] : NaN;
    }
  }
  return found;
}
