// A small character model, forward and backward in the page: from which past letters the gradient arrives.
const scenes = {};
const sigmoid = (a) => 1 / (1 + Math.exp(-a));

const decoded = new Map();
const floats = (text) => {
  if (!decoded.has(text)) {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    decoded.set(text, Float64Array.from(new Float32Array(bytes.buffer)));
  }
  return decoded.get(text);
};

// Rows of a matrix times a vector, and its transpose.
const times = (m, v, rows) => {
  const out = new Float64Array(rows);
  for (let r = 0; r < rows; r++) for (let k = 0; k < v.length; k++) out[r] += m[r * v.length + k] * v[k];
  return out;
};
const back = (m, d, columns) => {
  const out = new Float64Array(columns);
  for (let r = 0; r < d.length; r++) for (let k = 0; k < columns; k++) out[k] += m[r * columns + k] * d[r];
  return out;
};

const forward = (codes, model, size) => {
  const n = model.hidden;
  const gates = model.gates;
  const [wi, wh, bias, wo, bo] = ["weight_ih", "weight_hh", "bias", "weight_out", "bias_out"].map((k) => floats(model[k]));
  let h = new Float64Array(n);
  let c = new Float64Array(n);
  const steps = codes.map((code) => {
    const a = times(wh, h, gates * n);
    for (let r = 0; r < gates * n; r++) a[r] += wi[r * size + code] + bias[r];
    const step = { before: c };
    if (gates === 1) {
      h = a.map(Math.tanh);
    } else {
      step.gate = a.map((v, r) => (r >= 2 * n && r < 3 * n ? Math.tanh(v) : sigmoid(v)));
      c = c.map((v, j) => step.gate[n + j] * v + step.gate[j] * step.gate[2 * n + j]);
      h = c.map((v, j) => step.gate[3 * n + j] * Math.tanh(v));
    }
    step.h = h;
    step.c = c;
    return step;
  });
  const logits = times(wo, h, size).map((v, k) => v + bo[k]);
  const top = Math.max(...logits);
  const sum = logits.reduce((s, v) => s + Math.exp(v - top), 0);
  return { steps, chances: Array.from(logits, (v) => Math.exp(v - top) / sum) };
};

// |dL/dx_s| for every letter read, L = -log p(target) after the last one; x one-hot.
const reach = (codes, target, model, size) => {
  const n = model.hidden;
  const [wi, wh, wo] = ["weight_ih", "weight_hh", "weight_out"].map((k) => floats(model[k]));
  const { steps, chances } = forward(codes, model, size);
  let dh = back(wo, Float64Array.from(chances, (p, k) => p - (k === target ? 1 : 0)), n);
  let dc = new Float64Array(n);
  const norms = new Array(codes.length).fill(0);
  for (let t = codes.length - 1; t >= 0; t--) {
    const { gate, h, c, before } = steps[t];
    let da;
    if (model.gates === 1) {
      da = dh.map((v, j) => v * (1 - h[j] * h[j]));
    } else {
      da = new Float64Array(4 * n);
      const next = new Float64Array(n);
      for (let j = 0; j < n; j++) {
        const [i, f, g, o] = [0, 1, 2, 3].map((k) => gate[k * n + j]);
        const m = Math.tanh(c[j]);
        const d = dc[j] + dh[j] * o * (1 - m * m);
        da[j] = d * g * i * (1 - i);
        da[n + j] = d * before[j] * f * (1 - f);
        da[2 * n + j] = d * i * (1 - g * g);
        da[3 * n + j] = dh[j] * m * o * (1 - o);
        next[j] = d * f;
      }
      dc = next;
    }
    norms[t] = Math.hypot(...back(wi, da, size));
    dh = back(wh, da, n);
  }
  return { norms, chances };
};

scenes.remember = ({ sentence, at, cell, decades }, data) => {
  const letters = [...sentence.toLowerCase()].map((l) => (data.letters.includes(l) ? l : " "));
  const size = data.letters.length;
  const last = Math.max(0, letters.length - 1);
  const place = Math.min(Math.max(1, Math.round(at)), last);
  if (last < 1) {
    return { text: { says: "Type at least two letters.", chance: 0, best: "–", far: 0 }, lines: { lags: [[], []] },
      letters: { row: [] }, highest: { at: 1 }, norms: [] };
  }
  const codes = letters.map((l) => data.letters.indexOf(l));
  const seen = Object.fromEntries(Object.entries(data.models).map(
    ([name, model]) => [name, reach(codes.slice(0, place), codes[place], model, size)]));
  const { norms, chances } = seen[cell];
  const top = Math.max(...norms);
  const share = norms.map((v) => (v > 0 ? Math.log10(v / top) : -Infinity));
  const far = place - share.findIndex((v) => v >= -3);
  const best = chances.indexOf(Math.max(...chances));
  const named = (l) => (l === " " ? "space" : l);
  const lags = (name) => {
    const most = Math.max(...seen[name].norms);
    return seen[name].norms.map((v, s) => [place - s, Math.log10(v / most)]).reverse();
  };
  return {
    text: {
      chance: chances[codes[place]], best: `${named(data.letters[best])}, ${chances[best].toFixed(3)}`, far,
      says: `For the letter “${named(letters[place])}” (number ${place + 1}), more than a thousandth of the `
        + `strongest gradient still arrives from ${far} letter${far === 1 ? "" : "s"} back, `
        + `from “${letters.slice(place - far, place).join("")}”.`,
    },
    lines: { lags: [lags("lstm"), lags("rnn")] },
    letters: {
      row: letters.map((text, s) => ({
        text, height: s < place ? 1 + share[s] / decades : 0, name: s === place ? "now" : s > place ? "after" : "",
        title: s < place ? `${place - s} back: ${(10 ** share[s]).toPrecision(2)} of the strongest` : "",
      })),
    },
    highest: { at: last }, shown: { at: place + 1 }, norms,
  };
};
