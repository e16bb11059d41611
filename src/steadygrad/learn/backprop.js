// Evaluates the lines that Python made: each a function of a sum of products of earlier values.
const scenes = {};
const FUNCTIONS = { "": (a) => a, tanh: Math.tanh, "σ": (a) => 1 / (1 + Math.exp(-a)) };

const digits = (v) => {
  if (v === 0 || Math.abs(v) >= 5e-4) return v.toFixed(4);
  const [m, e] = v.toExponential(2).split("e");
  return m + "e" + e[0] + e.slice(1).padStart(2, "0");
};
const signed = (v) => (digits(v).startsWith("-") ? `(${digits(v)})` : digits(v));
const inner = (factor) => factor.slice(2).replace("²", "");
const valueOf = (factor, values) => {
  if (!factor.startsWith("1-")) return values[factor];
  const v = values[inner(factor)];
  return 1 - (factor.endsWith("²") ? v * v : v);
};
const nameOf = (factor) => (factor.startsWith("1-") ? `(1 − ${factor.slice(2)})` : factor);
const numberOf = (factor, values) => (factor.startsWith("1-")
  ? `(1 − ${signed(values[inner(factor)])}${factor.endsWith("²") ? "²" : ""})` : signed(values[factor]));
const written = (line, write) => {
  const parts = line.terms.map(([c, factors], i) => {
    const product = (Math.abs(c) === 1 ? "" : Math.abs(c) + "·") + factors.map(write).join("·");
    return (c < 0 ? "− " : i ? "+ " : "") + product;
  });
  const text = parts.join(" ") || "0";
  if (!line.function) return text;
  const alone = line.terms.length === 1 && line.terms[0][1].length === 1 && text.startsWith("(");
  return alone ? line.function + text : `${line.function}(${text})`;
};

const evaluate = (lines, given) => {
  const values = { ...given };
  return lines.map((line) => {
    let total = 0;
    for (const [c, factors] of line.terms) {
      total += factors.reduce((product, f) => product * valueOf(f, values), c);
    }
    values[line.name] = FUNCTIONS[line.function](total);
    return {
      name: line.name, section: line.section, formula: written(line, nameOf),
      numbers: written(line, (f) => numberOf(f, values)), value: values[line.name],
    };
  });
};

scenes.ledger = ({ at, what, by }, data) => {
  const before = evaluate(data.lines, data.given);
  const entries = evaluate(data.lines, { ...data.given, [what]: data.given[what] + by });
  const find = (list, name) => list.find((e) => e.name === name);
  const [was, is] = [find(before, "L").value, find(entries, "L").value];
  // An input has no line of its own: its gradient is the sum of what its step's gates send.
  const own = find(before, "d" + what);
  const slope = own ? own.value : data.lines.filter((l) => l.section.startsWith("forward"))
    .flatMap((l) => l.terms.filter(([, f]) => f.includes(what)).map(([, f]) => {
      const weight = f.find((name) => name !== what);
      return data.given[weight] * find(before, "d" + l.name).value;
    })).reduce((a, b) => a + b, 0);
  const rows = [];
  let section = "";
  entries.forEach((e, i) => {
    if (e.section !== section) rows.push({ name: "section", cells: [(section = e.section)] });
    rows.push({ name: i + 1 === at ? "now" : i + 1 > at ? "later" : "",
      cells: [e.name, e.formula, e.numbers, digits(e.value)] });
  });
  const now = entries[at - 1];
  return {
    text: {
      says: `Line ${at} of ${entries.length}, ${now.section}: ${now.name} = ${now.formula} = ${now.numbers} = `
        + digits(now.value),
      loss: is, slope, predicted: slope * by, real: is - was,
    },
    lines: {}, shapes: {}, letters: {}, rows: { lines: rows }, entries,
  };
};
