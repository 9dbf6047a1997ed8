// One host: everything it measures, live.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { el, say, schedule } from "./element.js";
import { clock, drawnUnit, moment, now, span } from "./format.js";
import { incidentRow } from "./incidents.js";
import { SeriesTable } from "./series.js";
import { empty, hostTone, pill, resince, since, statusTone } from "./words.js";

const RANGES = { "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400, "7d": 604800 };
const STEPS = [10, 60, 300, 900, 1800, 3600];
const SHORTEST = 60;
const AT_ONCE = 3; // questions to the collector
const UNITS = { percent: "percent", bytes: "bytes", "bytes/s": "bytes per second", seconds: "time", "1/s": "per second", "": "" };

/** Seconds per point for a window: every sample up to 20 minutes, else about 360 to 700 points. */
function stepFor(seconds) {
  if (seconds <= 1200) return 0;
  return STEPS.find((step) => seconds / step <= 700) ?? STEPS.at(-1);
}

export class HostPage {
  name = "fleet";
  #charts = new Map();
  #groups = new Map();
  #recent = []; // samples of the last minute, for what was asked before they came
  #zoom = null;
  #round = 0;
  #probes = new Map();
  #tables = 0;
  earliest = 0; // the first value in the range
  #draw = () => this.#render();

  constructor(app, host) {
    this.app = app;
    this.state = app.state;
    this.host = host;
    this.title = host;
    this.stream = { samples: host };
    this.range = new URLSearchParams(location.search).get("range") in RANGES ? new URLSearchParams(location.search).get("range") : "15m";
    this.#lay();
    this.watcher = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) isIntersecting ? target.chart.show() : target.chart.hide();
    }, { rootMargin: "200px" });
    this.timer = setInterval(() => this.#slide(), 5000);
  }

  #lay() {
    this.pill = pill("unknown", "unknown");
    this.seen = since(0, "last seen ");
    this.facts = el("dl", { class: "facts card" });
    this.incidents = el("div", { class: "rows" });
    this.probes = el("ul", { class: "probes", "aria-label": "Probes" });
    this.ranges = el("div", { class: "segments", role: "group", "aria-label": "Time range" },
      ...Object.keys(RANGES).map((range) => el("button", { type: "button", "data-range": range, "aria-pressed": String(range === this.range), text: range, onclick: () => this.#choose(range) })));
    this.window = el("span", { class: "muted small", role: "status" });
    this.live = el("button", { class: "button", type: "button", text: "Back to live", hidden: true, onclick: () => this.#zoomTo(null) });
    this.filter = el("input", { type: "search", id: "metric-filter", placeholder: "metric or label", autocomplete: "off", oninput: () => this.#filterCharts() });
    this.groups = el("div", {});
    this.note = el("div", {});
    this.element = el("div", {},
      el("p", { class: "crumb" }, el("a", { href: "/", text: "Fleet" })),
      el("div", { class: "page-head" }, el("h1", { text: this.host }), this.pill, el("span", { class: "muted" }, this.seen)),
      this.facts, this.incidents, this.probes,
      el("div", { class: "toolbar" }, this.ranges, this.live, this.window,
        el("label", { class: "field push", for: "metric-filter" }, "Filter", this.filter)),
      this.groups, this.note);
  }

  async refresh() {
    schedule(this.#draw);
    const found = await get(`hosts/${encodeURIComponent(this.host)}`);
    for (const probe of found.probes) this.#probe(probe);
    for (const sample of found.latest) this.#probe(sample);
    const names = found.latest.flatMap((sample) => sample.metrics.map((metric) => metric.name));
    this.prefixes = [...new Set(names.map((name) => name.split(".")[0]))].sort();
    schedule(this.#draw);
    await this.#load();
  }

  event(kind, data) {
    if (kind === "sample" && data.host === this.host) this.#sample(data);
    else if (kind !== "sample") schedule(this.#draw);
  }

  close() {
    clearInterval(this.timer);
    this.watcher.disconnect();
    for (const chart of this.#charts.values()) chart.destroy();
  }

  // -- values ------------------------------------------------------------------------------------

  #span() {
    const end = now();
    return this.#zoom ?? { start: end - RANGES[this.range], end };
  }

  /** What is shown of it: a young host's charts are not mostly empty. */
  #shown() {
    const { start, end } = this.#span();
    return this.#zoom ?? { start: Math.min(Math.max(start, this.earliest - 5), end - SHORTEST), end };
  }

  /** Asks for every group anew, a few at once; charts appear as the answers come. */
  async #load() {
    const round = (this.#round += 1);
    const { start, end } = this.#span();
    const step = stepFor(end - start);
    const waiting = this.prefixes.length ? this.prefixes.map((prefix) => `${prefix}.*`) : ["*"];
    const loaded = new Map();
    this.earliest = end;
    const work = async () => {
      for (let metric = waiting.shift(); metric !== undefined && round === this.#round; metric = waiting.shift()) {
        const { series } = await get("series", { host: this.host, metric, from: String(start), to: String(this.#zoom ? end : end + 60), step: String(step) });
        if (round === this.#round) this.#place(series, step, loaded);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    if (round !== this.#round) return;
    this.step = step;
    for (const [key, chart] of this.#charts) if (!loaded.has(key)) this.#drop(key, chart);
    if (!this.#zoom) for (const sample of this.#recent) if (step === 0 || sample.time > end) this.#append(sample); // else in a mean already
    this.#slide();
    this.#explain();
  }

  #place(rows, step, loaded) {
    for (const row of rows) {
      const { key } = placeOf(row);
      if (!loaded.has(key)) loaded.set(key, []);
      loaded.get(key).push(row);
      this.earliest = Math.min(this.earliest, row.points[0][0]);
    }
    for (const [key, all] of loaded) {
      if (all.placed === all.length) continue;
      all.placed = all.length;
      const chart = this.#chart(all[0]);
      chart.table = new SeriesTable(step);
      chart.table.load(all);
      chart.table.version += ++this.#tables * 1000; // never that of the table before
      this.#slide(chart);
    }
    this.#filterCharts();
  }


  #sample(data) {
    this.#probe(data);
    this.#recent.push(data);
    while (this.#recent.length && this.#recent[0].time < data.time - 60) this.#recent.shift();
    if (!this.#zoom && this.step !== undefined) {
      this.#append(data);
      this.#slide();
    }
    schedule(this.#draw);
  }

  #append(data) {
    for (const metric of data.metrics) this.#chart({ ...metric, metric: metric.name }).table.append(data.time, metric);
  }

  /** Moves the window on; of one chart, or of all. */
  #slide(one = null) {
    const { start, end } = this.#shown();
    for (const chart of one ? [one] : this.#charts.values()) {
      if (!this.#zoom) chart.table.trim(start - 60);
      chart.window(start, end);
    }
  }

  // -- charts ------------------------------------------------------------------------------------

  #chart(row) {
    const { key, title, prefix, unit } = placeOf(row);
    let chart = this.#charts.get(key);
    if (chart) return chart;
    chart = new Chart({ title, unit, prefix: Object.keys(row.labels ?? {}).length ? "" : prefix, table: new SeriesTable(this.step ?? 0), sync: "host",
      onZoom: (start, end) => this.#zoomTo({ start, end }), onReset: () => this.#zoomTo(null) });
    chart.element.chart = chart;
    this.#charts.set(key, chart);
    const group = this.#group(prefix.slice(0, -1));
    const after = [...group.children].find((other) => chartOrder(other.dataset.chart, title) > 0);
    group.insertBefore(chart.element, after ?? null);
    this.watcher.observe(chart.element);
    this.#explain();
    return chart;
  }

  #drop(key, chart) {
    this.watcher.unobserve(chart.element);
    chart.destroy();
    chart.element.remove();
    this.#charts.delete(key);
  }

  #group(name) {
    let group = this.#groups.get(name);
    if (!group) {
      group = el("div", { class: "charts" });
      const heading = `group-${name}`;
      const section = el("section", { class: "group", "data-group": name, "aria-labelledby": heading }, el("h2", { id: heading, text: name }), group);
      const after = [...this.groups.children].find((other) => order(other.dataset.group, name) > 0);
      this.groups.insertBefore(section, after ?? null);
      this.#groups.set(name, group);
    }
    return group;
  }

  #filterCharts() {
    const words = this.filter.value.trim().toLowerCase().split(/\s+/);
    for (const chart of this.#charts.values()) {
      const text = [chart.title, ...chart.table.series.map((line) => `${line.metric} ${Object.values(line.labels).join(" ")}`)].join(" ").toLowerCase();
      chart.element.hidden = !words.every((word) => text.includes(word));
    }
    for (const group of this.#groups.values()) group.parentElement.hidden = [...group.children].every((card) => card.hidden);
  }

  #choose(range) {
    this.range = range;
    for (const button of this.ranges.children) button.setAttribute("aria-pressed", String(button.dataset.range === range));
    history.replaceState(null, "", `${location.pathname}?range=${range}`);
    this.#zoomTo(null);
  }

  #zoomTo(zoom) {
    this.#zoom = zoom;
    this.live.hidden = zoom === null;
    const wide = zoom && zoom.end - zoom.start > 43200;
    say(this.window, zoom ? `${(wide ? moment : clock)(zoom.start)} – ${(wide ? moment : clock)(zoom.end)}` : "");
    this.#slide();
    this.app.attempt(() => this.#load());
  }

  // -- the host itself ---------------------------------------------------------------------------

  #probe({ probe, time, status, duration, error }) {
    const before = this.#probes.get(probe);
    if (before && before.time > time) return;
    this.#probes.set(probe, { probe, time, status, duration: duration ?? before?.duration, error });
  }

  #render() {
    const host = this.state.hosts.get(this.host);
    if (host) {
      say(this.pill, host.state);
      this.pill.dataset.tone = hostTone(host.state);
      resince(this.seen, host.last_seen ?? 0);
      this.#renderFacts(host);
    }
    this.#renderIncidents();
    this.#renderProbes();
  }

  #renderFacts(host) {
    const text = JSON.stringify([host.health, host.labels, host.version]);
    if (this.facts.dataset.text === text) return;
    this.facts.dataset.text = text;
    const { health } = host;
    const parts = Object.entries(health?.components ?? {}).filter(([, component]) => component.score !== null && component.score !== undefined);
    this.facts.replaceChildren(
      fact("Health", health?.score === null || health?.score === undefined ? el("span", { class: "muted", text: "unknown" }) : el("span", {}, `${Math.round(health.score)} `, pill(health.status, statusTone(health.status)))),
      ...parts.map(([name, component]) => fact(name, el("span", {}, String(Math.round(component.score)), component.grade ? el("span", { class: "muted", text: ` ${component.grade}` }) : null))),
      ...(host.version ? [fact("Agent", el("span", { text: host.version }))] : []),
      ...(Object.keys(host.labels ?? {}).length ? [fact("Labels", el("span", { class: "chips" }, ...Object.entries(host.labels).map(([name, value]) => el("span", { class: "chip" }, `${name} `, el("b", { text: value })))))] : []));
  }

  #renderIncidents() {
    const open = [...this.state.open.values()].filter((incident) => incident.host === this.host);
    const text = JSON.stringify(open.map((incident) => [incident.id, incident.version, incident.delivery?.state]));
    if (this.incidents.dataset.text === text) return;
    this.incidents.dataset.text = text;
    this.incidents.replaceChildren(...open.map(incidentRow));
  }

  #renderProbes() {
    const text = JSON.stringify([...this.#probes.values()].map(({ probe, status, error }) => [probe, status, error]));
    if (this.probes.dataset.text === text) return;
    this.probes.dataset.text = text;
    this.probes.replaceChildren(...[...this.#probes.values()].sort((a, b) => a.probe.localeCompare(b.probe)).map(probeItem));
  }

  #explain() {
    const known = this.#charts.size > 0;
    this.note.replaceChildren(...(known ? [] : [empty("No values in this time range",
      "Choose a longer range, or look at the host: tocsin probes lists what it should measure, and its log says whether the broker is reached.")]));
  }
}

/** Unlabelled metrics of one probe and unit share a chart; a labelled one has its own, a line per label set. */
function placeOf({ metric, unit: measured = "", kind, labels = {} }) {
  const unit = drawnUnit(measured, kind);
  const prefix = metric.slice(0, metric.indexOf(".") + 1);
  if (Object.keys(labels).length) return { key: `${metric}|${unit}|labelled`, title: metric, prefix, unit };
  const words = UNITS[unit] ?? unit;
  return { key: `${prefix}|${unit}`, title: prefix.slice(0, -1) + (words ? `, ${words}` : ""), prefix, unit };
}

const FIRST = ["cpu", "memory", "load", "disk", "diskio", "network"];
const LAST = ["probe", "tocsin"];

function order(one, other) {
  const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : LAST.includes(name) ? 99 : 50);
  return rank(one) - rank(other) || one.localeCompare(other, "en");
}

/** What is used first; then by name. */
function chartOrder(one, other) {
  return other.includes(".used_") - one.includes(".used_") || one.localeCompare(other, "en");
}

function fact(name, value) {
  return el("div", {}, el("dt", { text: name }), el("dd", {}, value));
}

function probeItem({ probe, status, error, duration }) {
  const tone = status === "ok" ? "ok" : status === "timeout" ? "warning" : "critical";
  const item = el("li", { class: "probe", "data-tone": tone }, ...(status === "ok" ? [] : [pill(status, tone)]),
    el("span", {}, probe, status === "ok" ? el("span", { class: "unseen", text: " ok" }) : null), error ? el("span", { class: "muted", text: error.slice(0, 160) }) : null);
  item.title = [status, duration === undefined ? "" : `took ${span(duration)}`, error].filter(Boolean).join(", ");
  return item;
}
