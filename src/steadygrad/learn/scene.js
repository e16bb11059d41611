// Reads the controls of every scene, calls the lesson's function, and draws what it returns.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const digits = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const power = (k) => "10" + (k < 0 ? "⁻" : "") + String(Math.abs(k)).replace(/\d/g, (d) => digits[d]);
  const number = (v) => {
    if (v === null || Number.isNaN(v)) return "not a number";
    if (!Number.isFinite(v)) return v > 0 ? "infinite" : "−infinite";
    const size = Math.abs(v);
    if (v === 0) return "0";  // and not -0
    if (Number.isInteger(v) && size < 1e6) return v.toLocaleString("en").replace("-", "−");
    if (size >= 1e-3 && size < 1e6) {
      // What is just below one must not read as one: 0.99995 a step is another thing than 1.
      if (size < 1 && Number(size.toPrecision(4)) === 1) return String(Number(v.toPrecision(8))).replace("-", "−");
      return String(Number(v.toPrecision(4))).replace("-", "−");
    }
    const k = Math.floor(Math.log10(size));
    return (v / 10 ** k).toFixed(2).replace("-", "−") + "×" + power(k);
  };
  const logged = (v) => {
    if (v === -Infinity) return "exactly zero";
    if (v >= -3 && v < 6) return number(10 ** v);
    const k = Math.floor(v);
    return (10 ** (v - k)).toFixed(1) + "×" + power(k);
  };
  // A number too small or too large for a float comes as its logarithm.
  const show = (v) => (typeof v === "number" ? number(v) : typeof v === "object" ? logged(v.log10) : String(v));
  const shape = ({ tag, text, ...attributes }) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = show(text);
    return node;
  };
  const element = (tag, text, name) => {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (name) node.className = name;
    return node;
  };

  // A curve leaves the drawing at its edge, and comes back where its values do.
  const path = (points, axes) => {
    const at = (v, [low, high]) => (v - low) / (high - low);
    let [pen, wasOut, d] = ["M", false, ""];
    for (const [x, y] of points) {
      const height = at(axes.log && y === -Infinity ? axes.y[0] - 1 : y, axes.y);
      const isOut = height < -0.001 || height > 1.001;
      if (!Number.isFinite(height) || (isOut && wasOut)) { pen = "M"; wasOut = isOut; continue; }
      const edge = Math.max(0, Math.min(1, height));
      d += pen + (1000 * at(x, axes.x)).toFixed(1) + " " + (1000 * (1 - edge)).toFixed(1);
      [pen, wasOut] = [isOut && pen === "L" ? "M" : "L", isOut];
    }
    return d || "M0 0";
  };

  const reader = (area) => {
    const axes = JSON.parse(area.dataset.axes);
    const out = area.closest("figure").querySelector(".readout");
    const cursor = area.querySelector(".cursor");
    let lines = [];
    let x = null;
    const places = () => [...new Set(lines.flatMap((l) => l.map((p) => p[0])))].sort((a, b) => a - b);
    const near = (list, v) => list.reduce((a, b) => (Math.abs(b - v) < Math.abs(a - v) ? b : a), list[0]);
    const tell = () => {
      if (x === null || !lines.some((l) => l.length)) return;
      x = near(places(), x);
      cursor.hidden = false;
      cursor.style.left = (100 * (x - axes.x[0])) / (axes.x[1] - axes.x[0]) + "%";
      const parts = lines.flatMap((line, i) => {
        if (!line.length) return [];
        const y = line.find((p) => p[0] === near(line.map((q) => q[0]), x))[1];
        return [(lines.length > 1 ? axes.lines[i] + " " : "") + (axes.log ? logged(y) : number(y))];
      });
      out.textContent = axes.name + " " + number(x) + ": " + parts.join(" · ");
    };
    const point = (event) => {
      const box = area.getBoundingClientRect();
      x = axes.x[0] + ((event.clientX - box.left) / box.width) * (axes.x[1] - axes.x[0]);
      tell();
    };
    area.addEventListener("pointermove", point);
    area.addEventListener("pointerdown", point);
    area.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1, Home: -1e9, End: 1e9 }[event.key];
      const all = places();
      if (!by || !all.length) return;
      event.preventDefault();
      const back = axes.x[1] < axes.x[0] ? -1 : 1;
      const next = x === null ? 0 : all.indexOf(near(all, x)) + back * by;
      x = all[Math.max(0, Math.min(all.length - 1, next))];
      tell();
    });
    return (next) => {
      lines = next;
      area.querySelectorAll(".line").forEach((node, i) => node.setAttribute("d", path(next[i] || [], axes)));
      tell();
    };
  };

  for (const scene of document.querySelectorAll(".scene")) {
    const compute = scenes[scene.dataset.scene];
    const data = JSON.parse(scene.querySelector("script[type='application/json']").textContent);
    const controls = [...scene.querySelectorAll("[data-key]")];
    const control = (key) => controls.find((c) => c.dataset.key === key);
    const curves = new Map([...scene.querySelectorAll("[data-curves]")].map(
      (area) => [area.dataset.curves, reader(area)]));
    const set = (key, value) => { control(key).value = value; };

    const letters = (row, list) => {
      row.replaceChildren(...list.map((letter, i) => {
        const node = element("span", undefined, letter.name || "");
        const bar = element("i");
        bar.style.height = (2.4 * Math.max(0, Math.min(1, letter.height))).toFixed(2) + "rem";
        node.append(bar, letter.text === " " ? "\u00a0" : letter.text);
        node.title = letter.title || "";
        if (row.dataset.at) {
          const choose = () => {
            if (control(row.dataset.at).value === String(i)) return;
            set(row.dataset.at, i);
            draw();
          };
          node.addEventListener("pointerenter", choose);
          node.addEventListener("pointerdown", choose);
        }
        return node;
      }));
    };
    const rows = (body, list) => {
      body.replaceChildren(...list.map((row) => {
        const line = element("tr", undefined, row.name || "");
        row.cells.forEach((cell, i) => {
          const node = element(i ? "td" : "th", show(cell));
          if (!i) node.scope = "row";
          if (row.cells.length === 1) node.colSpan = 9;
          line.append(node);
        });
        return line;
      }));
      const now = body.querySelector(".now");
      const box = body.closest(".ledger");
      if (now) {  // keep the line in sight without moving the page
        const [top, bottom] = [now.offsetTop, now.offsetTop + now.offsetHeight];
        if (top < box.scrollTop + 40) box.scrollTop = top - 40;
        else if (bottom > box.scrollTop + box.clientHeight) box.scrollTop = bottom - box.clientHeight;
      }
    };
    const draw = () => {
      const values = Object.fromEntries(controls.map(
        (c) => [c.dataset.key, c.type === "range" ? Number(c.value) : c.value]));
      const made = compute(values, data);
      for (const [key, high] of Object.entries(made.highest || {})) {
        const slider = control(key);
        slider.max = high;
        values[key] = Number(slider.value);
      }
      for (const out of scene.querySelectorAll("[data-value]")) {
        const key = out.dataset.value;
        out.textContent = show(key in (made.shown || {}) ? made.shown[key] : values[key]);
      }
      for (const node of scene.querySelectorAll("[data-text]")) {
        const text = show(made.text[node.dataset.text]);
        if (node.textContent !== text) node.textContent = text;
      }
      curves.forEach((redraw, key) => redraw((made.lines || {})[key]));
      for (const group of scene.querySelectorAll("[data-picture]")) {
        group.replaceChildren(...made.shapes[group.dataset.picture].map(shape));
      }
      for (const row of scene.querySelectorAll("[data-letters]")) letters(row, made.letters[row.dataset.letters]);
      for (const body of scene.querySelectorAll("[data-rows]")) rows(body, made.rows[body.dataset.rows]);
    };
    for (const c of controls) c.addEventListener("input", draw);
    for (const button of scene.querySelectorAll("[data-set]")) {
      button.addEventListener("click", () => {
        Object.entries(JSON.parse(button.dataset.set)).forEach(([key, value]) => set(key, value));
        draw();
      });
    }
    for (const button of scene.querySelectorAll("[data-move]")) {
      button.addEventListener("click", () => {
        const slider = control(button.dataset.move);
        set(button.dataset.move, Number(slider.value) + Number(button.dataset.by));
        draw();
      });
    }
    draw();
  }
})();
