// Header, numbers and tables.

const section = (id, title, caption, ...content) => {
  const place = document.getElementById(id);
  if (title) place.append(element("h2", {}, title));
  if (caption) place.append(element("p", { class: "caption" }, caption));
  place.append(...content);
};

/** A table; a column is [heading, class of its cells]. A cell is a text, an element or a list of them. */
const table = (columns, rows) => {
  const head = element("tr", {}, ...columns.map(([heading, name]) => element("th", { class: name ?? "", scope: "col" }, heading)));
  const body = rows.map((cells) => element("tr", {}, ...cells.map((cell, index) =>
    element("td", { class: columns[index][1] ?? "" }, ...[cell].flat()))));
  return element("table", {}, element("thead", {}, head), element("tbody", {}, ...body));
};
const framed = (content) => element("div", { class: "scroll" }, content);
const swatch = (cloud) => element("span", { class: "swatch", style: `background: ${cloudColor(cloud)}` });
const cloudName = (cloud) => element("span", { class: "word" }, swatch(cloud), cloud);
const under = (words) => element("span", { class: "under" }, words);
const failedCell = (number) => element("span", { class: number > 0 ? "bad" : "good" }, count(number));

const fillHeader = () => {
  const place = document.getElementById("header");
  place.append(element("p", { class: "kicker" }, report.title));
  const explained = report.failed - report.unexplained;
  const failed = element("span", { class: report.unexplained === 0 ? "good" : "bad" },
    explained > 0 ? `${count(report.unexplained)} failed` : report.failed === 0 ? "none failed" : `${count(report.failed)} failed`);
  const headline = element("h1", {}, `${plural(report.requests, "request")}, `, failed);
  const done = moves.filter((move) => move.outcome === "Completed");
  if (moves.length > 0) {
    headline.append(`, while ${plural(new Set(done.map((move) => move.application)).size, "application")} changed clouds`);
  }
  if (report.failovers.length > 0) headline.append(`; ${count(explained)} more failed while a cluster was lost`);
  place.append(headline);
  if (report.problems.length > 0) {
    place.append(element("ul", { class: "problems" }, ...report.problems.map((problem) => element("li", {}, problem))));
  }
};

const fillTiles = () => {
  const tile = (name, value, note, tone = "") => document.getElementById("tiles").append(element("div", { class: "tile" },
    element("div", { class: "name" }, name), element("div", { class: `value ${tone}` }, value), element("div", { class: "note" }, note)));
  const tone = (bad) => (bad ? "bad" : "good");
  tile("Requests", count(report.requests), `${count(report.requests / duration)} per second for ${span(duration * 1000)}`);
  if (report.failovers.length === 0) {
    tile("Failed", count(report.failed), `${plural(report.applications.length, "application")}, each answer checked`, tone(report.failed > 0));
  } else {
    tile("Failed", count(report.unexplained), "outside of failover windows, each answer checked", tone(report.unexplained > 0));
    tile("Longest failover", span(Math.max(...report.failovers.map((failover) => failover.window_ms))),
      `from the loss to the last failed request; ${span(Math.min(...report.failovers.map((failover) => failover.limit_ms)))} allowed`);
  }
  if (moves.length > 0) {
    const completed = moves.filter((move) => move.outcome === "Completed").length;
    tile("Moves completed", completed === moves.length ? count(completed) : `${completed} of ${moves.length}`,
      `longest ${span(Math.max(...moves.map((move) => (move.to_at - move.from_at) * 1000)))}`);
    const down = moves.filter((move) => move.type !== "Failover").reduce((total, move) => total + move.downtime_ms, 0);
    tile("Without an endpoint", span(down), "sum over planned moves, at the edge", tone(down > 0));
  }
  tile("Latency, p99", span(report.latency.p99_ms), `median ${span(report.latency.p50_ms)}, slowest ${span(report.latency.max_ms)}`);
  for (const streams of report.streams) {
    const bad = streams.broken_ends + streams.refused;
    tile("Streams cut", count(bad), `${streams.count} streams of ${streams.name}, longest gap ${span(streams.longest_gap_ms)}`, tone(bad > 0));
  }
};

/** Puts a row of full width under each row of a table. */
const addUnder = (drawn, contents) => {
  const rows = [...drawn.querySelectorAll("tbody > tr")];
  contents.forEach((content, index) => rows[index].after(element("tr", { class: "more" },
    element("td", { colspan: rows[index].childElementCount }, content))));
  return drawn;
};

const verdicts = (step) => (step.verdicts.length === 0 ? "–" : step.verdicts.map((verdict) => element("div", {},
  element("span", { class: verdict.passed ? "good" : "bad" }, verdict.passed ? "✓ " : "✗ "),
  `${verdict.gate}: ${verdict.reason}`, verdict.message ? under(verdict.message) : null)));

const fillMoves = () => {
  if (moves.length === 0) return;
  const steps = (move) => element("details", {}, element("summary", {}, plural(move.steps.length, "step")),
    table([["Step"], ["At", "number"], ["Took", "number"], ["Gates"]], move.steps.map((step) => [
      step.name, clock(step.from_at), step.end ? span((step.to_at - step.from_at) * 1000) : "under way", verdicts(step)])));
  const rows = moves.map((move) => [
    [move.application, under(move.namespace)],
    [cloudName(move.from), " → ", cloudName(move.to)],
    [`${move.type}, ${move.trigger}`, under(move.reason)],
    clock(move.from_at),
    move.end ? span((move.to_at - move.from_at) * 1000) : "–",
    element("span", { class: move.downtime_ms === 0 ? "good" : move.type === "Failover" ? "" : "bad" }, span(move.downtime_ms)),
    element("span", { class: move.outcome === "Completed" ? "good" : "bad" }, move.outcome ?? "under way"),
  ]);
  const times = moves.flatMap((move) => move.steps.flatMap((step) => [step.start, step.end ?? step.start]));
  const coarse = times.every((time) => Date.parse(time) % 1000 === 0) ? " Steps are recorded in whole seconds." : "";
  section("moves", "Moves", `Each move with its reason, its steps and what their gates said.${coarse}`, framed(addUnder(table([
    ["Application", "word"], ["Route", "word"], ["Why"], ["At", "number"], ["Took", "number"], ["No endpoint", "number"], ["Outcome"],
  ], rows), moves.map(steps))));
};

const fillFailovers = () => {
  if (report.failovers.length === 0) return;
  const rows = report.failovers.map((failover) => [
    failover.application,
    [cloudName(failover.from), " → ", cloudName(failover.to)],
    clock(since(failover.lost)),
    span(failover.detected_ms),
    element("span", { class: failover.window_ms > failover.limit_ms ? "bad" : "good" }, span(failover.window_ms)),
    span(failover.limit_ms),
    failover.recovery_ms === null ? "–" : span(failover.recovery_ms),
    count(failover.failed),
  ]);
  section("failovers", "Failovers", "The window counts from the loss until the last request was due that failed; Flambeau measures from the " +
    "last sign of life of the lost cluster until the target served.", framed(table([["Application", "word"], ["Route", "word"],
    ["Lost at", "number"], ["Detected after", "number"], ["Window", "number"], ["Allowed", "number"], ["Measured by Flambeau", "number"],
    ["Failed requests", "number"]], rows)));
};

const fillPlacements = () => {
  if (report.placements.length === 0) return;
  const place = (cluster) => (cluster ? cloudName(cluster) : "nowhere");
  const rows = report.placements.map((placement) => [
    [placement.application, under(placement.namespace)], placement.sensitivity, placement.criticality,
    place(placement.before),
    [place(placement.cluster), placement.before === placement.cluster ? under("stayed") : null],
    element("span", { class: placement.lawful ? "good" : "bad" }, placement.lawful ? "lawful" : "unlawful"),
    placement.explanation ?? "",
  ]);
  section("placements", "Where everything runs now", null, framed(table([
    ["Application", "word"], ["Sensitivity"], ["Criticality"], ["Before", "word"], ["Now", "word"], ["Law"], ["Because"]], rows)));
};

const fillApplications = () => {
  const share = (application) => {
    const total = Math.max(1, application.ok);
    const bar = element("div", { class: "share" }, ...application.clouds.map((cloud) => element("span", {
      style: `background: ${cloudColor(cloud.cloud)}; flex: ${cloud.answered / total} 0 2px` })));
    return [bar, under(application.clouds.map((cloud) => `${cloud.cloud} ${count(cloud.answered)}`).join(", then "))];
  };
  const rows = report.applications.map((application) => [
    [application.name, under(application.host)], count(application.rate), count(application.sent), failedCell(application.failed),
    span(application.latency.p50_ms), span(application.latency.p90_ms), span(application.latency.p99_ms), span(application.latency.max_ms),
    share(application)]);
  const { latency } = report;
  rows.push(["All", count(report.applications.reduce((total, application) => total + application.rate, 0)),
    count(report.requests), failedCell(report.failed), span(latency.p50_ms), span(latency.p90_ms), span(latency.p99_ms), span(latency.max_ms), ""]);
  const drawn = table([["Application", "word"], ["Per second", "number"], ["Requests", "number"], ["Failed", "number"],
    ["p50", "number"], ["p90", "number"], ["p99", "number"], ["Slowest", "number"], ["Answered by"]], rows);
  drawn.querySelectorAll("tbody tr:last-child > td").forEach((cell) => cell.classList.add("total"));
  section("applications", "Requests", "Latency counts from when a request was due, of requests that did not fail.", framed(drawn));
};

const fillStreams = () => {
  for (const streams of report.streams) {
    const ways = new Map();
    for (const { from, to, clean, gap_ms: gap } of streams.reconnects) {
      const key = JSON.stringify([from, to, clean]);
      const way = ways.get(key) ?? { from, to, clean, times: 0, gap: 0 };
      ways.set(key, { ...way, times: way.times + 1, gap: Math.max(way.gap, gap) });
    }
    const caption = `${plural(streams.count, "client")} listened to events that come once a second: ${plural(streams.events, "event")}, ` +
      `${plural(streams.clean_ends, "stream")} ended with a goodbye, ${count(streams.broken_ends)} cut, ${count(streams.refused)} refused. ` +
      `No client was without an event for longer than ${span(streams.longest_gap_ms)}.`;
    const rows = [...ways.values()].map((way) => [[cloudName(way.from), " → ", cloudName(way.to)], count(way.times),
      element("span", { class: way.clean ? "good" : "bad" }, way.clean ? "said goodbye" : "was cut"), span(way.gap)]);
    section("streams", `Event streams of ${streams.name}`, caption, ...(rows.length === 0 ? [] : [framed(table([
      ["Came back", "word"], ["Times", "number"], ["The stream before"], ["Longest without an event", "number"]], rows))]));
  }
};

const fillFailures = () => {
  const words = (cause) => cause.replaceAll("-", " ");
  const requests = report.applications.flatMap((application) => application.examples.map((failure) => [
    since(failure.time), application.name, failure.path, words(failure.cause), failure.detail, span(failure.after_ms)]));
  const streams = report.streams.flatMap((one) => one.examples.map((failure) => [
    since(failure.time), one.name, `stream ${failure.stream}`, "stream", failure.detail, ""]));
  const rows = [...requests, ...streams].sort((one, other) => one[0] - other[0]).map(([at, ...rest]) => [clock(at), ...rest]);
  if (rows.length === 0) return;
  section("failures", "Failures", "The first 20 of each application.", framed(table([
    ["At", "number"], ["Application", "word"], ["Path", "word"], ["Cause", "word"], ["What happened"], ["After", "number"]], rows)));
};

const fillFooter = () => {
  const { cpu_share: share, lateness } = report.generator;
  document.getElementById("footer").append(
    element("p", {}, "A request counts as failed when no connection can be made, the connection breaks, the whole answer is not there " +
      "within the timeout, the status is not 200, or the answer comes from another application or an unknown cloud. Nothing is sent twice. " +
      "Requests leave when they are due, whatever became of those before; plots count a request in the second in which it was due."),
    element("p", {}, `The load generator took ${(share * 100).toFixed(1)} % of a core; 99 % of the requests left within ` +
      `${span(lateness.p99_ms)} of when they were due, the latest after ${span(lateness.max_ms)}.`));
};
