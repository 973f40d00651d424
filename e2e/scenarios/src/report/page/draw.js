// Small tools to make elements and scales.

/** Makes an HTML element; children are elements or texts, never markup. */
const element = (name, attributes = {}, ...children) => {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

/** Makes an SVG element. */
const shape = (name, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const round = (number) => Math.round(number * 100) / 100;

/** A step of 1, 2 or 5 times a power of ten that divides `extent` into about `parts`. */
const niceStep = (extent, parts) => {
  const rough = extent / parts;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
};

/** Ticks from 0 that reach over `highest`. */
const ticksOver = (highest, parts) => {
  const step = niceStep(Math.max(highest, 1e-9), parts);
  return Array.from({ length: Math.ceil(highest / step - 1e-9) + 1 }, (_, index) => round(index * step));
};

/** Ticks of the time axis, in seconds. */
const timeTicks = (width) => {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  const step = steps.find((candidate) => duration / candidate <= width / 70) ?? 7200;
  return Array.from({ length: Math.floor(duration / step) + 1 }, (_, index) => index * step);
};

/** The frame of one plot: where it begins and ends, and the scale of time that all plots share. */
const frameOf = (width) => {
  const narrow = width < 720;
  const [left, right] = [narrow ? 46 : 206, width - (narrow ? 12 : 24)];
  const x = (seconds) => left + (Math.min(Math.max(seconds, 0), duration) / duration) * (right - left);
  return { width, narrow, left, right, x, seconds: (at) => ((at - left) / (right - left)) * duration };
};

const canvas = (frame, height, label) =>
  shape("svg", { viewBox: `0 0 ${frame.width} ${height}`, role: "img", "aria-label": label });

const text = (x, y, content, attributes = {}) => shape("text", { x: round(x), y: round(y), ...attributes }, content);

const line = (x1, y1, x2, y2, name) =>
  shape("line", { x1: round(x1), y1: round(y1), x2: round(x2), y2: round(y2), class: name });

/** Cuts a text to a width in pixels, by the usual width of a letter. */
const cut = (content, width, letter = 6.6) => {
  const letters = Math.floor(width / letter);
  return content.length <= letters ? content : letters < 2 ? "" : `${content.slice(0, letters - 1)}…`;
};

/** Grid, ticks and moments behind a plot between `top` and `bottom`. */
const backdrop = (svg, frame, top, bottom, ticks, y) => {
  for (const tick of ticks) {
    svg.append(line(frame.left, y(tick), frame.right, y(tick), tick === 0 ? "axis" : "grid"));
    svg.append(text(frame.left - 7, y(tick) + 4, count(tick), { class: "tick", "text-anchor": "end" }));
  }
  for (const moment of moments) svg.append(line(frame.x(moment.at), top, frame.x(moment.at), bottom, "moment"));
};

/** The line that follows the pointer. */
const cursor = (svg, top, bottom) => svg.append(shape("line", { class: "cursor", y1: top, y2: bottom, x1: 0, x2: 0 }));

/** Areas on top of each other, one for each cloud. The value of a second stands in its middle. */
const stack = (svg, frame, series, y) => {
  const base = new Array(wholeSeconds).fill(0);
  const at = (second) => frame.x(second + 0.5);
  const seams = [];
  for (const { cloud, values } of series) {
    const top = base.map((value, second) => value + values[second]);
    const up = top.map((value, second) => `${round(at(second))},${round(y(value))}`);
    const down = base.map((value, second) => `${round(at(second))},${round(y(value))}`).reverse();
    svg.append(shape("path", { d: `M${up.join("L")}L${down.join("L")}Z`, fill: cloudColor(cloud) }));
    seams.push(up);
    top.forEach((value, second) => { base[second] = value; });
  }
  for (const seam of seams.slice(0, -1)) svg.append(shape("path", { d: `M${seam.join("L")}`, class: "seam" }));
};
