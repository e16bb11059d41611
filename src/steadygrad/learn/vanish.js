// A product of 2 x 2 matrices: what eigenvalues promise and what singular values allow.
const scenes = {};

const times = ([a, b, c, d], [e, f, g, h]) => [a * e + b * g, a * f + b * h, c * e + d * g, c * f + d * h];
const matrix = ({ scale, angle, shear }) => {
  const turn = (angle * Math.PI) / 180;
  return [scale * Math.cos(turn), -scale * Math.sin(turn) + shear, scale * Math.sin(turn), scale * Math.cos(turn)];
};
// Largest and smallest singular value, without the loss of digits of the textbook formula.
const singular = ([a, b, c, d]) => {
  const sum = Math.hypot(a + d, b - c);
  const difference = Math.hypot(a - d, b + c);
  return [(sum + difference) / 2, Math.abs(sum - difference) / 2];
};
const radius = ([a, b, c, d]) => {
  const half = (a + d) / 2;
  const root = half * half - (a * d - b * c);
  return root >= 0 ? Math.abs(half) + Math.sqrt(root) : Math.sqrt(a * d - b * c);
};

scenes.product = (values) => {
  const { slope, steps } = values;
  const step = matrix(values).map((v) => slope * v);
  const powers = [[1, 0, 0, 1]];
  for (let k = 1; k <= 40; k++) powers.push(times(step, powers[k - 1]));
  const norms = powers.map((p) => singular(p)[0]);
  const rho = radius(step);
  const bound = singular(step)[0];
  const now = powers[steps];
  const size = Math.max(1.25, ...norms.slice(0, steps + 1));
  const at = ([x, y]) => [(200 + (180 * x) / size).toFixed(1), (200 - (180 * y) / size).toFixed(1)];
  const ellipse = ([a, b, c, d]) => {
    const points = [];
    for (let k = 0; k <= 72; k++) {
      const [x, y] = [Math.cos((k * Math.PI) / 36), Math.sin((k * Math.PI) / 36)];
      points.push(at([a * x + b * y, c * x + d * y]).join(" "));
    }
    return "M" + points.join("L");
  };
  const peak = norms.indexOf(Math.max(...norms));
  return {
    text: {
      radius: rho, norm: bound, left: norms[steps],
      says: rho < 1 && bound <= 1 ? "Every step shrinks: this gradient vanishes from the first step on."
        : rho < 1 ? (peak > 0 ? `It grows for ${peak} step${peak > 1 ? "s" : ""}, to ${norms[peak].toPrecision(3)} times, and only then vanishes: `
          : "It vanishes, though a single step may stretch: ") + "the eigenvalues say how it ends, the singular values how it begins."
          : rho > 1.0001 ? "An eigenvalue above one: this gradient explodes."
            : "Eigenvalues of size one: the gradient neither dies nor explodes.",
    },
    lines: {
      norms: [norms.map((v, k) => [k, Math.log10(v)]), norms.map((_, k) => [k, k * Math.log10(rho)]),
        norms.map((_, k) => [k, k * Math.log10(bound)])],
    },
    shapes: {
      ellipse: [
        { tag: "path", d: "M10 200H390M200 10V390", class: "axis-line" },
        { tag: "path", d: ellipse(powers[0]), class: "curve before dashed" },
        { tag: "path", d: ellipse(now), class: "curve" },
        { tag: "text", x: 12, y: 26, class: "small", text: `full width: ${(2 * size * 200 / 180).toPrecision(3)}` },
      ],
    },
    powers: norms,
  };
};
