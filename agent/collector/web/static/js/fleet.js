// The fleet: a tile per host, worst first.

import { el, mark, say, schedule } from "./element.js";
import { empty, hostTone, pill, resince, severityTone, since, standing, title } from "./words.js";

const METERS = [["cpu", "CPU"], ["memory", "Memory"], ["disk", "Disk"]];

export class FleetPage {
  name = "fleet";
  title = "Fleet";
  stream = { metric: "cpu.used_percent,memory.used_percent,disk.used_percent" };
  #tiles = new Map();
  #timer = null;
  #draw = () => this.#render();

  constructor(app) {
    this.state = app.state;
    this.summary = el("div", { class: "summary", "aria-label": "Summary", role: "group" });
    this.filter = el("input", { type: "search", id: "host-filter", placeholder: "name, label or state", autocomplete: "off", oninput: () => schedule(this.#draw) });
    this.tiles = el("ul", { class: "tiles", "aria-label": "Hosts" });
    this.note = el("div", { "aria-live": "polite" });
    this.element = el("div", {},
      el("div", { class: "page-head" }, el("h1", { text: "Fleet" }), this.summary,
        el("label", { class: "field push", for: "host-filter" }, "Filter", this.filter)),
      this.tiles, this.note);
  }

  refresh() {
    schedule(this.#draw);
  }

  /** Samples of a large fleet come all the time: four times a second is live enough. */
  event(kind) {
    if (kind !== "sample") schedule(this.#draw);
    else this.#timer ??= setTimeout(() => { this.#timer = null; schedule(this.#draw); }, 250);
  }

  close() {
    clearTimeout(this.#timer);
  }

  #render() {
    if (!this.state.ready) return;
    const hosts = [...this.state.hosts.values()];
    const worst = this.#worstByHost();
    const wanted = this.filter.value.trim().toLowerCase();
    const shown = hosts
      .filter((host) => matches(host, wanted))
      .map((host) => ({ host, incident: worst.get(host.host)?.worst ?? null, count: worst.get(host.host)?.count ?? 0 }))
      .map((entry) => ({ ...entry, ...standing(entry.host, entry.incident) }))
      .sort((a, b) => a.rank - b.rank || a.host.host.localeCompare(b.host.host, "en", { numeric: true }));
    for (const entry of shown) this.#tile(entry);
    this.#arrange(shown.map((entry) => entry.host.host));
    this.#summarise(hosts);
    this.#explain(hosts, shown);
  }

  #worstByHost() {
    const found = new Map();
    const ranks = ["ok", "info", "warning", "critical"];
    for (const incident of this.state.open.values()) {
      const entry = found.get(incident.host) ?? { worst: incident, count: 0 };
      entry.count += 1;
      if (ranks.indexOf(incident.severity) > ranks.indexOf(entry.worst.severity)) entry.worst = incident;
      found.set(incident.host, entry);
    }
    return found;
  }

  #tile(entry) {
    let tile = this.#tiles.get(entry.host.host);
    if (!tile) this.#tiles.set(entry.host.host, tile = new Tile(entry.host.host));
    tile.show(entry);
  }

  /** Moves only what stands in the wrong place, and keeps the focus where it was. */
  #arrange(names) {
    const focused = document.activeElement;
    const keep = new Set(names);
    for (const [name, tile] of this.#tiles) {
      if (keep.has(name)) continue;
      tile.element.remove();
      if (!this.state.hosts.has(name)) this.#tiles.delete(name);
    }
    let place = this.tiles.firstElementChild;
    for (const name of names) {
      const { element } = this.#tiles.get(name);
      if (element === place) place = place.nextElementSibling;
      else this.tiles.insertBefore(element, place);
    }
    if (focused !== document.activeElement && this.tiles.contains(focused)) focused.focus({ preventScroll: true });
  }

  #summarise(hosts) {
    const count = (state) => hosts.filter((host) => host.state === state).length;
    const parts = [["online", "ok"], ["offline", "critical"], ["unknown", "unknown"]]
      .map(([state, tone]) => [count(state), state, tone])
      .filter(([number, state]) => number > 0 || state === "online")
      .map(([number, state, tone]) => [`${number} ${state}`, tone]);
    if (hosts.length > 0) parts.push(this.#incidentPart());
    const text = JSON.stringify(parts);
    if (this.summary.dataset.text === text) return;
    this.summary.dataset.text = text;
    this.summary.replaceChildren(...parts.map(([words, tone]) => pill(words, tone)));
  }

  #incidentPart() {
    const open = [...this.state.open.values()];
    if (open.length === 0) return ["no open incidents", "ok"];
    const critical = open.filter((incident) => incident.severity === "critical").length;
    const words = `${open.length} open incident${open.length === 1 ? "" : "s"}`;
    return critical ? [`${words}, ${critical} critical`, "critical"] : [words, "warning"];
  }

  #explain(hosts, shown) {
    const key = hosts.length === 0 ? "none" : shown.length === 0 ? "filtered" : "";
    if (this.note.dataset.key === key) return;
    this.note.dataset.key = key;
    this.note.replaceChildren(...(key === "none" ? [noHosts()] : key === "filtered" ? [empty("No host matches", "Clear or change the filter to see the others.")] : []));
  }
}

function noHosts() {
  return empty("No host has reported yet",
    el("p", {}, "On the host, point ", el("code", { text: "mqtt.url" }), " in ", el("code", { text: "agent.toml" }),
      " at the broker that this collector reads, and start ", el("code", { text: "tocsin run" }), "."),
    "It appears here by itself within seconds of its first message.");
}

function matches(host, wanted) {
  if (!wanted) return true;
  const text = [host.host, host.state, ...Object.entries(host.labels ?? {}).flatMap(([name, value]) => [`${name}=${value}`])].join(" ").toLowerCase();
  return wanted.split(/\s+/).every((word) => text.includes(word));
}

class Tile {
  constructor(name) {
    this.stateWord = pill("", "unknown");
    this.score = el("b");
    this.status = el("span");
    this.meters = Object.fromEntries(METERS.map(([key, label]) => [key, new Meter(label)]));
    this.worst = el("span", { class: "worst" });
    this.seen = since(0);
    this.link = el("a", { class: "tile card", href: `/hosts/${encodeURIComponent(name)}` },
      el("div", { class: "tile-head" }, el("h2", { text: name }), this.stateWord),
      el("p", { class: "tile-health" }, this.score, this.status, this.seen),
      el("dl", { class: "meters" }, ...Object.values(this.meters).map((meter) => meter.element)),
      el("div", { class: "tile-foot" }, this.worst));
    this.element = el("li", {}, this.link);
  }

  show({ host, incident, count, tone }) {
    mark(this.link, "data-tone", tone);
    mark(this.link, "data-state", host.state);
    say(this.stateWord, host.state);
    mark(this.stateWord, "data-tone", hostTone(host.state));
    const score = host.health?.score ?? null;
    say(this.score, score === null ? "–" : String(Math.round(score)));
    say(this.status, host.health?.status && score !== null ? `health, ${host.health.status}` : "health unknown");
    for (const [key] of METERS) this.meters[key].show(host.usage?.[key] ?? null, key === "disk" ? host.usage?.mount : "");
    this.#incident(incident, count);
    resince(this.seen, host.last_seen ?? 0);
  }

  #incident(incident, count) {
    const text = incident ? JSON.stringify([incident.severity, title(incident), count]) : "";
    if (this.worst.dataset.text === text) return;
    this.worst.dataset.text = text;
    if (!incident) return this.worst.replaceChildren(el("span", { text: "No open incidents" }));
    const words = count > 1 ? `${title(incident)} (+${count - 1} more)` : title(incident);
    const line = el("span", { text: words });
    line.title = words;
    this.worst.replaceChildren(pill(incident.severity, severityTone(incident.severity)), line);
  }
}

class Meter {
  constructor(label) {
    this.fill = el("i");
    this.value = el("dd", { text: "–" });
    this.element = el("div", { class: "meter" }, el("dt", { text: label }), el("dd", { class: "track", "aria-hidden": "true" }, this.fill), this.value);
  }

  show(value, note) {
    say(this.value, value === null ? "–" : `${value.toFixed(1)} %`);
    this.value.title = note ?? "";
    mark(this.element, "data-level", value >= 90 ? "full" : value >= 80 ? "high" : null);
    this.fill.style.transform = `scaleX(${Math.min(100, Math.max(0, value ?? 0)) / 100})`;
  }
}
