"use strict";
// Reads values out of the drawings, by pointer, touch or arrow keys. Without it the page is whole.
(() => {
  const digits = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const power = (k) => "10" + (k < 0 ? "⁻" : "") + String(Math.abs(k)).replace(/\d/g, (d) => digits[d]);
  const plain = (v) => {
    if (Number.isInteger(v)) return v.toLocaleString("en");
    const size = Math.abs(v);
    if (size >= 1e-3 && size < 1e6) return String(Number(v.toPrecision(4)));
    const k = Math.floor(Math.log10(size));
    return (v / 10 ** k).toFixed(2) + "×" + power(k);
  };
  const words = (v, log) => {
    if (v === "nan") return "not a number";
    if (v === "inf") return "infinite";
    if (v === "-inf") return log ? "exactly zero" : "−infinite";
    if (!log) return plain(v);
    if (v >= -3 && v < 6) return String(Number((10 ** v).toPrecision(3)));
    const k = Math.floor(v);
    return (10 ** (v - k)).toFixed(1) + "×" + power(k);
  };
  const clamp = (v, n) => Math.max(0, Math.min(n - 1, v));

  const curve = (area, plot) => {
    const places = [...new Set(plot.lines.flatMap((l) => l.x))].sort((a, b) => a - b);
    const at = (x) => (x - plot.low) / (plot.high - plot.low);
    const nearest = (line, x) => {
      let best = 0;
      line.x.forEach((v, i) => { if (Math.abs(v - x) < Math.abs(line.x[best] - x)) best = i; });
      return best;
    };
    const back = plot.high < plot.low ? -1 : 1;
    return {
      from: (fx) => {
        const x = plot.low + fx * (plot.high - plot.low);
        let best = 0;
        places.forEach((v, i) => { if (Math.abs(v - x) < Math.abs(places[best] - x)) best = i; });
        return [best, 0];
      },
      move: ([i], dx) => [clamp(i + back * dx, places.length), 0],
      show: ([i], cursor) => {
        const x = places[i];
        cursor.style.left = 100 * at(x) + "%";
        const parts = plot.lines.filter((l) => l.x.length).map((l) => {
          const k = nearest(l, x);
          return (plot.lines.length > 1 ? l.n + " " : "") + words(l.y[k], plot.log);
        });
        return plot.x + " " + plain(x) + ": " + parts.join(" · ");
      },
    };
  };

  // The map's numbers are the image's own palette indices: one copy serves eye and read-out.
  const indices = async (src) => {
    const bytes = Uint8Array.from(atob(src.split(",")[1]), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    for (let at = 8; at < bytes.length; at += 12 + view.getUint32(at)) {
      if (String.fromCharCode(...bytes.subarray(at + 4, at + 8)) !== "IDAT") continue;
      const body = new Blob([bytes.subarray(at + 8, at + 8 + view.getUint32(at))]);
      const stream = body.stream().pipeThrough(new DecompressionStream("deflate"));
      return new Uint8Array(await new Response(stream).arrayBuffer());
    }
  };
  const heat = (area, plot) => {
    const [w, h] = [plot.steps.length, plot.times.length];
    let cells = null;
    const ready = indices(area.querySelector("img").src).then((c) => { cells = c; });
    const name = (v) => ({ 250: "exactly zero", 251: "infinite", 252: "not a number",
      253: "not measured" })[v] || words(plot.low + (v / 239) * (plot.high - plot.low), true);
    return {
      ready,
      from: (fx, fy) => [clamp(Math.floor(fx * w), w), clamp(Math.floor(fy * h), h)],
      move: ([i, j], dx, dy) => [clamp(i + dx, w), clamp(j + dy, h)],
      show: ([i, j], cursor) => {
        cursor.style.left = (100 * (i + 0.5)) / w + "%";
        cursor.style.top = (100 * (j + 0.5)) / h + "%";
        if (!cells) return "";
        return "training step " + plain(plot.steps[i]) + ", time step " + plain(plot.times[h - 1 - j]) +
          ": " + name(cells[j * (w + 1) + 1 + i]);
      },
    };
  };

  for (const area of document.querySelectorAll("[data-plot]")) {
    const plot = JSON.parse(area.dataset.plot);
    const is = (area.classList.contains("heat") ? heat : curve)(area, plot);
    const out = area.closest("figure").querySelector(".readout");
    const cursor = area.querySelector(".cursor");
    let place = null;
    const show = (next) => { place = next; cursor.hidden = false; out.textContent = is.show(next, cursor); };
    const point = (event) => {
      const box = area.getBoundingClientRect();
      show(is.from((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height));
    };
    area.addEventListener("pointermove", point);
    area.addEventListener("pointerdown", point);
    area.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
        Home: [-1e9, 0], End: [1e9, 0] }[event.key];
      if (!way) return;
      event.preventDefault();
      show(place ? is.move(place, ...way) : is.from(1, 0));
    });
  }
})();
