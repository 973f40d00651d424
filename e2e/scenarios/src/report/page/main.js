// Puts everything in its place and follows the pointer.

const timeline = document.getElementById("timeline");
const readout = document.getElementById("readout");
let frame = null;
let pointed = null;

/** On paper the plots are drawn for this width, and then shrunk with everything in them. */
const PAPER = 1132;

/** Colours in words, where the plots have no room for them. */
const legends = (names, color) => element("div", { class: "legend" }, ...names.map((name) =>
  element("span", {}, element("span", { class: "swatch", style: `background: ${color(name)}` }), name)));

const drawTimeline = (wide = timeline.clientWidth) => {
  frame = frameOf(Math.max(320, wide));
  const divider = () => element("div", { class: "break" });
  const charts = [requestsChart(frame), failuresChart(frame), slowestChart(frame), divider()];
  if (moves.length > 0) charts.push(movesChart(frame), divider());
  report.applications.forEach((application, index) =>
    charts.push(applicationChart(frame, application, index === report.applications.length - 1)));
  if (frame.narrow) {
    charts.splice(1, 0, legends(usedClouds, cloudColor));
    if (moves.length > 0) charts.splice(6, 0, legends(stepNames, stepColor));
  }
  timeline.replaceChildren(...charts);
};

/** What was going on in one second. */
const describe = (second) => {
  const row = (name, value) => element("div", { class: "line" }, element("span", {}, ...[name].flat()), element("span", {}, value));
  const seconds = Math.min(second, allSeconds - 1);
  const lines = everything.clouds.filter(({ values }) => values[seconds] > 0).reverse()
    .map(({ cloud, values }) => row([swatch(cloud), cloud], `${count(values[seconds])}/s`));
  const failed = everything.failed[seconds] ?? 0;
  lines.push(row("failed", element("span", { class: failed > 0 ? "bad" : "good" }, count(failed))));
  lines.push(row("slowest answer", span(everything.slowest[seconds] ?? 0)));
  const active = moves.flatMap((move) => move.steps
    .filter((step) => step.from_at < second + 1 && step.to_at > second)
    .map((step) => row(move.application, step.name)));
  const steps = active.length > 0 ? [element("div", { class: "steps" }, ...active)] : [];
  const when = `${clock(second)} · ${utc(start + second * 1000).slice(11)}`;
  return [element("div", { class: "when" }, when), ...lines, ...steps];
};

const point = (second, x, y) => {
  pointed = second;
  for (const mark of timeline.querySelectorAll(".cursor")) {
    mark.setAttribute("x1", frame.x(second + 0.5));
    mark.setAttribute("x2", frame.x(second + 0.5));
    mark.style.opacity = 0.6;
  }
  readout.replaceChildren(...describe(second));
  readout.hidden = false;
  const box = readout.getBoundingClientRect();
  readout.style.left = `${x + 18 + box.width > innerWidth ? x - 18 - box.width : x + 18}px`;
  readout.style.top = `${Math.max(8, Math.min(y + 12, innerHeight - box.height - 8))}px`;
};

const leave = () => {
  pointed = null;
  readout.hidden = true;
  for (const mark of timeline.querySelectorAll(".cursor")) mark.style.opacity = 0;
};

timeline.addEventListener("pointermove", (event) => {
  const box = timeline.getBoundingClientRect();
  const second = Math.floor(frame.seconds(((event.clientX - box.left) / box.width) * frame.width));
  if (second < 0 || second >= duration) leave();
  else point(second, event.clientX, event.clientY);
});
timeline.addEventListener("pointerleave", leave);
timeline.addEventListener("blur", leave);
timeline.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (event.key === "Escape") leave();
  if (!by) return;
  event.preventDefault();
  const second = Math.min(Math.max((pointed ?? -1) + by, 0), wholeSeconds - 1);
  const box = timeline.getBoundingClientRect();
  point(second, box.left + (frame.x(second) / frame.width) * box.width, Math.max(box.top, 0) + 40);
});

document.getElementById("timeline-caption").textContent =
  `From ${utc(start)} on, ${span(duration * 1000)}. All plots share one axis of time; point at it to read a second.` +
  (moves.length > 0 ? " Below, each application by itself, with the time in which its requests went over in orange." : "");
document.getElementById("moments").append(...moments.map((moment, index) =>
  element("li", {}, element("b", {}, String(index + 1)), moment.label, element("span", {}, ` at ${clock(moment.at)}`))));
fillHeader();
fillTiles();
fillFailovers();
fillMoves();
fillPlacements();
fillApplications();
fillStreams();
fillFailures();
fillFooter();
drawTimeline();

let width = timeline.clientWidth;
new ResizeObserver(() => {
  if (timeline.clientWidth === width || matchMedia("print").matches) return;
  width = timeline.clientWidth;
  drawTimeline();
}).observe(timeline);
addEventListener("beforeprint", () => {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  drawTimeline(PAPER);
});
addEventListener("afterprint", () => drawTimeline());
