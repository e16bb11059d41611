// Gradient descent on the cliff of a one-unit recurrent network: s <- sigmoid(w s + b), 50 times.
const scenes = {};
const sigmoid = (a) => 1 / (1 + Math.exp(-a));
const clamp = (v, most) => Math.max(-most, Math.min(most, v));

const pass = (w, b, data) => {
  const states = [data.start];
  for (let t = 0; t < data.length; t++) states.push(sigmoid(w * states[t] + b));
  return states;
};
const lossOf = (w, b, data) => (pass(w, b, data)[data.length] - data.target) ** 2;
// The gradient by w and b; `inside` bounds what is handed from each step to the one before.
const gradient = (w, b, data, inside = Infinity) => {
  const s = pass(w, b, data);
  let back = 2 * (s[data.length] - data.target);
  let [dw, db] = [0, 0];
  for (let t = data.length; t > 0; t--) {
    const da = back * s[t] * (1 - s[t]);
    dw += da * s[t - 1];
    db += da;
    back = clamp(w * da, inside);
  }
  return [dw, db];
};
const clipped = (g, clip, threshold) => {
  if (clip === "value") return g.map((v) => clamp(v, threshold));
  if (clip !== "norm") return g;
  const share = Math.min(1, threshold / (Math.hypot(...g) + 1e-6));
  return g.map((v) => v * share);
};
const descend = ({ w, b, rate, threshold, clip, steps }, data) => {
  const path = [];
  for (let k = 0; ; k++) {
    const g = gradient(w, b, data, clip === "inside" ? threshold : Infinity);
    path.push({ w, b, loss: lossOf(w, b, data), norm: Math.hypot(...g) });
    if (k === steps) return path;
    const [dw, db] = clipped(g, clip, threshold);
    w -= rate * dw;
    b -= rate * db;
  }
};

scenes.cliff = (values, data) => {
  const path = descend(values, data);
  const last = path[path.length - 1];
  const jumps = path.slice(1).map((p, k) => Math.hypot(p.w - path[k].w, p.b - path[k].b));
  const far = Math.max(0, ...jumps);
  const [low, high] = data.w;
  const [bottom, top] = data.b;
  const x = (w) => (600 * (w - low)) / (high - low);
  const y = (b) => 420 - (420 * (b - bottom)) / (top - bottom);
  const within = (p) => p.w >= low && p.w <= high && p.b >= bottom && p.b <= top;
  const d = "M" + path.map((p) => `${x(p.w).toFixed(1)} ${y(p.b).toFixed(1)}`).join("L");
  const line = (key) => path.map((p, k) => [k, p[key] > 0 ? Math.log10(p[key]) : -Infinity]);
  const names = { none: "Without a clip", value: "Clipped by value", norm: "Clipped by norm", inside: "Clipped inside backpropagation" };
  return {
    text: {
      loss: last.loss, far, steepest: Math.max(...path.map((p) => p.norm)),
      says: `${names[values.clip]}, the loss ends at ${last.loss.toPrecision(3)}. The longest step was `
        + `${far.toPrecision(3)}${within(last) ? "" : ", and the path has left the picture"}.`,
    },
    lines: { loss: [line("loss")], norm: [line("norm")] },
    shapes: {
      path: [
        { tag: "path", d, class: "trace under" }, { tag: "path", d, class: "trace" },
        ...path.filter(within).map((p) => ({ tag: "circle", cx: x(p.w), cy: y(p.b), r: 3.2, class: "stop" })),
        { tag: "circle", cx: x(path[0].w), cy: y(path[0].b), r: 8, class: "begin" },
        ...(within(last) ? [{ tag: "rect", x: x(last.w) - 8, y: y(last.b) - 8, width: 16, height: 16, class: "begin" }] : []),
        { tag: "text", x: 600, y: 442, "text-anchor": "end", text: `weight w, ${low} to ${high}` },
        { tag: "text", x: 0, y: 442, text: `bias b, ${bottom} (bottom) to ${top}` },
      ],
    },
    path,
  };
};
