// One chart: a uPlot, its legend with values, and its place in the page.

import { el, mark, say, schedule } from "./element.js";
import { clock, labelled, moment, quantity } from "./format.js";
import { longestPause } from "./series.js";

const COLOURS = 8;
const HEIGHT = 170;
const MOST = 24; // lines in one chart; more than that nobody can tell apart
const QUIET = new Set(["cpu.idle_percent"]); // would flatten what matters; one click shows it
const { uPlot } = globalThis;
const dark = matchMedia("(prefers-color-scheme: dark)");
const BINARY = Array.from({ length: 55 }, (_, power) => 2 ** power);

export class Chart {
  #plot = null;
  #drawn = -1;
  #visible = false;
  #dirty = true;
  #hidden = new Set();
  #entries = [];
  #index = null;
  #draw = () => this.#render();
  #values = () => this.#renderValues();
  #recolour = () => this.#rebuild();

  /** `unit` is that of what is drawn, which for counters is a rate. `prefix` is left out of series names. `limit` is drawn as a line, `marks` (times) as upright ones. */
  constructor({ title, unit, table, prefix = "", limit = null, marks = [], sync = null, onZoom = null, onReset = null }) {
    Object.assign(this, { title, unit, table, prefix, limit, marks, sync, onZoom, onReset });
    this.time = el("span", { class: "at" });
    this.place = el("div", { class: "plot", role: "img", "aria-label": `${title}, a chart; its values stand below` });
    this.legend = el("div", { class: "legend" });
    this.element = el("section", { class: "card chart", "data-chart": title, "aria-label": title },
      el("div", { class: "chart-head" }, el("h3", { text: title }), this.time), this.place, this.legend);
    this.sizes = new ResizeObserver(() => this.#resize());
    this.sizes.observe(this.place);
    dark.addEventListener("change", this.#recolour);
  }

  /** The times at the left and right edge. */
  window(start, end) {
    Object.assign(this, { start, end });
    this.changed();
  }

  /** Draw anew, soon, if anybody can see it. */
  changed() {
    this.#dirty = true;
    if (this.#visible) schedule(this.#draw);
  }

  show() {
    this.#visible = true;
    if (this.#dirty) schedule(this.#draw);
  }

  hide() {
    this.#visible = false;
  }

  destroy() {
    this.#visible = false;
    this.sizes.disconnect();
    dark.removeEventListener("change", this.#recolour);
    this.#plot?.destroy();
    this.#plot = null;
  }

  #rebuild() {
    this.#drawn = -1;
    this.changed();
  }

  #resize() {
    const width = this.place.clientWidth;
    if (this.#plot && width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }

  #render() {
    if (!this.#visible || this.place.clientWidth === 0) return;
    this.#dirty = false;
    const columns = this.table.columns();
    if (this.#drawn !== this.table.version) this.#build();
    const data = [columns[0], ...this.lines.map((line) => columns[this.table.series.indexOf(line) + 1])];
    this.pauses = data.slice(1).map((values) => longestPause(data[0], values, this.table.step));
    this.#plot.batch(() => {
      this.#plot.setData(data, false);
      this.#plot.setScale("x", { min: this.start, max: this.end });
    });
    mark(this.place, "data-points", String(data[0].length));
    mark(this.place, "data-last", String(data[0].at(-1) ?? ""));
    this.#renderValues();
  }

  #build() {
    this.#plot?.destroy();
    this.#drawn = this.table.version;
    this.lines = this.#chosen();
    for (const line of this.lines) if (QUIET.has(line.metric) && this.table.series.length > 1 && !line.seen) this.#hidden.add(line);
    for (const line of this.lines) line.seen = true;
    this.#plot = new uPlot(this.#options(), [[], ...this.lines.map(() => [])], this.place);
    this.#buildLegend();
  }

  /** All lines, or the highest where there are too many. */
  #chosen() {
    if (this.table.series.length <= MOST) return [...this.table.series].sort(byName);
    const peak = (line) => line.values.reduce((most, value) => (value !== null && value > most ? value : most), -Infinity);
    return [...this.table.series].sort((a, b) => peak(b) - peak(a)).slice(0, MOST).sort(byName);
  }

  #options() {
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    const font = `11px ${style.fontFamily}`;
    const axis = { stroke: ink("--muted"), font, grid: { stroke: ink("--grid"), width: 1 }, ticks: { show: false } };
    return {
      width: this.place.clientWidth, height: HEIGHT, padding: [8, 22, 0, 0], legend: { show: false },
      cursor: this.#cursor(),
      scales: { x: { time: true }, y: { range: (_, low, high) => this.#bounds(low, high) } },
      axes: [
        { ...axis, size: 26, space: 64, values: timeLabels },
        { ...axis, gap: 4, space: 34, size: (_, values) => 16 + 6.6 * Math.max(4, ...(values ?? []).map((value) => value.length)),
          values: (_, splits) => splits.map((value) => quantity(value, this.unit)),
          ...(this.unit.startsWith("bytes") ? { incrs: BINARY } : {}) },
      ],
      series: [{}, ...this.lines.map((line, index) => this.#line(line, index, ink))],
      hooks: { setCursor: [(plot) => this.#pointed(plot.cursor.idx)], setSelect: [(plot) => this.#selected(plot)], draw: [(plot) => this.#drawMarks(plot, ink)] },
    };
  }

  #cursor() {
    return {
      y: false, drag: { x: true, y: false, setScale: false },
      ...(this.sync ? { sync: { key: this.sync, setSeries: false, filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } } } : {}),
      bind: { dblclick: () => () => { this.onReset?.(); return null; } },
      focus: { prox: 24 },
    };
  }

  #line(line, index, ink) {
    const stroke = ink(`--line-${(index % COLOURS) + 1}`);
    return {
      label: "value", stroke, width: 1.7, show: !this.#hidden.has(line), spanGaps: false,
      dash: index >= COLOURS ? [6, 3] : undefined,
      fill: this.lines.length === 1 ? `color-mix(in srgb, ${stroke} 14%, transparent)` : undefined,
      points: { size: 5, show: (_, __, from, to) => to - from < 4 }, // lone ones are always shown
      gaps: (plot, series, from, to) => this.#gaps(plot, series, from, to),
    };
  }

  /** A line is broken where the host was silent, not where another series has a value in between. */
  #gaps(plot, series, from, to) {
    const gaps = [];
    const [times] = plot.data;
    const values = plot.data[series];
    let before = null;
    for (let index = from; index <= to; index += 1) {
      if (values[index] === null || values[index] === undefined) continue;
      if (before !== null && times[index] - times[before] > this.pauses[series - 1]) {
        uPlot.addGap(gaps, Math.round(plot.valToPos(times[before], "x", true)), Math.round(plot.valToPos(times[index], "x", true)));
      }
      before = index;
    }
    return gaps;
  }

  #bounds(low, high) {
    if (low === null || !Number.isFinite(low)) return [0, 1];
    if (this.limit !== null) [low, high] = [Math.min(low, this.limit), Math.max(high, this.limit)];
    const near = low > 0 && this.unit !== "percent" && low > 0.6 * high && high > low;
    const bottom = near ? low - (high - low) * 0.15 : Math.min(0, low);
    const top = high + (high - bottom) * 0.12 || 1;
    return [bottom, this.unit === "percent" && high <= 100 ? Math.min(100, Math.max(top, 1)) : top];
  }

  #drawMarks(plot, ink) {
    const { ctx, bbox } = plot;
    const inside = (x) => x >= bbox.left && x <= bbox.left + bbox.width;
    ctx.save();
    ctx.lineWidth = uPlot.pxRatio;
    ctx.setLineDash([5 * uPlot.pxRatio, 4 * uPlot.pxRatio]);
    for (const time of this.marks) {
      const x = plot.valToPos(time, "x", true);
      if (inside(x)) stroke(ctx, ink("--muted"), x, bbox.top, x, bbox.top + bbox.height);
    }
    if (this.limit !== null) {
      const y = plot.valToPos(this.limit, "y", true);
      stroke(ctx, ink("--critical"), bbox.left, y, bbox.left + bbox.width, y);
    }
    ctx.restore();
  }

  #selected(plot) {
    const { left, width } = plot.select;
    if (width < 6) return;
    const [start, end] = [plot.posToVal(left, "x"), plot.posToVal(left + width, "x")];
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    this.onZoom?.(start, end);
  }

  #pointed(index) {
    if (index === this.#index) return;
    this.#index = index;
    schedule(this.#values);
  }

  #buildLegend() {
    this.#entries = this.lines.map((line, index) => {
      const value = el("b");
      const button = el("button", { type: "button", "aria-pressed": String(!this.#hidden.has(line)), title: `${line.metric} ${labelled(line.labels)}`, onclick: () => this.#toggle(line, index, button) },
        el("span", { class: `key stroke-${(index % COLOURS) + 1}`, "data-dash": index >= COLOURS, "aria-hidden": "true" }),
        el("span", { class: "name", text: this.#nameOf(line) }), value);
      return { button, value };
    });
    const left = this.table.series.length - this.lines.length;
    this.legend.replaceChildren(...this.#entries.map((entry) => entry.button), ...(left > 0 ? [el("span", { class: "muted small", text: `and ${left} lower ones` })] : []));
  }

  #nameOf(line) {
    const values = this.#telling().map((label) => line.labels[label]).filter((value) => value !== undefined);
    const name = line.metric.slice(this.prefix.length).replace(/_(percent|bytes|seconds|per_second)$/, "") || line.metric;
    return values.length ? values.join(" · ") : name;
  }

  #toggle(line, index, button) {
    const show = this.#hidden.delete(line);
    if (!show) this.#hidden.add(line);
    button.setAttribute("aria-pressed", String(show));
    this.#plot.setSeries(index + 1, { show });
  }

  /** Values under the cursor, of this chart or of one beside it; else the newest. */
  #renderValues() {
    if (!this.#plot) return;
    const [times, ...columns] = this.#plot.data;
    const index = this.#index;
    columns.forEach((values, line) => {
      const value = index === null || index === undefined ? newest(values) : near(values, index);
      say(this.#entries[line].value, quantity(value, this.unit));
    });
    const time = index === null || index === undefined ? null : times[index];
    say(this.time, time ? (this.end - this.start > 86000 ? moment(time) : clock(time)) : "");
  }

  /** The labels in which the lines differ; where they do not, all of them. */
  #telling() {
    const names = new Set(this.lines.flatMap((line) => Object.keys(line.labels)));
    const differ = [...names].filter((name) => new Set(this.lines.map((line) => line.labels[name])).size > 1);
    return differ.length ? differ : [...names];
  }
}

/** By name, but what is used before its parts. */
const byName = (a, b) => {
  const used = Number(b.metric.includes(".used_")) - Number(a.metric.includes(".used_"));
  if (used) return used;
  const [one, other] = [a, b].map((line) => `${line.metric} ${labelled(line.labels)}`);
  return one.localeCompare(other, "en", { numeric: true });
};

function stroke(ctx, colour, fromX, fromY, toX, toY) {
  ctx.strokeStyle = colour;
  ctx.beginPath();
  ctx.moveTo(fromX, fromY);
  ctx.lineTo(toX, toY);
  ctx.stroke();
}

function newest(values) {
  for (let index = values.length - 1; index >= 0; index -= 1) if (values[index] !== null && values[index] !== undefined) return values[index];
  return null;
}

/** The value at a row or, where only other series have one there, the one before. */
function near(values, index) {
  for (let at = index; at >= 0 && at > index - 4; at -= 1) if (values[at] !== null && values[at] !== undefined) return values[at];
  return null;
}

function timeLabels(_, splits, __, ___, step) {
  return splits.map((time) => {
    const date = moment(time);
    if (step >= 86400 || date.endsWith("00:00:00")) return date.slice(5, 10);
    return step < 60 ? date.slice(11) : date.slice(11, 16);
  });
}
