// The values of one chart: several series over one common time axis, as uPlot wants them.

export const seriesKey = (metric, labels) => `${metric} ${JSON.stringify(Object.entries(labels ?? {}).sort())}`;

export class SeriesTable {
  /** `step` in seconds: values fall into buckets of this length, each shown as its mean; 0 keeps every value. */
  constructor(step) {
    this.step = step;
    this.times = [];
    this.series = []; // {metric, unit, kind, labels, values}
    this.version = 0; // grows when a series is added
    this.byKey = new Map();
    this.counts = new Map(); // per series: how many values its newest bucket is the mean of
  }

  /** Takes rows of /api/v1/series, in place of what was there before. */
  load(rows) {
    const times = new Set(this.times);
    for (const row of rows) for (const [time] of row.points) times.add(time);
    const all = [...times].sort((a, b) => a - b);
    const place = new Map(all.map((time, index) => [time, index]));
    for (const one of this.series) one.values = spread(this.times, one.values, place, all.length);
    this.times = all;
    for (const row of rows) {
      const { values } = this.#series(row);
      for (const [time, value] of row.points) values[place.get(time)] = value;
    }
  }

  /** Adds one value that came live; the same one twice is harmless. */
  append(time, metric) {
    const at = this.step > 0 ? Math.floor(time / this.step) * this.step : Math.round(time * 1000) / 1000; // as stored
    const one = this.#series(metric);
    const index = this.#row(at);
    const before = one.values[index];
    if (before === null || this.step === 0) {
      one.values[index] = metric.value;
      this.counts.set(one, 1);
      one.newest = time;
      return;
    }
    if (one.newest >= time) return;
    const count = this.counts.get(one) ?? Math.max(1, Math.round((time - at) / 10));
    one.values[index] = before + (metric.value - before) / (count + 1);
    this.counts.set(one, count + 1);
    one.newest = time;
  }

  /** Forgets what is older than `time`. */
  trim(time) {
    let old = 0;
    while (old < this.times.length && this.times[old] < time) old += 1;
    if (old < 64) return; // in portions, so that it costs little
    this.times.splice(0, old);
    for (const one of this.series) one.values.splice(0, old);
  }

  /** Columns for uPlot; a counter is shown as its rate. */
  columns() {
    return [this.times, ...this.series.map((one) => (one.kind === "counter" ? rate(this.times, one.values) : one.values))];
  }

  #series({ metric, name, unit = "", kind = "gauge", labels = {} }) {
    const key = seriesKey(metric ?? name, labels);
    let one = this.byKey.get(key);
    if (!one) {
      one = { metric: metric ?? name, unit, kind, labels, values: new Array(this.times.length).fill(null), newest: 0 };
      this.byKey.set(key, one);
      this.series.push(one);
      this.version += 1;
    }
    return one;
  }

  #row(time) {
    let index = this.times.length;
    while (index > 0 && this.times[index - 1] > time) index -= 1; // late ones are few and near the end
    if (index > 0 && this.times[index - 1] === time) return index - 1;
    this.times.splice(index, 0, time);
    for (const one of this.series) one.values.splice(index, 0, null);
    return index;
  }
}

function spread(times, values, place, length) {
  const wide = new Array(length).fill(null);
  times.forEach((time, index) => { wide[place.get(time)] = values[index]; });
  return wide;
}

/** Growth per second between neighbours; where the counter started anew there is no value. */
function rate(times, values) {
  let before = -1;
  return values.map((value, index) => {
    if (value === null) return null;
    const from = before;
    before = index;
    if (from < 0 || value < values[from]) return null;
    return (value - values[from]) / (times[index] - times[from]);
  });
}

/** The pause after which a line is broken: three times what is usual between the values of this series. */
export function longestPause(times, values, step) {
  const gaps = [];
  let before = null;
  for (let index = times.length - 1; index >= 0 && gaps.length < 120; index -= 1) {
    if (values[index] === null || values[index] === undefined) continue;
    if (before !== null) gaps.push(before - times[index]);
    before = times[index];
  }
  gaps.sort((a, b) => a - b);
  return Math.max(3 * (gaps[gaps.length >> 1] ?? 0), 2.5 * step, 3);
}
