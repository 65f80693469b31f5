// The demo page: a picture or the webcam in, the subject before another background out. Matting is the worker's.

import { draw } from "./compose.js";

const MOST = 2048; // pixels of a picture's longer side
const CAMERA = { video: { width: { ideal: 640 }, height: { ideal: 480 }, facingMode: "user" }, audio: false };
const EVERY = 500; // milliseconds between two updates of the figures
const CAMERA_PROBLEMS = {
  NotAllowedError: "The camera was refused. Allow it in the browser's settings of this page, or choose a picture.",
  NotFoundError: "There is no camera. Choose a picture instead.",
  NotReadableError: "Another program is using the camera, or it does not answer.",
};

const find = (id) => document.getElementById(id);
const asked = new URLSearchParams(location.search); // ?provider=wasm&threads=1
const effect = { kind: "blur", colour: find("colour").value, picture: null };
const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
let matter = null; // what mattes: the worker
let stream = null; // of the webcam
let picture = null; // the frame of a still picture
let turn = 0; // of what is matted: another picture or the camera overtakes it
let starts = 0; // of a worker: another provider overtakes it

/** For whoever embeds or tests the page: what is shown, and how many frames have been. */
const demo = { latest: null, shown: 0, choice: null };
globalThis.demo = demo;

/** A worker whose methods are called as its own. */
class Remote {
  constructor(url) {
    this.calls = new Map();
    this.count = 0;
    this.worker = new Worker(url, { type: "module" });
    this.worker.addEventListener("message", ({ data: { id, result, error } }) => {
      const { done, fail } = this.calls.get(id);
      this.calls.delete(id);
      if (error) fail(Object.assign(new Error(error.message), { hint: error.hint }));
      else done(result);
    });
    this.worker.addEventListener("error", (event) => {
      for (const { fail } of this.calls.values()) fail(new Error(event.message || "the worker cannot be started"));
    });
  }

  call(method, args, transfer = []) {
    const id = ++this.count;
    return new Promise((done, fail) => {
      this.calls.set(id, { done, fail });
      this.worker.postMessage({ id, method, args }, transfer);
    });
  }

  stop() {
    this.worker.terminate();
    for (const { fail } of this.calls.values()) fail(new Error("stopped"));
  }
}

function complain(error) {
  const text = typeof error === "string" ? error : [error.message, error.hint].filter(Boolean).join(": ");
  Object.assign(find("problem"), { textContent: text, hidden: !text });
}

/** Open the artefact with the providers that are wanted; the page says which one it is, and why no other. */
async function start() {
  const mine = ++starts;
  turn++;
  matter?.stop();
  matter = null;
  enable(false);
  complain("");
  find("remarks").replaceChildren();
  find("engine").textContent = "Starting: fetching the network and ONNX Runtime Web, and testing them.";
  const remote = new Remote("worker.js");
  try {
    const threads = Number(asked.get("threads")) || null;
    const artefact = new URL("artefact/", location.href).href;
    const choice = await remote.call("choose", [artefact, { providers: find("provider").value.split(","), threads }]);
    if (mine !== starts) return remote.stop();
    demo.choice = choice;
    matter = remote;
    describe(choice);
  } catch (error) {
    remote.stop();
    if (mine !== starts) return;
    find("engine").textContent = "Not running.";
    complain(error);
  }
  find("provider").disabled = false;
  enable(matter !== null);
  if (matter && stream) play();
  else if (matter && picture) still();
}

function describe({ info, verdict, refused }) {
  const size = info.width ? `${info.width}x${info.height}` : "any size";
  const where = info.provider === "webgpu" ? `WebGPU on ${info.adapter}` : `WASM, ${plural(info.threads, "thread")}`;
  const worst = Math.max(...verdict.items.map((item) => item.alpha_mean));
  find("engine").textContent =
    `${info.arch} (${info.target}, ${size}) runs in ONNX Runtime Web ${info.version}, ${where}. ` +
    `It passed its self-test: ${plural(verdict.items.length, "golden vector")}, alpha off by ${worst.toExponential(1)} on average at most.`;
  const used = label(info.provider);
  const remarks = refused.map(({ provider, reason }) => `${label(provider)} is not used: ${reason}. ${used} is.`);
  if (!info.trained) remarks.push("The weights are not trained: these mattes mean nothing.");
  if (!info.hashed) remarks.push("The files were compared by size alone: hashes need localhost or HTTPS.");
  if (info.provider === "wasm" && !globalThis.crossOriginIsolated) {
    remarks.push("One thread only: this server does not send the headers Cross-Origin-Opener-Policy: same-origin and " +
      "Cross-Origin-Embedder-Policy: require-corp, which threads need.");
  }
  if (info.provider === "webgpu") remarks.push("Operators without a kernel for WebGPU run on the processor.");
  const item = (textContent) => Object.assign(document.createElement("li"), { textContent });
  find("remarks").replaceChildren(...remarks.map(item));
}

const label = (provider) => ({ wasm: "WASM", webgpu: "WebGPU" })[provider];
const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

function enable(on) {
  for (const id of ["webcam", "choose"]) find(id).disabled = !on;
  find("save").disabled = !on || demo.latest === null;
}

const taken = new OffscreenCanvas(1, 1);

/** What a picture or a video shows, as RGBA without transparency. */
function grab(source, width, height) {
  if (taken.width !== width || taken.height !== height) Object.assign(taken, { width, height });
  const context = taken.getContext("2d", { alpha: false, willReadFrequently: true });
  context.globalCompositeOperation = "copy"; // the last frame does not show through a transparent picture
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** The frame goes to the worker and comes back with its alpha. */
function matte({ width, height, data }) {
  return matter.call("matte", [{ width, height, data }], [data.buffer]);
}

function show(result) {
  demo.latest = result;
  demo.shown++;
  redraw();
  find("invitation").hidden = true;
  find("save").disabled = false;
  find("result").ariaLabel = "The subject of the picture, with the background that is chosen";
}

function redraw() {
  if (demo.latest) draw(find("result"), demo.latest.frame, demo.latest.alpha, effect);
}

/** Matte the picture. */
async function still() {
  const mine = ++turn;
  complain("");
  try {
    const result = await matte({ width: picture.width, height: picture.height, data: new Uint8ClampedArray(picture.data) });
    if (mine !== turn) return;
    show(result);
    find("took").textContent = `${result.milliseconds.toFixed(0)} ms`;
    find("fps").textContent = find("age").textContent = "–";
  } catch (error) {
    if (mine === turn) complain(error);
  }
}

async function load(file) {
  if (!file) return null;
  try {
    return await createImageBitmap(file);
  } catch {
    complain(`${file.name} is no picture that this browser reads.`);
    return null;
  }
}

async function open(file) {
  const bitmap = await load(file);
  if (!bitmap) return;
  stopCamera();
  const scale = Math.min(1, MOST / Math.max(bitmap.width, bitmap.height));
  picture = grab(bitmap, ...[bitmap.width, bitmap.height].map((side) => Math.max(1, Math.round(side * scale))));
  if (matter) still();
}

/** Start or stop the webcam. */
async function camera() {
  if (stream) return stopCamera();
  complain("");
  if (!navigator.mediaDevices) return complain("Browsers give cameras to pages on localhost or HTTPS alone.");
  try {
    find("webcam").disabled = true; // while the user is asked
    stream = await navigator.mediaDevices.getUserMedia(CAMERA);
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      stopCamera();
      complain("The camera has gone.");
    });
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stopCamera();
    return complain(CAMERA_PROBLEMS[error.name] ?? `The camera cannot be used: ${error.message}`);
  } finally {
    enable(matter !== null);
  }
  picture = null;
  find("webcam").textContent = "Stop the webcam";
  if (matter) play();
}

function stopCamera() {
  turn++;
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = video.srcObject = null;
  find("webcam").textContent = "Use the webcam";
}

/** The next frame of the video, and when it was taken. */
function nextFrame() {
  return new Promise((done) => {
    const take = (now, { captureTime } = {}) => {
      if (!video.videoWidth) return; // it was stopped meanwhile, and nobody waits any more
      done({ frame: grab(video, video.videoWidth, video.videoHeight), at: captureTime ?? now });
    };
    if (video.requestVideoFrameCallback) video.requestVideoFrameCallback(take);
    else requestAnimationFrame(take);
  });
}

/** Matte the webcam until something else begins; while a frame is shown, the next one is matted. */
async function play() {
  const mine = ++turn;
  const meter = new Meter();
  let coming = nextFrame();
  const begin = async () => {
    const { frame, at } = await coming;
    if (mine !== turn) return null;
    coming = nextFrame(); // taken while this one is matted
    return { at, ...(await matte(frame)) };
  };
  try {
    for (let next = begin(); mine === turn; ) {
      const result = await next;
      if (mine !== turn) return;
      next = begin();
      next.catch(() => {}); // it is awaited in the next round, or of no interest any more
      await null; // a frame that is there goes to the worker before this one is drawn
      show(result);
      meter.add(result);
    }
  } catch (error) {
    if (mine === turn) complain(error);
  }
}

class Meter {
  constructor() {
    this.clear();
  }

  clear() {
    Object.assign(this, { since: performance.now(), frames: 0, age: 0, milliseconds: 0 });
  }

  add({ at, milliseconds }) {
    const now = performance.now();
    this.frames++;
    this.age += now - at;
    this.milliseconds += milliseconds;
    if (now - this.since < EVERY) return;
    find("fps").textContent = ((1000 * this.frames) / (now - this.since)).toFixed(1);
    find("age").textContent = `${(this.age / this.frames).toFixed(0)} ms`;
    find("took").textContent = `${(this.milliseconds / this.frames).toFixed(0)} ms`;
    this.clear();
  }
}

function choose(kind) {
  effect.kind = kind;
  document.querySelector(`[name=effect][value=${kind}]`).checked = true;
  redraw();
}

find("unserved").hidden = true;
find("webcam").addEventListener("click", camera);
find("choose").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", ({ target }) => open(target.files[0]));
find("behind").addEventListener("click", () => find("background").click());
find("background").addEventListener("change", async ({ target }) => {
  const bitmap = await load(target.files[0]);
  if (!bitmap) return;
  effect.picture = bitmap;
  choose("picture");
});
find("colour").addEventListener("input", ({ target }) => {
  effect.colour = target.value;
  choose("colour");
});
find("effects").addEventListener("change", ({ target }) => target.name === "effect" && choose(target.value));
find("provider").addEventListener("change", start);
find("save").addEventListener("click", () => {
  find("result").toBlob((blob) => {
    const link = document.createElement("a");
    Object.assign(link, { href: URL.createObjectURL(blob), download: "p3m-edge.png" }).click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000); // some browsers read it later
  });
});
addEventListener("dragover", (event) => {
  event.preventDefault();
  find("stage").classList.add("over");
});
for (const kind of ["dragleave", "drop"]) addEventListener(kind, () => find("stage").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  open(event.dataTransfer.files[0]);
});
if (asked.has("provider")) find("provider").value = asked.get("provider");
if (!find("provider").value) find("provider").selectedIndex = 0;
start();
