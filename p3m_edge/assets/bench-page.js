// The mattes of a p3m-edge benchmark page: composites, differences, sliders and zooms, drawn from the pictures in the page.
"use strict";

(() => {
  const block = document.getElementById("pictures");
  if (!block) return;
  const data = JSON.parse(block.textContent);
  const control = (name) => document.getElementById(name);
  const BACKGROUNDS = { green: [0, 177, 64], white: [255, 255, 255], black: [0, 0, 0] };
  const STEP = 0.1; // of the visible part, for an arrow key

  function decode(uri) {
    return new Promise((done, failed) => {
      const image = new Image();
      image.onload = () => done(image);
      image.onerror = () => failed(new Error("a picture of this page cannot be decoded"));
      image.src = uri;
    });
  }

  function pixels(image) {
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height).data;
  }

  function behind(name, x, y) {
    if (name !== "check") return BACKGROUNDS[name];
    return ((x >> 4) + (y >> 4)) % 2 ? [228, 228, 228] : [250, 250, 250];
  }

  function layer(width, height, colour) {
    const canvas = new OffscreenCanvas(width, height);
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const out = image.data;
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at += 4) {
        colour(at, x, y, out);
        out[at + 3] = 255;
      }
    }
    context.putImageData(image, 0, 0);
    return canvas;
  }

  const label = (id) => [...control("left").options].find((option) => option.value === id).textContent;
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
      this.photo = pixels(await decode(this.content.photo));
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
      if (id === "photo" || !this.content.alphas[id]) return null;
      this.alphas[id] ??= pixels(await decode(this.content.alphas[id]));
      return this.alphas[id];
    }

    // Make what the controls ask for; a later request overtakes an earlier one.
    async update() {
      const turn = (this.turn = (this.turn ?? 0) + 1);
      const ids = [control("left").value, control("right").value];
      const [left, right] = [await this.alpha(ids[0]), await this.alpha(ids[1])];
      if (turn !== this.turn) return;
      this.layers = {
        left: this.matte(ids[0], left),
        right: this.matte(ids[1], right),
        difference: this.subtract(left, right),
      };
      this.find(".tag.left").textContent = this.name(ids[0]);
      this.find(".tag.right").textContent = this.name(ids[1]);
      this.compare.setAttribute("aria-label", `${this.content.name}: left ${this.name(ids[0])}, right ${this.name(ids[1])}`);
      this.describe(ids, left, right);
      this.draw();
    }

    name(id) {
      return id === "truth" && !this.content.alphas.truth ? "no true matte" : label(id);
    }

    matte(id, alpha) {
      const photo = this.photo;
      if (!alpha) return layer(this.width, this.height, (at, x, y, out) => {
        for (let c = 0; c < 3; c++) out[at + c] = id === "photo" ? photo[at + c] : 128;
      });
      if (control("view").value === "alpha") return layer(this.width, this.height, (at, x, y, out) => {
        out[at] = out[at + 1] = out[at + 2] = alpha[at];
      });
      const background = control("background").value;
      return layer(this.width, this.height, (at, x, y, out) => {
        const share = alpha[at] / 255;
        const other = behind(background, x, y);
        for (let c = 0; c < 3; c++) out[at + c] = Math.round(share * photo[at + c] + (1 - share) * other[c]);
      });
    }

    subtract(left, right) {
      const gain = Number(control("gain").value);
      return layer(this.width, this.height, (at, x, y, out) => {
        const by = left && right ? gain * (right[at] - left[at]) : 0;
        const size = Math.min(Math.abs(by), 255);
        const hot = by > 0;
        out[at] = hot ? 14 + 0.94 * size : 14 + 0.2 * size;
        out[at + 1] = 17 + 0.6 * size;
        out[at + 2] = hot ? 22 + 0.1 * size : 22 + 0.91 * size;
      });
    }

    describe(ids, left, right) {
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
      const said = left && right ? `amplified ${control("gain").value} times` : "none, as one side has no matte";
      this.difference.setAttribute("aria-label", `${this.content.name}: difference, ${said}`);
      this.find(".stats").textContent = lines.join(" ");
    }

    look(change) {
      Object.assign(this.view, change);
      const view = this.view;
      view.zoom = Math.min(Math.max(view.zoom, 1), 12);
      const half = [this.width / view.zoom / 2, this.height / view.zoom / 2];
      view.x = Math.min(Math.max(view.x, half[0]), this.width - half[0]);
      view.y = Math.min(Math.max(view.y, half[1]), this.height - half[1]);
      this.find(".zoom").value = view.zoom;
      this.find(".zoomed").textContent = `x ${view.zoom.toFixed(1)}`;
      this.figure.classList.toggle("zoomed-in", view.zoom > 1);
      this.draw();
    }

    key(event) {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      const times = { "+": 1.25, "=": 1.25, "-": 0.8 }[event.key];
      if (times) this.look({ zoom: this.view.zoom * times });
      else if (by && this.view.zoom > 1) {
        const step = STEP / this.view.zoom;
        this.look({ x: this.view.x + by[0] * step * this.width, y: this.view.y + by[1] * step * this.height });
      } else return;
      event.preventDefault();
    }

    // Dragging moves the divider near it (or at no zoom), and the picture elsewhere.
    drag(canvas, event) {
      const box = canvas.getBoundingClientRect();
      const split = this.find(".split");
      const at = (100 * (event.clientX - box.left)) / box.width;
      const divides = canvas === this.compare && (this.view.zoom === 1 || Math.abs(at - split.value) < 6);
      if (!divides && this.view.zoom === 1) return;
      canvas.setPointerCapture(event.pointerId);
      const from = { ...this.view, clientX: event.clientX, clientY: event.clientY };
      const move = (now) => {
        if (divides) {
          split.value = (100 * (now.clientX - box.left)) / box.width;
          this.draw();
        } else {
          const scale = this.width / from.zoom / box.width;
          this.look({ x: from.x - (now.clientX - from.clientX) * scale, y: from.y - (now.clientY - from.clientY) * scale });
        }
      };
      const end = () => canvas.removeEventListener("pointermove", move);
      canvas.addEventListener("pointermove", move);
      for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, end, { once: true });
      if (divides) move(event);
    }

    magnify(canvas, event) {
      const box = canvas.getBoundingClientRect();
      if (this.view.zoom > 1) return this.look({ zoom: 1 });
      const place = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
      this.look({ zoom: 4, x: place[0] * this.width, y: place[1] * this.height });
    }

    draw() {
      if (!this.layers.left) return;
      const share = Number(this.find(".split").value) / 100;
      const context = this.paint(this.compare, this.layers.left);
      const { width, height } = this.compare;
      const cut = Math.round(share * width);
      context.save();
      context.beginPath();
      context.rect(cut, 0, width - cut, height);
      context.clip();
      this.put(context, this.layers.right);
      context.restore();
      this.divider(context, cut);
      this.paint(this.difference, this.layers.difference);
      const percent = Math.round(100 * share);
      const [left, right] = [this.find(".tag.left"), this.find(".tag.right")];
      left.classList.toggle("faded", percent < 12);
      right.classList.toggle("faded", percent > 88);
      this.find(".split").setAttribute("aria-valuetext", `${percent} % ${left.textContent}, ${100 - percent} % ${right.textContent}`);
    }

    paint(canvas, picture) {
      const ratio = Math.min(window.devicePixelRatio || 1, 2);
      const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
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

    divider(context, at) {
      const { height } = context.canvas;
      const thin = Math.max(1, Math.round(height / 300));
      context.fillStyle = "rgba(0, 0, 0, 0.55)";
      context.fillRect(at - 1.5 * thin, 0, 3 * thin, height);
      context.fillStyle = "#fff";
      context.fillRect(at - thin / 2, 0, thin, height);
    }
  }

  const portraits = [...document.querySelectorAll("figure.portrait")].map((figure) => new Portrait(figure));
  const begun = new Set();
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const portrait = portraits[Number(entry.target.dataset.number)];
      if (!entry.isIntersecting || begun.has(portrait)) continue;
      begun.add(portrait);
      portrait.start().catch((error) => {
        portrait.find(".stats").textContent = `The mattes cannot be drawn in this browser: ${error.message}.`;
        console.error(error);
      });
    }
  }, { rootMargin: "600px" });
  for (const portrait of portraits) near.observe(portrait.figure);
  for (const name of ["left", "right", "view", "background", "gain"]) {
    control(name).addEventListener("change", () => begun.forEach((portrait) => portrait.photo && portrait.update()));
  }
})();
