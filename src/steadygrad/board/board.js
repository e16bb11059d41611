"use strict";
// Draws what the server sends. Texts of records are set as text, never as markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const at = (id) => document.getElementById(id);
  const el = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "style") for (const [k, v] of Object.entries(value)) made.style.setProperty(k, v);
      else made.setAttribute(key, value);
    }
    made.append(...children.filter((c) => c !== null));
    return made;
  };
  const svg = (name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };

  // Numbers ---------------------------------------------------------------------------------
  const DIGITS = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  const power = (k) => "10" + (k < 0 ? "⁻" : "") + String(Math.abs(k)).replace(/\d/g, (d) => DIGITS[d]);
  const plain = (v) => {
    if (v === 0) return "0";
    if (Number.isInteger(v) && Math.abs(v) < 1e7) return v.toLocaleString("en");
    const k = Math.floor(Math.log10(Math.abs(v)));
    if (k >= -3 && k < 6) return String(Number(v.toPrecision(4)));
    return Number((v / 10 ** k).toPrecision(3)) + "×" + power(k);
  };
  const number = (v) => (v === "nan" ? NaN : v === "inf" ? Infinity : v === "-inf" ? -Infinity : v);
  const words = (v, isLog) => {
    if (Number.isNaN(v)) return "not a number";
    if (v === Infinity) return "infinite";
    if (v === -Infinity) return isLog ? "exactly zero" : "−infinite";
    if (!isLog) return plain(v);
    if (v >= -3 && v < 6) return String(Number((10 ** v).toPrecision(3)));
    const k = Math.floor(v);
    return (10 ** (v - k)).toFixed(1) + "×" + power(k);
  };

  const ticksOf = (low, high, isLog) => {
    if (isLog && high - low >= 1) {
      const stride = Math.max(1, Math.ceil((high - low) / 6));
      const out = [];
      for (let k = Math.ceil(low / stride) * stride; k <= high; k += stride) {
        out.push([k, k >= -3 && k <= 3 ? plain(10 ** k) : power(k)]);
      }
      return out;
    }
    const rough = (high - low) / 5;
    if (!(rough > 0)) return [[low, plain(low)]];
    const unit = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * unit).find((s) => s >= rough * (1 - 1e-9));
    const out = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k += 1) {
      const v = Number((k * step).toPrecision(12));
      out.push([v, isLog ? words(v, true) : plain(v)]);
    }
    return out;
  };

  // Charts ----------------------------------------------------------------------------------
  const figures = new Map();
  const frame = (parent, key, kind) => {
    let made = figures.get(key);
    if (made && made.figure.isConnected) return made;
    const strong = el("strong"), about = el("span"), legend = el("div", { class: "legend" });
    const yTicks = el("div", { class: "ticks y", "aria-hidden": "true" });
    const xTicks = el("div", { class: "ticks x", "aria-hidden": "true" });
    const cursor = el("i", { class: "cursor" });
    cursor.hidden = true;
    const area = el("div", { class: "area " + kind, tabindex: "0", role: "img" });
    const readout = el("output", { class: "readout", "aria-live": "polite" }, "\u00a0");
    const yName = el("div", { class: "axis y" }), xName = el("div", { class: "axis x" });
    const figure = el("figure", {}, el("figcaption", {}, strong, about), legend, yName,
      el("div", { class: "frame" }, yTicks, area, xTicks), xName, readout);
    parent.append(figure);
    made = { figure, strong, about, legend, yTicks, xTicks, area, cursor, readout, yName, xName,
      place: null, read: null };
    figures.set(key, made);
    const point = (event) => {
      const box = area.getBoundingClientRect();
      if (made.read) made.place = made.read.from((event.clientX - box.left) / box.width,
        (event.clientY - box.top) / box.height);
      show(made);
    };
    area.addEventListener("pointermove", point);
    area.addEventListener("pointerdown", point);
    area.addEventListener("keydown", (event) => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
        Home: [-1e9, 0], End: [1e9, 0] }[event.key];
      if (!way || !made.read) return;
      event.preventDefault();
      made.place = made.place ? made.read.move(made.place, ...way) : made.read.from(1, 0);
      show(made);
    });
    return made;
  };
  const show = (made) => {
    if (!made.place || !made.read) return;
    made.cursor.hidden = false;
    made.readout.textContent = made.read.show(made.place, made.cursor);
  };
  const setTicks = (box, ticks, side, where) => {
    box.replaceChildren(...ticks.map(([v, text]) => {
      const tick = el("span", {}, text);
      tick.style.setProperty(side, (100 * where(v)).toFixed(2) + "%");
      return tick;
    }));
  };
  const clamp = (v, n) => Math.max(0, Math.min(n - 1, v));

  // lines: [{name, style, x, y}], y as on the axis (log10 on a log axis)
  const chart = (parent, key, { title, about, lines, isLog, xName, yName, backwards, rules = [] }) => {
    const made = frame(parent, key, "curve");
    const finite = lines.flatMap((l) => l.y).filter(Number.isFinite);
    const xs = lines.flatMap((l) => l.x);
    let low = finite.reduce((a, b) => Math.min(a, b), Infinity);
    let high = finite.reduce((a, b) => Math.max(a, b), -Infinity);
    for (const rule of rules) if (rule.across) { low = Math.min(low, rule.at); high = Math.max(high, rule.at); }
    if (!(low <= high)) { low = 0; high = 1; }
    const air = 0.05 * (high - low) || (isLog ? 0.5 : 0.5 * Math.abs(low) || 0.5);
    const floor = !isLog && low >= 0 && low - air < 0;
    low = floor ? 0 : low - air;
    high += air;
    let first = xs.reduce((a, b) => Math.min(a, b), Infinity), last = xs.reduce((a, b) => Math.max(a, b), -Infinity);
    if (!(first < last)) { first = (xs.length ? first : 0) - 0.5; last = first + 1; }
    const [from, to] = backwards ? [last, first] : [first, last];
    const px = (x) => (x - from) / (to - from), py = (y) => 1 - (y - low) / (high - low);
    const picture = svg("svg", { viewBox: "0 0 1000 1000", preserveAspectRatio: "none", "aria-hidden": "true" });
    const yTicks = ticksOf(low, high, isLog);
    picture.append(svg("path", { class: "grid", d: yTicks.map(([v]) => `M0 ${(1000 * py(v)).toFixed(1)}H1000`).join("") }));
    for (const rule of rules) {
      const d = rule.across ? `M0 ${(1000 * py(rule.at)).toFixed(1)}H1000` : `M${(1000 * px(rule.at)).toFixed(1)} 0V1000`;
      if (rule.across || (px(rule.at) >= 0 && px(rule.at) <= 1)) picture.append(svg("path", { class: "grid needed", d }));
    }
    for (const line of lines) {
      let d = "", pen = "M", faults = { nan: "", inf: "", zero: "" };
      line.x.forEach((x, i) => {
        const y = line.y[i], left = (1000 * px(x)).toFixed(1);
        if (Number.isFinite(y)) { d += `${pen}${left} ${(1000 * py(y)).toFixed(1)}`; pen = "L"; return; }
        pen = "M";
        if (Number.isNaN(y)) faults.nan += `M${left} 0V1000`;
        else if (y > 0) faults.inf += `M${left} 0V70`;
        else faults.zero += `M${left} 930V1000`;
      });
      picture.append(svg("path", { class: "line " + line.style, d }));
      for (const [kind, path] of Object.entries(faults)) if (path) picture.append(svg("path", { class: "fault " + kind, d: path }));
    }
    made.strong.textContent = title;
    made.about.textContent = about || "";
    made.yName.textContent = yName + (isLog ? " (log scale)" : "");
    made.xName.textContent = xName;
    const names = lines.map((l) => {
      const piece = svg("svg", { viewBox: "0 0 32 8", class: "stroke", "aria-hidden": "true" });
      piece.append(svg("path", { d: "M0 4H32", class: "line " + l.style }));
      return el("span", { class: "key" }, piece, " " + l.name);
    });
    made.legend.replaceChildren(...(lines.length > 1 || rules.length ? names : []),
      ...rules.map((r) => el("span", { class: "key" }, r.text)));
    setTicks(made.yTicks, yTicks, "bottom", (v) => 1 - py(v));
    setTicks(made.xTicks, ticksOf(first, last, false).filter(([v]) => Number.isInteger(v)), "left", px);
    made.area.replaceChildren(picture, made.cursor);
    const places = [...new Set(xs)].sort((a, b) => a - b);
    const nearest = (list, x) => {
      let a = 0, b = list.length - 1;
      while (b - a > 1) { const m = (a + b) >> 1; if (list[m] <= x) a = m; else b = m; }
      return Math.abs(list[b] - x) < Math.abs(list[a] - x) ? b : a;
    };
    const name = xName.split(" (")[0];
    made.read = places.length === 0 ? null : {
      from: (fx) => [places[nearest(places, from + fx * (to - from))], 0],
      move: ([x], dx) => [places[clamp(nearest(places, x) + (backwards ? -dx : dx), places.length)], 0],
      show: ([x], cursor) => {
        cursor.style.setProperty("left", 100 * Math.min(1, Math.max(0, px(x))) + "%");
        return name + " " + plain(x) + ": " + lines.filter((l) => l.x.length).map((l) =>
          (lines.length > 1 ? l.name + " " : "") + words(l.y[nearest(l.x, x)], isLog)).join(" · ");
      },
    };
    const latest = lines.filter((l) => l.y.length).map((l) => l.name + " " + words(l.y[l.y.length - 1], isLog));
    made.area.setAttribute("aria-label", `${title}. Latest: ${latest.join(", ")}. Arrow keys read the values.`);
    show(made);
    return made;
  };

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const SPECIAL = { 250: "exactly zero", 251: "infinite", 252: "not a number", 253: "not measured" };
  const heat = (parent, key, map, title) => {
    const made = frame(parent, key, "heat");
    const [w, h] = [map.steps.length, map.times.length], cells = bytes(map.cells);
    const [low, high] = [number(map.low), number(map.high)];
    const canvas = el("canvas", { width: String(w), height: String(h), "aria-hidden": "true" });
    const pen = canvas.getContext("2d"), image = pen.createImageData(w, h);
    for (let i = 0; i < w; i += 1) for (let j = 0; j < h; j += 1) {
      const index = cells[i * h + j], k = 4 * ((h - 1 - j) * w + i), c = COLOURS[index];
      for (let p = 0; p < 3; p += 1) image.data[k + p] = parseInt(c.slice(1 + 2 * p, 3 + 2 * p), 16);
      image.data[k + 3] = index === 253 ? 0 : 255;
    }
    pen.putImageData(image, 0, 0);
    made.strong.textContent = title;
    made.about.textContent = `From ${words(low, true)} (dark) to ${words(high, true)} (light); the last time step at the top.`;
    made.yName.textContent = "time step";
    made.xName.textContent = "training step";
    const some = (list) => [0, 0.25, 0.5, 0.75, 1].map((f) => Math.round(f * (list.length - 1)))
      .filter((v, i, all) => all.indexOf(v) === i).map((i) => [i, plain(list[i])]);
    setTicks(made.yTicks, some(map.times), "bottom", (i) => (i + 0.5) / h);
    setTicks(made.xTicks, some(map.steps), "left", (i) => (i + 0.5) / w);
    made.area.replaceChildren(canvas, made.cursor);
    made.read = {
      from: (fx, fy) => [clamp(Math.floor(fx * w), w), clamp(Math.floor(fy * h), h)],
      move: ([i, j], dx, dy) => [clamp(i + dx, w), clamp(j + dy, h)],
      show: ([i0, j0], cursor) => {
        const i = clamp(i0, w), j = clamp(j0, h), index = cells[i * h + (h - 1 - j)];
        cursor.style.setProperty("left", (100 * (i + 0.5)) / w + "%");
        cursor.style.setProperty("top", (100 * (j + 0.5)) / h + "%");
        return `training step ${plain(map.steps[i])}, time step ${plain(map.times[h - 1 - j])}: ` +
          (SPECIAL[index] || words(low + (index / 239) * (high - low), true));
      },
    };
    made.area.setAttribute("aria-label", `${title}. Arrow keys read the values.`);
    show(made);
  };

  // The page --------------------------------------------------------------------------------
  const sources = new Map(), order = [], hidden = new Set();
  let isPaused = false, isDue = false, shownMap = "";
  const styleOf = (name, k = 0) => STYLES[(order.filter((n) => !sources.get(n) || sources.get(n).kind === "run").indexOf(name) % 5) + (k % 2 ? 5 : 0)];
  const shownRuns = () => order.map((n) => sources.get(n)).filter((s) => s && s.kind === "run" && !hidden.has(s.name));

  const drop = (keep, prefix) => {
    for (const [key, made] of figures) if (key.startsWith(prefix) && !keep.has(key)) { made.figure.remove(); figures.delete(key); }
  };
  const unsigned = (lines, isLog) => isLog && lines.every((l) => l.y.every((v) => !(number(v) < 0)));
  const onAxis = (l, isLog) => l.y.map((v) => (isLog ? Math.log10(number(v)) : number(v)));

  const drawCharts = (runs) => {
    const panels = new Map();
    for (const run of runs) for (const panel of run.charts) {
      const all = panels.get(panel.title) || { ...panel, all: [] };
      panel.lines.forEach((l, k) => all.all.push({ ...l, run: run.name, k }));
      panels.set(panel.title, all);
    }
    const keep = new Set();
    for (const panel of panels.values()) {
      const isLog = unsigned(panel.all, panel.log), key = "chart " + panel.title;
      keep.add(key);
      const several = new Set(panel.all.map((l) => l.name)).size > 1;
      chart(at("charts"), key, { title: panel.title, about: panel.about, isLog, xName: "training step",
        yName: panel.unit === "1" ? panel.title.toLowerCase() : panel.unit,
        lines: panel.all.map((l) => ({ name: runs.length > 1 ? l.run + (several ? ", " + l.name : "") : l.name,
          style: styleOf(l.run, l.k), x: l.x, y: onAxis(l, isLog) })) });
    }
    drop(keep, "chart ");
    at("s-charts").hidden = keep.size === 0;
  };

  const drawLeft = (runs) => {
    const there = runs.filter((r) => r.left);
    at("s-left").hidden = there.length === 0;
    if (!there.length) return;
    const lags = [...new Set(there.map((r) => r.lag).filter((l) => l !== null))];
    const rules = there.every((r) => r.left.share)
      ? [{ at: there[0].threshold, across: true, text: "gone below " + words(there[0].threshold, true) }] : [];
    if (lags.length === 1) rules.push({ at: lags[0], across: false, text: "lag needed: " + plain(lags[0]) });
    chart(at("left"), "left", { title: "After the last measurement", backwards: true, isLog: true, rules,
      about: "Share of the gradient by steps back, in the layer where least is left.",
      xName: "steps back (the answer is at the right)", yName: "share of the gradient left",
      lines: there.map((r) => ({ name: `${r.name}, ${r.left.layer}, step ${plain(r.left.step)}`,
        style: styleOf(r.name), x: r.left.x, y: r.left.y.map(number) })) });
  };

  const drawMaps = (runs) => {
    const maps = runs.flatMap((r) => r.maps.map((m) => [`${r.name}: layer ${m.layer}, ${m.state === "x" ? "at its input" : "state " + m.state}`, m]));
    at("s-map").hidden = maps.length === 0;
    const select = at("map"), names = maps.map(([n]) => n);
    if (JSON.stringify(names) !== select.dataset.names) {
      select.dataset.names = JSON.stringify(names);
      select.replaceChildren(...names.map((n) => el("option", { value: n }, n)));
      if (!names.includes(shownMap)) shownMap = names[0] || "";
      select.value = shownMap;
    }
    const found = maps.find(([n]) => n === shownMap);
    if (found) heat(at("heat"), "heat", found[1], found[0]);
  };

  const drawGates = (runs) => {
    const keep = new Set();
    for (const run of runs) for (const { layer, lines } of run.gates) {
      const key = `gate ${run.name} ${layer}`;
      keep.add(key);
      chart(at("gates"), key, { title: runs.length > 1 ? `${run.name}, ${layer}` : layer, about: "Mean over the time steps.",
        isLog: false, xName: "training step", yName: "share of units that are dead",
        lines: lines.map((l, k) => ({ name: l.name, style: STYLES[k % STYLES.length], x: l.x, y: l.y.map(number) })) });
    }
    drop(keep, "gate ");
    at("s-gates").hidden = keep.size === 0;
  };

  const renew = (box, content, make) => {
    const text = JSON.stringify(content);
    if (box.dataset.content === text) return;
    const isFirst = box.dataset.content === undefined;
    box.dataset.content = text;
    box.replaceChildren(...make(isFirst));
  };
  const known = new Set();
  const card = (run, f, isFirst, several) => {
    const where = [several ? run : "", f.layer ? "layer " + f.layer : "", f.gate ? f.gate + " gate" : "",
      "training step " + plain(f.step)].filter(Boolean).join(", ");
    const id = JSON.stringify([run, f.fault, f.layer, f.gate, f.step]), isNew = !known.has(id) && !isFirst;
    known.add(id);
    const listed = (label, list, isCode) => (list.length
      ? el("p", { class: "advice" }, label, ...list.flatMap((t, i) => [i ? ", " : "", isCode ? el("code", {}, t) : t])) : null);
    return el("article", { class: "finding" + (isNew ? " new" : "") },
      el("h3", {}, el("span", { class: "badge" }, f.fault || "finding"), " ", el("span", { class: "quiet" }, where)),
      el("p", {}, f.text), listed("Worth trying: ", f.remedies, true), listed("Also: ", f.advice, false),
      f.patch ? el("pre", { tabindex: "0", "aria-label": "The lines to paste" }, el("code", {}, f.patch)) : null);
  };
  const drawTexts = (runs) => {
    const found = runs.flatMap((r) => r.findings.map((f) => [r.name, f])).sort((a, b) => b[1].step - a[1].step).slice(0, 40);
    const troubles = order.map((n) => sources.get(n)).filter((s) => s && s.kind === "trouble").map((s) => s.text);
    renew(at("findings"), [found, troubles, runs.map((r) => r.verdict)], (isFirst) => [
      ...troubles.map((t) => el("p", { class: "trouble" }, t)),
      ...(found.length ? found.map(([run, f]) => card(run, f, isFirst, runs.length > 1))
        : runs.map((r) => el("p", { class: "quiet" }, `${runs.length > 1 ? r.name + ": " : ""}${r.sentence}`)))]);
    const events = runs.flatMap((r) => r.events.map((e) => [r.name, e])).sort((a, b) => b[1].time - a[1].time).slice(0, 40);
    at("s-events").hidden = events.length === 0;
    renew(at("events"), [events, runs.length], () => events.map(([run, e]) => el("li", {},
      el("span", { class: "quiet" }, `${runs.length > 1 ? run + ", " : ""}step ${plain(e.step)}: `), el("b", {}, e.kind), " " + e.text)));
    const headline = runs.length === 1 ? runs[0].sentence : runs.length
      ? runs.map((r) => `${r.name}: ${r.verdict || "not judged"}`).join("; ") : "Waiting for a record";
    if (at("headline").textContent !== headline) at("headline").textContent = headline;
    document.title = (runs.length === 1 ? runs[0].verdict || "not judged" : `${runs.length} runs`) + " – Steadygrad live";
  };

  const drawGrids = () => {
    const grids = order.map((n) => sources.get(n)).filter((s) => s && s.kind === "grid");
    const box = at("grids"), keep = new Set();
    box.hidden = grids.length === 0;
    for (const grid of grids) for (const task of grid.tasks) {
      const key = `grid ${grid.name} ${task.task}`;
      keep.add(key);
      let part = [...box.children].find((c) => c.dataset.key === key);
      if (!part) {
        part = el("div", { "data-key": key }, el("h2", {}, `${grid.title}: ${task.task}`), el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": task.task }), el("div"));
        box.append(part);
      }
      const head = el("tr", {}, ...task.head.map((h) => el("th", { scope: "col" }, h)));
      const body = task.rows.map((row) => el("tr", {}, ...row.map((c, i) => (i
        ? el("td", { "data-label": task.head[i] }, el("span", {}, c)) : el("th", { scope: "row" }, c)))));
      part.children[1].replaceChildren(el("table", { class: "stack" }, el("thead", {}, head), el("tbody", {}, ...body)));
      const isLog = unsigned(task.lines, true);
      chart(part.children[2], key, { title: "How it is learnt", about: "Validation part, median over seeds.", isLog,
        xName: "update", yName: task.unit, lines: task.lines.map((l, k) => ({ name: l.name, style: STYLES[k % STYLES.length], x: l.x, y: onAxis(l, isLog) })) });
    }
    for (const part of [...box.children]) if (!keep.has(part.dataset.key)) part.remove();
    drop(keep, "grid ");
  };

  const drawRuns = () => {
    const runs = order.map((n) => sources.get(n)).filter((s) => s && s.kind === "run");
    const wanted = runs.map((r) => [r.name, r.open, r.step, r.verdict]);
    const box = at("runs");
    box.hidden = runs.length === 0;
    for (const label of [...box.querySelectorAll("label")]) if (!wanted.some(([n]) => n === label.dataset.name)) label.remove();
    for (const [name, isOpen, step, verdict] of wanted) {
      let label = [...box.querySelectorAll("label")].find((l) => l.dataset.name === name);
      if (!label) {
        const check = el("input", { type: "checkbox" });
        check.checked = !hidden.has(name);
        check.addEventListener("change", () => { if (check.checked) hidden.delete(name); else hidden.add(name); due(true); });
        label = el("label", { "data-name": name }, check, el("span"));
        box.append(label);
      }
      label.lastChild.textContent = `${name}: step ${plain(Math.max(0, step))}, ${isOpen ? "running" : "ended"}, ${verdict || "not judged"}`;
    }
  };

  // The one thing that this page does: everything else only reads.
  let cures = null;
  const ask = async (action, content) => {
    const box = at("answer");
    box.hidden = true;
    try {
      const answer = await fetch(action, { method: "POST", headers: { "content-type": "application/json" },
        body: JSON.stringify(content) });
      if (answer.ok) return;
      box.textContent = (await answer.text()).trim();
    } catch { box.textContent = "the page's server does not answer"; }
    box.hidden = false;
  };
  const drawCures = () => {
    const able = order.map((n) => sources.get(n)).filter((s) => s && s.kind === "run" && s.curable);
    at("s-cures").hidden = cures === null || (able.length === 0 && cures.attempts.length === 0);
    if (cures === null) return;
    renew(at("offers"), [able.map((r) => r.name), cures.busy], () => {
      if (cures.busy) {
        const stop = el("button", { type: "button", id: "cancel" }, "Cancel");
        stop.addEventListener("click", () => { stop.disabled = true; ask("cancel", {}); });
        return [stop];
      }
      return able.map((r) => {
        const go = el("button", { type: "button", "data-run": r.name }, able.length > 1 ? `Try the cure: ${r.name}` : "Try the cure");
        go.addEventListener("click", () => { go.disabled = true; ask("cure", { run: r.name }).finally(() => { go.disabled = false; }); });
        return go;
      });
    });
    renew(at("attempts"), cures.attempts, () => cures.attempts.map((a) => el("li", {},
      el("code", {}, a.remedy), el("b", {}, " " + a.state), a.text && a.text !== a.state ? ": " + a.text : "")));
  };

  const draw = () => {
    isDue = false;
    drawCures();
    drawRuns();
    const runs = shownRuns();
    drawTexts(runs);
    drawGrids();
    drawLeft(runs);
    drawMaps(runs);
    drawCharts(runs);
    drawGates(runs);
  };
  const due = (isAsked = false) => {
    if (isDue || (isPaused && !isAsked)) return;
    isDue = true;
    requestAnimationFrame(draw);
  };

  at("pause").addEventListener("click", () => {
    isPaused = !isPaused;
    at("pause").setAttribute("aria-pressed", String(isPaused));
    at("pause").textContent = isPaused ? "Go on" : "Pause";
    due();
  });
  at("map").addEventListener("change", () => { shownMap = at("map").value; due(true); });

  const link = (text, isLost) => {
    if (at("link").textContent !== text) at("link").textContent = text;
    at("link").classList.toggle("lost", isLost);
  };
  // EventSource reconnects by itself; after a refusal (a restarted server has another token) it does not.
  const stream = new EventSource("events");
  stream.addEventListener("open", () => link("connected", false));
  stream.addEventListener("error", () => link(stream.readyState === EventSource.CLOSED
    ? "ended: start steadygrad live again and open its new address" : "reconnecting", true));
  stream.addEventListener("source", (event) => {
    const source = JSON.parse(event.data);
    if (!order.includes(source.name)) order.push(source.name);
    sources.set(source.name, source);
    due();
  });
  stream.addEventListener("cures", (event) => { cures = JSON.parse(event.data); due(true); });
  stream.addEventListener("gone", (event) => { sources.delete(JSON.parse(event.data)); due(); });
})();
