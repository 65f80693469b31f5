// The mattes of a p3m-edge benchmark page: which two are shown, their difference, the divider and the zoom.
// The style sheet composites: each side is the photograph, masked by an alpha that is the alpha channel of a PNG.
"use strict";

(() => {
  const block = document.getElementById("pictures");
  if (!block) return;
  const data = JSON.parse(block.textContent);
  const chosen = (name) => document.getElementById(name).value;
  const between = (value, low, high) => Math.min(Math.max(value, low), high);
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const STEP = 0.1; // of the visible part, for an arrow key

  // The RGBA values of a picture in the page.
  async function pixels(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const { naturalWidth: width, naturalHeight: height } = image;
    const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, width, height).data;
  }

  class Portrait {
    constructor(figure) {
      this.figure = figure;
      this.content = data[Number(figure.dataset.number)];
      this.find = (name) => figure.querySelector(name);
      this.images = figure.querySelectorAll(".half img");
      this.tags = figure.querySelectorAll(".tag");
      this.turn = 0;
      this.find(".split").addEventListener("input", (event) => this.divide(event.target.value));
      this.find(".zoom").addEventListener("input", (event) => this.look({ zoom: event.target.value }));
      this.find(".whole").addEventListener("click", () => this.look({ zoom: 1 }));
      this.find(".hair").addEventListener("click", () => this.look(this.content.detail));
      for (const stage of figure.querySelectorAll(".stage")) {
        stage.addEventListener("keydown", (event) => this.key(event));
        stage.addEventListener("pointerdown", (event) => this.drag(stage, event));
      }
      this.look({ zoom: 1, x: 0.5, y: 0.5 });
    }

    // Show what the controls ask for; a later request overtakes an earlier one.
    async update() {
      const turn = ++this.turn;
      const { photo, alphas } = this.content;
      const ids = [chosen("left"), chosen("right")];
      ids.forEach((id, number) => {
        const [image, tag] = [this.images[number], this.tags[number]];
        const kind = alphas[id] ? "masked" : id === "photo" ? "whole" : "missing";
        const name = document.querySelector(`#left option[value="${id}"]`).textContent;
        tag.textContent = kind === "missing" ? `no ${name}` : name;
        Object.assign(image, { src: photo, className: kind, alt: `${this.content.name}: ${tag.textContent}` });
        image.style.maskImage = kind === "masked" ? `url("${alphas[id]}")` : "none";
      });
      this.divide(this.find(".split").value);
      const [left, right] = await Promise.all(ids.map((id) => alphas[id] && pixels(alphas[id])));
      if (turn !== this.turn) return;
      this.subtract(left, right);
      this.figure.dataset.ready = "yes";
    }

    subtract(left, right) {
      const canvas = this.find("canvas");
      const gain = Number(chosen("gain"));
      const context = canvas.getContext("2d");
      const image = context.createImageData(canvas.width, canvas.height);
      for (let at = 0, out = image.data; at < out.length; at += 4) {
        const by = left && right ? gain * (right[at + 3] - left[at + 3]) : 0;
        const size = Math.min(Math.abs(by), 255);
        out[at] = 14 + (by > 0 ? 0.94 : 0.2) * size;
        out[at + 1] = 17 + 0.6 * size;
        out[at + 2] = 22 + (by > 0 ? 0.1 : 0.91) * size;
        out[at + 3] = 255;
      }
      context.putImageData(image, 0, 0);
      const said = left && right ? `amplified ${gain} times` : "none, as one side has no matte";
      canvas.ariaLabel = `${this.content.name}: difference, ${said}`;
    }

    divide(percent) {
      const [split, [left, right]] = [this.find(".split"), this.tags];
      split.value = percent;
      this.figure.style.setProperty("--split", `${split.value}%`);
      left.classList.toggle("faded", split.value < 12);
      right.classList.toggle("faded", split.value > 88);
      split.ariaValueText = `${split.value} % ${left.textContent}, ${100 - split.value} % ${right.textContent}`;
    }

    // `x` and `y` are the middle of the visible part, as shares of the picture.
    look(change) {
      const view = { ...this.view, ...change };
      const zoom = between(Number(view.zoom), 1, 12);
      const [x, y] = [view.x, view.y].map((place) => between(place, 0.5 / zoom, 1 - 0.5 / zoom));
      this.view = { zoom, x, y };
      const [right, down] = [x, y].map((place) => `${100 * (0.5 - place * zoom)}%`);
      this.figure.style.setProperty("--view", `translate(${right}, ${down}) scale(${zoom})`);
      this.figure.classList.toggle("zoomed-in", zoom > 1);
      this.find(".zoom").value = zoom;
      this.find(".zoomed").textContent = `x ${zoom.toFixed(1)}`;
    }

    move(right, down) {
      this.look({ x: this.view.x + right / this.view.zoom, y: this.view.y + down / this.view.zoom });
    }

    key(event) {
      const step = ARROWS[event.key];
      if (!step || this.view.zoom === 1) return;
      this.move(STEP * step[0], STEP * step[1]);
      event.preventDefault();
    }

    // Dragging moves the picture where it is zoomed, else the divider.
    drag(stage, event) {
      const box = stage.getBoundingClientRect();
      const divides = this.view.zoom === 1;
      let last = event;
      stage.setPointerCapture(event.pointerId);
      stage.onpointermove = (now) => {
        if (divides) this.divide((100 * (now.clientX - box.left)) / box.width);
        else this.move((last.clientX - now.clientX) / box.width, (last.clientY - now.clientY) / box.height);
        last = now;
      };
      stage.onlostpointercapture = () => (stage.onpointermove = null);
      if (divides) stage.onpointermove(event);
    }
  }

  const portraits = [...document.querySelectorAll("figure.portrait")].map((figure) => new Portrait(figure));
  function update() {
    const section = document.getElementById("mattes");
    section.dataset.view = chosen("view");
    section.dataset.background = chosen("background");
    for (const portrait of portraits) {
      portrait.update().catch((error) => {
        portrait.find(".key").textContent = `The difference cannot be drawn in this browser: ${error.message}.`;
        console.error(error);
      });
    }
  }
  document.querySelector(".controls").addEventListener("change", update);
  update();
})();
