// The mattes of a p3m-edge benchmark page: composites, differences, sliders and zooms, drawn from the pictures in the page.
"use strict";

(() => {
  const block = document.getElementById("pictures");
  if (!block) return;
  const data = JSON.parse(block.textContent);
  const chosen = (name) => document.getElementById(name).value;
  const BACKGROUNDS = { green: [0, 177, 64], white: [255, 255, 255], black: [0, 0, 0] };
  const STEP = 0.1; // of the visible part, for an arrow key

  // The RGBA values of a picture in the page.
  async function pixels(uri) {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const context = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.naturalWidth, image.naturalHeight).data;
  }

  // A picture whose colours `paint` writes: it gets the place of a pixel's red value, the pixel's x and y, and the values.
  function layer(width, height, paint) {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    image.data.fill(255);
    for (let y = 0, at = 0; y < height; y++) for (let x = 0; x < width; x++, at += 4) paint(at, x, y, image.data);
    context.putImageData(image, 0, 0);
    return canvas;
  }

  function behind(name, x, y) {
    if (name !== "check") return BACKGROUNDS[name];
    return ((x >> 4) + (y >> 4)) % 2 ? [228, 228, 228] : [250, 250, 250];
  }

  const label = (id) => document.querySelector(`#left option[value="${id}"]`).textContent;
  const short = (value) => (value === 0 ? "0" : value >= 0.001 ? Number(value.toPrecision(3)).toString() : value.toExponential(1));

  class Portrait {
    constructor(figure) {
      this.figure = figure;
      this.content = data.portraits[Number(figure.dataset.number)];
      this.find = (name) => figure.querySelector(name);
      this.compare = this.find(".compare");
      this.difference = this.find(".difference");
      this.width = this.compare.width; // of the pictures; the canvases get the screen's
      this.height = this.compare.height;
      this.view = { zoom: 1, x: this.width / 2, y: this.height / 2 };
      this.alphas = {};
      this.layers = {};
    }

    // The pictures are decoded when the portrait comes near the screen.
    async start() {
      this.photo = await pixels(this.content.photo);
      this.listen();
      await this.update();
      new ResizeObserver(() => this.draw()).observe(this.compare);
      this.figure.dataset.ready = "yes";
    }

    listen() {
      this.find(".split").addEventListener("input", () => this.draw());
      this.find(".zoom").addEventListener("input", (event) => this.look({ zoom: Number(event.target.value) }));
      this.find(".whole").addEventListener("click", () => this.look({ zoom: 1 }));
      this.find(".hair").addEventListener("click", () => {
        const [left, top, side] = this.content.detail;
        this.look({ zoom: Math.max(this.width, this.height) / side, x: left + side / 2, y: top + side / 2 });
      });
      for (const canvas of [this.compare, this.difference]) {
        canvas.addEventListener("keydown", (event) => this.key(event));
        canvas.addEventListener("pointerdown", (event) => this.drag(canvas, event));
        canvas.addEventListener("dblclick", (event) => this.magnify(canvas, event));
      }
    }

    async alpha(id) {
      if (!this.content.alphas[id]) return null;
      return (this.alphas[id] ??= await pixels(this.content.alphas[id]));
    }

    // Make what the controls ask for; a later request overtakes an earlier one.
    async update() {
      const turn = (this.turn = (this.turn ?? 0) + 1);
      const ids = [chosen("left"), chosen("right")];
      const [left, right] = [await this.alpha(ids[0]), await this.alpha(ids[1])];
      if (turn !== this.turn) return;
      this.layers = { left: this.matte(ids[0], left), right: this.matte(ids[1], right), difference: this.subtract(left, right) };
      const names = ids.map((id) => (id === "truth" && !this.content.alphas.truth ? "no true matte" : label(id)));
      this.find(".tag.left").textContent = names[0];
      this.find(".tag.right").textContent = names[1];
      this.compare.setAttribute("aria-label", `${this.content.name}: left ${names[0]}, right ${names[1]}`);
      this.describe(ids, left && right);
      this.draw();
    }

    matte(id, alpha) {
      const [view, background] = [chosen("view"), chosen("background")];
      return layer(this.width, this.height, (at, x, y, out) => {
        const other = behind(background, x, y);
        for (let c = 0; c < 3; c++) {
          if (!alpha) out[at + c] = id === "photo" ? this.photo[at + c] : 128;
          else if (view === "alpha") out[at + c] = alpha[at];
          else out[at + c] = Math.round((alpha[at] * this.photo[at + c] + (255 - alpha[at]) * other[c]) / 255);
        }
      });
    }

    subtract(left, right) {
      const gain = Number(chosen("gain"));
      return layer(this.width, this.height, (at, x, y, out) => {
        const by = left && right ? gain * (right[at] - left[at]) : 0;
        const size = Math.min(Math.abs(by), 255);
        out[at] = 14 + (by > 0 ? 0.94 : 0.2) * size;
        out[at + 1] = 17 + 0.6 * size;
        out[at + 2] = 22 + (by > 0 ? 0.1 : 0.91) * size;
      });
    }

    describe(ids, both) {
      const lines = [`${this.content.size.join(" x ")} pixels.`];
      for (const id of ids) {
        const found = this.content.errors[id];
        if (!found) continue;
        const parts = [];
        if (found.sad !== null) parts.push(`SAD ${short(found.sad)} thousand against the true matte`);
        if (id !== data.reference && data.reference) {
          parts.push(`from the reference by ${short(found.difference)} thousandths on average, ${short(found.largest)} at most`);
          parts.push(`${short(100 * found.visible)} % of the pixels by more than ${data.visible}`);
        }
        if (parts.length) lines.push(`${label(id)}: ${parts.join("; ")}.`);
      }
      const said = both ? `amplified ${chosen("gain")} times` : "none, as one side has no matte";
      this.difference.setAttribute("aria-label", `${this.content.name}: difference, ${said}`);
      this.find(".stats").textContent = lines.join(" ");
    }

    look(change) {
      const view = Object.assign(this.view, change);
      const between = (value, low, high) => Math.min(Math.max(value, low), high);
      view.zoom = between(view.zoom, 1, 12);
      const [x, y] = [this.width / view.zoom / 2, this.height / view.zoom / 2];
      view.x = between(view.x, x, this.width - x);
      view.y = between(view.y, y, this.height - y);
      this.find(".zoom").value = view.zoom;
      this.find(".zoomed").textContent = `x ${view.zoom.toFixed(1)}`;
      this.figure.classList.toggle("zoomed-in", view.zoom > 1);
      this.draw();
    }

    key(event) {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const times = { "+": 1.25, "=": 1.25, "-": 0.8 }[event.key];
      const { zoom, x, y } = this.view;
      if (times) this.look({ zoom: zoom * times });
      else if (by && zoom > 1) this.look({ x: x + (by[0] * STEP * this.width) / zoom, y: y + (by[1] * STEP * this.height) / zoom });
      else return;
      event.preventDefault();
    }

    // Dragging moves the divider near it (or at no zoom), and the picture elsewhere.
    drag(canvas, event) {
      const box = canvas.getBoundingClientRect();
      const split = this.find(".split");
      const percent = (at) => (100 * (at.clientX - box.left)) / box.width;
      const divides = canvas === this.compare && (this.view.zoom === 1 || Math.abs(percent(event) - split.value) < 6);
      if (!divides && this.view.zoom === 1) return;
      canvas.setPointerCapture(event.pointerId);
      const { x, y } = this.view;
      const scale = this.width / this.view.zoom / box.width;
      const move = (now) => {
        if (!divides) return this.look({ x: x - (now.clientX - event.clientX) * scale, y: y - (now.clientY - event.clientY) * scale });
        split.value = percent(now);
        this.draw();
      };
      const end = () => canvas.removeEventListener("pointermove", move);
      canvas.addEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end, { once: true });
      if (divides) move(event);
    }

    magnify(canvas, event) {
      if (this.view.zoom > 1) return this.look({ zoom: 1 });
      const box = canvas.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      this.look({ zoom: 4, x: x * this.width, y: y * this.height });
    }

    draw() {
      if (!this.layers.left) return;
      const percent = Math.round(this.find(".split").value);
      const context = this.paint(this.compare, this.layers.left);
      const { width, height } = this.compare;
      const cut = Math.round((percent / 100) * width);
      context.save();
      context.beginPath();
      context.rect(cut, 0, width - cut, height);
      context.clip();
      this.put(context, this.layers.right);
      context.restore();
      context.fillStyle = "rgba(0, 0, 0, 0.55)";
      context.fillRect(cut - 3, 0, 6, height);
      context.fillStyle = "#fff";
      context.fillRect(cut - 1, 0, 2, height);
      this.paint(this.difference, this.layers.difference);
      const [left, right] = [this.find(".tag.left"), this.find(".tag.right")];
      left.classList.toggle("faded", percent < 12);
      right.classList.toggle("faded", percent > 88);
      this.find(".split").setAttribute("aria-valuetext", `${percent} % ${left.textContent}, ${100 - percent} % ${right.textContent}`);
    }

    paint(canvas, picture) {
      const width = Math.max(1, Math.round(canvas.clientWidth * Math.min(window.devicePixelRatio || 1, 2)));
      const height = Math.max(1, Math.round((width * this.height) / this.width));
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      const context = canvas.getContext("2d");
      this.put(context, picture);
      return context;
    }

    put(context, picture) {
      const { zoom, x, y } = this.view;
      const [w, h] = [this.width / zoom, this.height / zoom];
      const { width, height } = context.canvas;
      context.imageSmoothingEnabled = width / w < 8; // closer than that, pixels are shown as they are
      context.imageSmoothingQuality = "high";
      context.drawImage(picture, x - w / 2, y - h / 2, w, h, 0, 0, width, height);
    }
  }

  const portraits = new Map([...document.querySelectorAll("figure.portrait")].map((figure) => [figure, new Portrait(figure)]));
  const near = new IntersectionObserver((entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      near.unobserve(target);
      portraits.get(target).start().catch((error) => {
        target.querySelector(".stats").textContent = `The mattes cannot be drawn in this browser: ${error.message}.`;
        console.error(error);
      });
    }
  }, { rootMargin: "600px" });
  for (const figure of portraits.keys()) near.observe(figure);
  for (const select of document.querySelectorAll(".controls select")) {
    select.addEventListener("change", () => portraits.forEach((portrait) => portrait.photo && portrait.update()));
  }
})();
