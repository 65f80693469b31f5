// What the demo makes of a frame and its alpha: the subject on its own background, blurred, on a colour or a picture.

const SMALL = 96; // pixels of the longer side of the blurred background, which has no detail
const SAMPLES = 3; // of the frame for each pixel of it, along either axis
const RADIUS = 2; // of each of three means there: together a standard deviation of 1/40 of the longer side
const PURE = 16; // an alpha below it is background
const KEEP = 1e-5; // the weight of all else, which counts only where nothing pure is in reach

/** Draw on a canvas, which gets the frame's size. `effect`: {kind, colour, picture}. */
export function draw(canvas, frame, alpha, effect) {
  const { width, height } = frame;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.style.setProperty("--aspect", width / height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, width, height);
  if (effect.kind === "matte") {
    context.putImageData(filled(frame, (data, at) => data.fill(alpha[at], 4 * at, 4 * at + 3)), 0, 0);
    return;
  }
  if (effect.kind === "blur") {
    context.imageSmoothingQuality = "low"; // there is no detail to lose, and a processor draws it several times as fast
    context.drawImage(onCanvas(blurred(frame, alpha)), 0, 0, width, height);
  }
  if (effect.kind === "colour" || (effect.kind === "picture" && !effect.picture)) {
    context.fillStyle = effect.colour;
    context.fillRect(0, 0, width, height);
  } else if (effect.kind === "picture") {
    cover(context, effect.picture, width, height);
  }
  const subject = new ImageData(new Uint8ClampedArray(frame.data), width, height);
  for (let at = 0; at < alpha.length; at++) subject.data[4 * at + 3] = alpha[at];
  context.drawImage(onCanvas(subject), 0, 0);
}

function filled({ width, height }, fill) {
  const image = new ImageData(width, height);
  image.data.fill(255);
  for (let at = 0; at < width * height; at++) fill(image.data, at);
  return image;
}

function onCanvas(image) {
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** A picture that covers everything, cut about its centre. */
function cover(context, picture, width, height) {
  const scale = Math.max(width / picture.width, height / picture.height);
  const [w, h] = [picture.width * scale, picture.height * scale];
  context.drawImage(picture, (width - w) / 2, (height - h) / 2, w, h);
}

/** The background alone, small and blurred: colours and weights are blurred alike, then divided. */
function blurred(frame, alpha) {
  const scale = Math.min(1, SMALL / Math.max(frame.width, frame.height));
  const [width, height] = [frame.width, frame.height].map((side) => Math.max(1, Math.round(side * scale)));
  const step = Math.max(1, Math.floor(Math.max(frame.width, frame.height) / (SAMPLES * SMALL)));
  let sums = new Float32Array(width * height * 4); // red, green, blue, weight
  for (let y = 0; y < frame.height; y += step) {
    const row = Math.floor((y * height) / frame.height) * width;
    for (let x = 0; x < frame.width; x += step) {
      const at = y * frame.width + x;
      const to = 4 * (row + Math.floor((x * width) / frame.width));
      const weight = alpha[at] < PURE ? 1 : KEEP;
      for (let c = 0; c < 3; c++) sums[to + c] += frame.data[4 * at + c] * weight;
      sums[to + 3] += weight;
    }
  }
  for (let time = 0; time < 3; time++) {
    sums = summed(sums, width, height, 4, 4 * width);
    sums = summed(sums, height, width, 4 * width, 4);
  }
  return filled({ width, height }, (data, at) => {
    for (let c = 0; c < 3; c++) data[4 * at + c] = sums[4 * at + c] / sums[4 * at + 3];
  });
}

/** The sum of each value's neighbours along one axis; the values at its ends are repeated. */
function summed(values, length, others, step, next) {
  const found = new Float32Array(values.length);
  const inside = (at) => Math.min(Math.max(at, 0), length - 1) * step;
  for (let other = 0; other < others; other++) {
    for (let c = 0; c < 4; c++) {
      const start = other * next + c;
      let sum = 0;
      for (let near = -RADIUS; near < RADIUS; near++) sum += values[start + inside(near)];
      for (let at = 0; at < length; at++) {
        sum += values[start + inside(at + RADIUS)];
        found[start + at * step] = sum;
        sum -= values[start + inside(at - RADIUS)];
      }
    }
  }
  return found;
}
