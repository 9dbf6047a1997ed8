// What is known of the fleet: hosts, what they use, and open incidents. Pages draw from here.

import { get } from "./api.js";

const RANKS = { ok: 0, info: 1, warning: 2, critical: 3 };
export const severityRank = (severity) => RANKS[severity] ?? -1;

export class State {
  hosts = new Map();
  open = new Map(); // open incidents by id
  ready = false;
  lastSample = 0; // when this page last got one, by its own clock in ms

  /** Fetches everything anew; events that arrive meanwhile are newer and win. */
  async sync() {
    this.recent = { hosts: new Set(), incidents: new Set() };
    const recent = this.recent;
    const [hosts, open] = await Promise.all([get("hosts"), this.#openIncidents()]);
    const names = new Set(hosts.hosts.map((entry) => entry.host));
    for (const entry of hosts.hosts) {
      if (!recent.hosts.has(entry.host)) this.hosts.set(entry.host, entry);
      else this.hosts.get(entry.host).usage ??= entry.usage;
    }
    for (const name of this.hosts.keys()) if (!names.has(name) && !recent.hosts.has(name)) this.hosts.delete(name);
    const ids = new Set(open.map((incident) => incident.id));
    for (const incident of open) if (!recent.incidents.has(incident.id)) this.open.set(incident.id, incident);
    for (const id of this.open.keys()) if (!ids.has(id) && !recent.incidents.has(id)) this.open.delete(id);
    this.ready = true;
  }

  async #openIncidents() {
    const found = [];
    let cursor = "";
    do {
      const page = await get("incidents", { state: "open", limit: "500", ...(cursor && { cursor }) });
      found.push(...page.incidents);
      cursor = page.next;
    } while (cursor && found.length < 5000);
    return found;
  }

  /** Takes one event in; returns what it did to an incident: "opened", "escalated", "resolved" or "". */
  take(kind, data) {
    if (kind === "sample") return this.#sample(data);
    if (kind === "host") return this.#host(data);
    if (kind === "incident") return this.#incident(data);
    if (kind === "delivery") return this.#delivery(data);
    return "";
  }

  worst(host) {
    let worst = null;
    for (const incident of this.open.values()) {
      if (incident.host === host && (worst === null || severityRank(incident.severity) > severityRank(worst.severity))) worst = incident;
    }
    return worst;
  }

  #sample(data) {
    this.lastSample = Date.now();
    const host = this.hosts.get(data.host);
    if (!host) return "";
    host.last_seen = Math.max(host.last_seen ?? 0, data.time);
    host.usage ??= { cpu: null, memory: null, disk: null, mount: "" };
    let disk = null;
    for (const { name, value, labels = {} } of data.metrics) {
      const plain = Object.keys(labels).length === 0;
      if (name === "cpu.used_percent" && plain) host.usage.cpu = value;
      else if (name === "memory.used_percent" && plain) host.usage.memory = value;
      else if (name === "disk.used_percent" && (disk === null || value > disk.value)) disk = { value, mount: labels.mount ?? "" };
    }
    if (disk !== null) Object.assign(host.usage, { disk: disk.value, mount: disk.mount });
    return "";
  }

  #host(data) {
    this.recent?.hosts.add(data.host);
    const before = this.hosts.get(data.host);
    const after = { ...data, usage: data.usage ?? before?.usage };
    after.last_seen = Math.max(data.last_seen ?? 0, before?.last_seen ?? 0);
    this.hosts.set(data.host, after);
    return "";
  }

  #incident(data) {
    this.recent?.incidents.add(data.id);
    const before = this.open.get(data.id);
    if (before && before.version > data.version) return "";
    data.delivery ??= before?.delivery ?? { state: "unknown" };
    if (data.state === "resolved") return this.open.delete(data.id) ? "resolved" : "";
    this.open.set(data.id, data);
    if (!before) return "opened";
    return severityRank(data.severity) > severityRank(before.severity) ? "escalated" : "";
  }

  #delivery(data) {
    const incident = this.open.get(data.incident);
    if (incident) incident.delivery = data;
    return "";
  }
}
