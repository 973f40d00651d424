// The plots over time, all on the same axis, from top to bottom.

const everything = rates(report.applications);

/** A plot's name, left of it or, where there is no room, above it. Returns how much room it took above. */
const heading = (svg, frame, title, ...under) => {
  if (frame.narrow) {
    svg.append(text(frame.left, 14, [title, under.join(" ")].filter(Boolean).join(" · "), { class: "title" }));
    return 22;
  }
  svg.append(text(16, 24, title, { class: "title" }));
  under.forEach((words, index) => svg.append(text(16, 41 + index * 16, words)));
  return 12;
};

const timeAxis = (svg, frame, y) => {
  for (const tick of timeTicks(frame.right - frame.left)) {
    svg.append(line(frame.x(tick), y - 4, frame.x(tick), y, "axis"));
    svg.append(text(frame.x(tick), y + 12, clock(tick), { class: "tick", "text-anchor": "middle" }));
  }
};

const requestsChart = (frame) => {
  const flags = moments.length > 0 ? 20 : 0;
  const svg = canvas(frame, 296 + flags, "Requests per second by the cloud that answered");
  const top = heading(svg, frame, "Right answers", "requests per second,", "by cloud") + flags;
  const bottom = 262 + flags;
  const totals = everything.clouds.reduce((total, { values }) => total.map((value, second) => value + values[second]),
    new Array(allSeconds).fill(0));
  const ticks = ticksOver(Math.max(1, ...totals), 4);
  const y = (value) => bottom - (value / ticks.at(-1)) * (bottom - top);
  backdrop(svg, frame, top, bottom, ticks, y);
  stack(svg, frame, everything.clouds, y);
  for (const moment of moments) svg.append(line(frame.x(moment.at), top - 6, frame.x(moment.at), bottom, "moment"));
  moments.forEach((moment, index) => {
    svg.append(shape("circle", { class: "flag", cx: round(frame.x(moment.at)), cy: top - 13, r: 8 },
      shape("title", {}, moment.label)));
    svg.append(text(frame.x(moment.at), top - 9.3, String(index + 1), { class: "flag-text" }));
  });
  if (!frame.narrow) {
    everything.clouds.slice().reverse().forEach(({ cloud }, index) => {
      const at = 98 + index * 20;
      svg.append(shape("rect", { x: 16, y: at - 10, width: 11, height: 11, rx: 2, fill: cloudColor(cloud) }));
      svg.append(text(34, at, cut(cloud, 120), { class: "name" }));
    });
  }
  timeAxis(svg, frame, bottom + 5);
  svg.append(text(frame.right, bottom + 31, "minutes:seconds since the load began", { class: "small", "text-anchor": "end" }));
  cursor(svg, top, bottom);
  return svg;
};

const failuresChart = (frame) => {
  const svg = canvas(frame, frame.narrow ? 82 : 72, "Failed requests per second");
  const top = heading(svg, frame, "Failed requests", "per second");
  const bottom = top + 50;
  const highest = Math.max(0, ...everything.failed);
  const ticks = highest > 0 ? [0, ticksOver(highest, 1).at(-1)] : [0];
  const y = (value) => bottom - (highest > 0 ? value / ticks.at(-1) : 0) * (bottom - top);
  backdrop(svg, frame, top, bottom, ticks, y);
  const wide = Math.max(1.5, frame.x(1) - frame.x(0) - 0.5);
  everything.failed.forEach((value, second) => {
    if (value === 0) return;
    svg.append(shape("rect", { class: "failed", x: round(frame.x(second)), y: round(y(value)), width: round(wide),
      height: round(Math.max(2, bottom - y(value))) }));
  });
  if (highest === 0) {
    svg.append(text((frame.left + frame.right) / 2, bottom - 18, `none of ${count(report.requests)}`,
      { class: "none", "text-anchor": "middle" }));
  }
  cursor(svg, top, bottom);
  return svg;
};

const slowestChart = (frame) => {
  const svg = canvas(frame, frame.narrow ? 94 : 84, "Slowest right answer of each second");
  const top = heading(svg, frame, "Slowest answer", "of each second, in ms");
  const bottom = top + 60;
  const ticks = ticksOver(Math.max(1, ...everything.slowest), 2);
  const y = (value) => bottom - (value / ticks.at(-1)) * (bottom - top);
  backdrop(svg, frame, top, bottom, ticks, y);
  const points = everything.slowest.slice(0, wholeSeconds)
    .map((value, second) => `${round(frame.x(second + 0.5))},${round(y(value))}`);
  svg.append(shape("path", { class: "slowest", d: `M${points.join("L")}` }));
  cursor(svg, top, bottom);
  return svg;
};

const stepBar = (frame, step, y, height) => {
  const [from, to] = [frame.x(step.from_at), frame.x(step.to_at)];
  const wide = Math.max(1.5, to - from);
  const words = `${step.name}, ${span((step.to_at - step.from_at) * 1000)}`;
  const bar = shape("g", {}, shape("title", {}, words));
  bar.append(shape("rect", { x: round(from), y, width: round(Math.max(1.5, wide - 0.75)), height, rx: 2,
    fill: stepColor(step.name) }));
  if (wide > step.name.length * 6.4 + 8) {
    bar.append(text(from + wide / 2, y + height / 2 + 4, step.name,
      { "text-anchor": "middle", style: `fill: ${stepInk(step.name)}; font-size: 11px` }));
  }
  if (step.verdicts.some((verdict) => !verdict.passed)) {
    bar.append(shape("circle", { class: "failed", cx: round(from + wide / 2), cy: y - 1, r: 3 }));
  }
  return bar;
};

const movesChart = (frame) => {
  const row = frame.narrow ? 46 : 40;
  const begin = frame.narrow ? 24 : 34;
  const bottom = begin + moves.length * row;
  const svg = canvas(frame, bottom + 24, "Steps of each move");
  if (frame.narrow) svg.append(text(frame.left, 14, "Moves, step by step", { class: "title" }));
  else {
    svg.append(text(16, 24, "Moves, step by step", { class: "title" }));
    legend(svg, frame, 24);
  }
  backdrop(svg, frame, begin, bottom, [], () => 0);
  moves.forEach((move, index) => {
    const y = begin + index * row + (frame.narrow ? 18 : 8);
    svg.append(line(frame.narrow ? frame.left : 16, begin + index * row, frame.right, begin + index * row, "grid"));
    const route = `${move.from} → ${move.to}${move.type === "Relocate" ? "" : `, ${move.type.toLowerCase()}`}`;
    if (frame.narrow) svg.append(text(frame.left, y - 5, `${move.application}: ${route}`, { class: "small" }));
    else {
      svg.append(text(16, y + 9, cut(move.application, 180, 7.2), { class: "name" }));
      svg.append(text(16, y + 24, cut(route, 180)));
    }
    for (const step of move.steps) svg.append(stepBar(frame, step, y, 22));
    const words = `${span((move.to_at - move.from_at) * 1000)}${move.outcome === "Completed" ? "" : ` · ${move.outcome ?? "under way"}`}`;
    const after = frame.x(move.to_at) + 7;
    const fits = after + words.length * 6.6 < frame.right;
    svg.append(text(fits ? after : frame.x(move.from_at) - 7, y + 15, words, { "text-anchor": fits ? "start" : "end" }));
  });
  timeAxis(svg, frame, bottom + 5);
  cursor(svg, begin, bottom);
  return svg;
};

/** The steps that occurred, with their colours, right-aligned. */
const legend = (svg, frame, y) => {
  let at = frame.right;
  for (const name of stepNames.slice().reverse()) {
    at -= name.length * 6.9 + 28;
    svg.append(shape("rect", { x: at, y: y - 10, width: 11, height: 11, rx: 2, fill: stepColor(name) }));
    svg.append(text(at + 15, y, name));
  }
};

const applicationChart = (frame, application, last) => {
  const height = 58;
  const series = rates([application]);
  const svg = canvas(frame, height + (frame.narrow ? 30 : 22) + (last ? 18 : 0), `Requests per second of ${application.name}`);
  const placement = report.placements.find((candidate) => candidate.application === application.name);
  const classes = placement ? [`${placement.sensitivity}, ${placement.criticality}`] : [];
  const failures = application.failed > 0 ? [`${count(application.failed)} failed`] : [];
  const top = heading(svg, frame, cut(application.name, 150, 7.2), ...classes, ...failures);
  const bottom = top + height;
  const ticks = [0, application.rate];
  const highest = Math.max(application.rate * 1.15, ...series.clouds[0]?.values.map((_, second) =>
    series.clouds.reduce((total, { values }) => total + values[second], 0)) ?? [0]);
  const y = (value) => bottom - (value / highest) * (bottom - top);
  backdrop(svg, frame, top, bottom, ticks, y);
  stack(svg, frame, series.clouds, y);
  for (const move of movesOf(application.name)) {
    for (const step of move.steps.filter((candidate) => candidate.name === "Shift")) {
      svg.append(shape("rect", { class: "shift", x: round(frame.x(step.from_at)), y: top - 4,
        width: round(Math.max(1.5, frame.x(step.to_at) - frame.x(step.from_at))), height: bottom - top + 4 }));
    }
  }
  series.failed.forEach((value, second) => {
    if (value > 0) svg.append(shape("rect", { class: "failed", x: round(frame.x(second)), y: top - 4, height: 4,
      width: round(Math.max(1.5, frame.x(1) - frame.x(0))) }, shape("title", {}, `${count(value)} failed`)));
  });
  if (last) timeAxis(svg, frame, bottom + 5);
  cursor(svg, top, bottom);
  return svg;
};
