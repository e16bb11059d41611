// One LSTM unit: pure functions of the controls' values.
const scenes = {};
const sigmoid = (a) => 1 / (1 + Math.exp(-a));

// One step. The gates are given, not computed: that is what a reader drags.
scenes.unit = ({ f, i, g, o, before }) => {
  const c = f * before + i * g;
  const h = o * Math.tanh(c);
  const wide = (v) => 1 + 9 * Math.min(1, Math.abs(v));
  const gate = (x, y, name, value, below = 0) => [
    { tag: "circle", cx: x, cy: y, r: 26, class: "gate" },
    { tag: "rect", x: x - 18, y: y + 18 - 36 * value, width: 36, height: 36 * value, class: "fill",
      opacity: 0.35 },
    { tag: "text", x, y: y + 5, "text-anchor": "middle", class: "strong", text: "×" },
    { tag: "text", x, y: y + (below || -36), "text-anchor": "middle", text: `${name} ${value.toFixed(2)}` },
  ];
  const wire = (d, v) => [
    { tag: "path", d, class: "wire" },
    { tag: "path", d, class: "flow", "stroke-width": wide(v), opacity: Math.abs(v) > 0.004 ? 1 : 0 },
  ];
  const box = (x, y, text) => [
    { tag: "rect", x: x - 30, y: y - 22, width: 60, height: 44, rx: 6, class: "box" },
    { tag: "text", x, y: y + 5, "text-anchor": "middle", class: "strong", text },
  ];
  const label = (x, y, name, value) => [
    { tag: "text", x, y, class: "small", text: name },
    { tag: "text", x, y: y + 20, class: "strong", text: value.toFixed(3) },
  ];
  const kept = f > 0.9 ? "keeps what it had" : f < 0.1 ? "erases what it had" : "keeps a part of what it had";
  const wrote = i > 0.9 ? "writes the new value" : i < 0.1 ? "writes nothing" : "writes a part of the new value";
  const read = o > 0.9 ? "shows the memory" : o < 0.1 ? "shows nothing" : "shows a part of the memory";
  return {
    text: {
      c, h, back: f, write: i, read: o * (1 - Math.tanh(c) ** 2),
      says: `The unit ${kept}, ${wrote} and ${read}. Going back through this step, the gradient of the `
        + `memory is multiplied by ${f.toFixed(2)}: by the forget gate itself, and by nothing else.`,
    },
    shapes: {
      unit: [
        ...wire("M20 90H204", before), ...wire("M256 90H350", f * before), ...wire("M410 90H660", c),
        ...wire("M380 230V112", i * g), ...wire("M200 256H354", g), ...wire("M540 90V150", c),
        ...wire("M540 194V230", Math.tanh(c)), ...wire("M566 256H660", h),
        ...gate(230, 90, "forget f", f), ...gate(380, 256, "input i", i, 46), ...gate(540, 256, "output o", o, 46),
        ...box(380, 90, "+"), ...box(170, 256, "new"), ...box(540, 172, "tanh"),
        ...label(20, 50, "memory before", before), ...label(120, 306, "value g", g),
        ...label(600, 50, "memory c", c), ...label(600, 206, "output h", h),
      ],
    },
  };
};

const OPERATIONS = { k: [0, 1, 0], w: [1, 0, 0], e: [0, 0, 0], r: [0, 1, 1] };
const NAMES = { k: "keep", w: "write", e: "erase", r: "read" };

// A programme of operations; every gate is opened and shut by pre-activations of +a and -a.
const programme = ({ operations, open, value }) => {
  const letters = [...operations.toLowerCase()].filter((l) => l in OPERATIONS);
  const steps = [];
  let c = 0;
  for (const letter of letters) {
    const [i, f, o] = OPERATIONS[letter].map((on) => sigmoid(on ? open : -open));
    // Each write turns the sign of the value, so that one can tell them apart.
    const g = value * (steps.filter((s) => s.letter === "w").length % 2 ? -1 : 1);
    const before = c;
    c = f * before + i * g;
    steps.push({ letter, i, f, o, g, c, h: o * Math.tanh(c) });
  }
  // L is the output at the last step.
  let back = 0;
  for (let t = steps.length - 1; t >= 0; t--) {
    const s = steps[t];
    if (t === steps.length - 1) back = s.o * (1 - Math.tanh(s.c) ** 2);
    s.dc = back;
    s.dg = back * s.i;
    back *= s.f;
  }
  return steps;
};

scenes.programme = (values) => {
  const steps = programme(values);
  const points = (key) => steps.map((s, t) => [t + 1, s[key]]);
  const logs = (key) => steps.map((s, t) => [t + 1, s[key] > 0 ? Math.log10(s[key]) : -Infinity]);
  const last = steps.length - 1;
  const from = steps.reduce((best, s, t) => (s.dg > (steps[best] || { dg: 0 }).dg ? t : best), 0);
  const top = Math.max(1e-300, ...steps.map((s) => s.dg));
  return {
    text: {
      says: last < 0 ? "Type w, k, e and r." : `The last output is ${steps[last].h.toFixed(3)}. It depends most on `
        + `what came in at step ${from + 1} (${NAMES[steps[from].letter]}), ${last - from} steps back: `
        + `the gradient there is ${steps[from].dg.toPrecision(3)}.`,
    },
    lines: { values: [points("c"), points("h")], gradient: [logs("dc"), logs("dg")] },
    letters: {
      steps: steps.map((s, t) => ({
        text: s.letter, height: s.dg / top, name: t === last ? "now" : "",
        title: `step ${t + 1}: ${NAMES[s.letter]}, memory ${s.c.toFixed(3)}`,
      })),
    },
    steps,
  };
};

// The gradient along the memory of one LSTM unit and along the state of one tanh unit.
scenes.decay = ({ weight, steps, x }) => {
  const f = sigmoid(weight * x);
  const lstm = [];
  for (let k = 0; k <= steps; k++) lstm.push([k, k * Math.log10(f)]);
  const hidden = [];
  let h = 0;
  for (let t = 0; t <= steps; t++) hidden.push((h = Math.tanh(weight * h + x)));
  const rnn = [[0, 0]];
  let back = 0;
  for (let k = 1; k <= steps; k++) {
    const slope = 1 - hidden[steps - k + 1] ** 2;
    back += Math.log10(Math.abs(weight) * slope);
    rnn.push([k, back]);
  }
  const half = f < 1 ? Math.log(0.5) / Math.log(f) : Infinity;
  return {
    text: { f, left: f ** steps, rnn: { log10: back }, half },
    lines: { decay: [lstm, rnn] },
  };
};

// What "saturated" does: the gate's value multiplies the memory's gradient, its slope the gate's own.
scenes.saturated = ({ a }) => {
  const value = sigmoid(a);
  const slope = value * (1 - value);
  const at = (fn) => { const out = []; for (let k = -48; k <= 48; k++) out.push([k / 4, fn(k / 4)]); return out; };
  return {
    text: {
      value, slope, hundred: value ** 100,
      says: slope > 0.1 ? "The gate is half open: it still learns fast, and the memory leaks."
        : value > 0.5 ? "Saturated open: the memory's gradient passes whole, and the gate itself hardly learns."
          : "Saturated shut: the memory is erased, its gradient stops here, and the gate hardly learns to open.",
    },
    lines: {
      saturated: [at(sigmoid), at((v) => sigmoid(v) * (1 - sigmoid(v))), [[a, 0], [a, 1]]],
    },
  };
};
