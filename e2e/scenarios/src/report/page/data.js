// The report, and the series that the plots need.

const report = JSON.parse(document.getElementById("report").textContent);
const start = Date.parse(report.started);
const duration = Math.max(1, (Date.parse(report.ended) - start) / 1000);

/** Seconds since the start of the load. */
const since = (time) => (Date.parse(time) - start) / 1000;

/** The last second may be incomplete: the plot of rates leaves it out, the plot of failures does not. */
const allSeconds = Math.max(0, ...report.applications.map((application) => application.seconds.failed.length));
const wholeSeconds = Math.max(1, Math.min(allSeconds, Math.floor(duration)));

const usedClouds = report.clouds.filter((cloud) =>
  report.applications.some((application) => application.seconds.answered[cloud]));
const cloudColor = (cloud) => {
  const index = report.clouds.indexOf(cloud);
  return index < 0 ? "var(--faint)" : `var(--cloud-${index % 6})`;
};

const stepColors = {
  Preflight: ["--step-preflight", "--on-light"], Prepare: ["--step-prepare", "--on-light"],
  Ready: ["--step-ready", "--on-light"], Sync: ["--step-sync", "--on-light"],
  Shift: ["--step-shift", "--on-light"], Soak: ["--step-soak", "--on-light"],
  Drain: ["--step-drain", "--on-dark"], Retire: ["--step-retire", "--on-retire"],
  Abort: ["--bad", "--on-dark"],
};
const stepColor = (name) => `var(${(stepColors[name] ?? ["--faint"])[0]})`;
const stepInk = (name) => `var(${(stepColors[name] ?? ["", "--on-light"])[1]})`;

/** Adds up series of the same length, or shorter ones. */
const sum = (series) => Array.from({ length: allSeconds }, (_, second) =>
  series.reduce((total, one) => total + (one?.[second] ?? 0), 0));

/** What one plot of rates shows: answers by cloud and failures, of some applications. */
const rates = (applications) => ({
  clouds: usedClouds.map((cloud) => ({
    cloud,
    values: sum(applications.map((application) => application.seconds.answered[cloud])),
  })),
  failed: sum(applications.map((application) => application.seconds.failed)),
  slowest: Array.from({ length: allSeconds }, (_, second) =>
    Math.max(0, ...applications.map((application) => application.seconds.slowest_ms[second] ?? 0))),
});

const moments = report.moments.map((moment) => ({ at: since(moment.time), label: moment.label }))
  .sort((one, other) => one.at - other.at);

const moves = report.migrations.map((migration) => ({
  ...migration,
  from_at: since(migration.start),
  to_at: migration.end ? since(migration.end) : duration,
  steps: migration.steps.filter((step) => step.name !== "Done").map((step) => ({
    ...step,
    from_at: since(step.start),
    to_at: step.end ? since(step.end) : duration,
  })),
}));
const stepNames = Object.keys(stepColors).filter((name) =>
  moves.some((move) => move.steps.some((step) => step.name === name)));
const movesOf = (name) => moves.filter((move) => move.application === name);

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = (number) => whole.format(number);
const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

/** Milliseconds in units that a person reads. */
const span = (milliseconds) => {
  if (milliseconds === 0) return "0 ms";
  if (milliseconds < 1) return `${milliseconds.toFixed(2)} ms`;
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 59950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  return `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
};

/** A time of the story as minutes and seconds since its start. */
const clock = (seconds) => {
  const rounded = Math.round(seconds);
  const [minutes, rest] = [Math.floor(rounded / 60), String(rounded % 60).padStart(2, "0")];
  return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
};
const utc = (time) => `${new Date(time).toISOString().slice(0, 19).replace("T", " ")} UTC`;
