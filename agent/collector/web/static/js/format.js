// Numbers and times as people read them. Times are unix seconds, by the collector's clock.

let ahead = 0;

/** The collector's clock may differ from this machine's: its answers say what time it has. */
export function learnTime(dateHeader) {
  const theirs = Date.parse(dateHeader ?? "");
  if (Number.isFinite(theirs)) {
    const difference = (theirs + 500 - Date.now()) / 1000;
    ahead = Math.abs(difference) < 2 ? 0 : difference;
  }
}

export function now() {
  return Date.now() / 1000 + ahead;
}

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const THOUSANDS = ["", "k", "M", "G", "T"];

/** 3 significant digits, never in powers of ten where a person would not. */
export function number(value) {
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

function scaled(value, base, names, separator) {
  let step = 0;
  while (Math.abs(value) >= base && step < names.length - 1) {
    value /= base;
    step += 1;
  }
  return `${number(value)}${separator}${names[step]}`;
}

/** The unit of what a chart draws: of a counter its growth per second. */
export function drawnUnit(unit, kind) {
  if (kind !== "counter") return unit;
  return unit ? `${unit}/s` : "1/s";
}

export function quantity(value, unit) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const [base, per] = String(unit ?? "").split(/(?=\/)/, 2);
  if (base === "percent") return `${number(value)} %${per ?? ""}`;
  if (base === "bytes") return scaled(value, 1024, BYTES, " ") + (per ?? "");
  if (unit === "seconds") return span(value);
  if (unit === "celsius") return `${number(value)} °C`;
  if (unit === "1/s") return `${scaled(value, 1000, THOUSANDS, " ").trim()}/s`;
  const text = Math.abs(value) < 10000 ? number(value) : scaled(value, 1000, THOUSANDS, " ").trim();
  return unit ? `${text} ${unit}` : text;
}

/** A length of time: "240 µs", "3.1 ms", "2.5 s", "4 min 10 s", "3 h 5 min", "12 d 4 h". */
export function span(seconds) {
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 0.001) return `${number(seconds * 1e6)} µs`;
  if (size < 1) return `${number(seconds * 1000)} ms`;
  if (size < 60) return `${number(seconds)} s`;
  const sign = seconds < 0 ? "−" : "";
  const pairs = [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]];
  const [large, one, small, other] = pairs.find(([least]) => size >= least);
  const whole = Math.floor(size / large);
  const rest = Math.floor((size - whole * large) / small);
  return `${sign}${whole} ${one}${rest && whole < 100 ? ` ${rest} ${other}` : ""}`;
}

export function ago(time) {
  const age = Math.max(0, now() - time);
  if (age < 2) return "just now";
  if (age < 60) return `${Math.floor(age)} s ago`;
  if (age < 3600) return `${Math.floor(age / 60)} min ago`;
  if (age < 86400) return `${Math.floor(age / 3600)} h ago`;
  return `${Math.floor(age / 86400)} d ago`;
}

const two = (value) => String(value).padStart(2, "0");

export function clock(time) {
  const date = new Date(time * 1000);
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function moment(time) {
  const date = new Date(time * 1000);
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(time)}`;
}

/** "mount=/ device=sda" */
export function labelled(labels) {
  return Object.entries(labels ?? {}).map(([name, value]) => `${name}=${value}`).join(" ");
}
