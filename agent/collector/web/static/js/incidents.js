// The list of incidents: open ones first, then what is over.

import { get } from "./api.js";
import { el, schedule } from "./element.js";
import { labelled, moment, span } from "./format.js";
import { severityRank } from "./state.js";
import { deliveryWords, empty, figures, pill, severityTone, since, title } from "./words.js";

const PAGE = "50";
const SEVERITIES = ["all", "critical", "warning", "info"];

export class IncidentsPage {
  name = "incidents";
  title = "Incidents";
  stream = { kind: "host,incident,delivery" };
  #resolved = new Map();
  #next = "";
  #severity = "all";
  #loaded = false;
  #draw = () => this.#render();

  constructor(app) {
    this.state = app.state;
    this.app = app;
    this.filter = el("input", { type: "search", id: "incident-filter", placeholder: "host, rule or text", autocomplete: "off", oninput: () => schedule(this.#draw) });
    this.segments = el("div", { class: "segments", role: "group", "aria-label": "Severity" },
      ...SEVERITIES.map((severity) => el("button", { type: "button", "aria-pressed": String(severity === "all"), "data-severity": severity, text: severity, onclick: () => this.#choose(severity) })));
    this.open = el("div", { class: "rows" });
    this.over = el("div", { class: "rows" });
    this.more = el("button", { class: "button", type: "button", text: "Show older", hidden: true, onclick: () => this.#older() });
    this.element = el("div", {},
      el("div", { class: "page-head" }, el("h1", { text: "Incidents" }), this.segments,
        el("label", { class: "field push", for: "incident-filter" }, "Filter", this.filter)),
      el("h2", { class: "section", text: "Open" }), this.open,
      el("h2", { class: "section", text: "Resolved" }), this.over, el("p", { class: "section" }, this.more),
      el("p", { class: "section muted small" }, el("a", { href: "/gallery", text: "What each message looks like in Slack" })));
  }

  async refresh() {
    schedule(this.#draw);
    const page = await get("incidents", { state: "resolved", limit: PAGE });
    this.#resolved.clear();
    this.#take(page);
  }

  event(kind, data) {
    if (kind === "incident" && data.state === "resolved") this.#resolved.set(data.id, data);
    if (kind === "delivery" && this.#resolved.has(data.incident)) this.#resolved.get(data.incident).delivery = data;
    if (kind === "incident" || kind === "delivery") schedule(this.#draw);
  }

  async #older() {
    await this.app.attempt(async () => this.#take(await get("incidents", { state: "resolved", limit: PAGE, cursor: this.#next })));
  }

  #take(page) {
    for (const incident of page.incidents) this.#resolved.set(incident.id, incident);
    this.#next = page.next;
    this.#loaded = true;
    schedule(this.#draw);
  }

  #choose(severity) {
    this.#severity = severity;
    for (const button of this.segments.children) button.setAttribute("aria-pressed", String(button.dataset.severity === severity));
    schedule(this.#draw);
  }

  #render() {
    if (!this.state.ready) return;
    const open = [...this.state.open.values()].filter((incident) => this.#wants(incident))
      .sort((a, b) => severityRank(b.severity) - severityRank(a.severity) || b.fired_at - a.fired_at);
    const over = [...this.#resolved.values()].filter((incident) => this.#wants(incident) && !this.state.open.has(incident.id))
      .sort((a, b) => b.fired_at - a.fired_at);
    const filtered = this.#severity !== "all" || this.filter.value.trim() !== "";
    show(this.open, open, filtered ? empty("No open incident matches", "Change the filter to see the others.") : nothingWrong());
    show(this.over, over, this.#loaded ? empty(filtered ? "No resolved incident matches" : "No incident has been resolved yet") : el("p", { class: "muted", text: "Loading…" }));
    this.more.hidden = this.#next === "";
  }

  #wants(incident) {
    if (this.#severity !== "all" && incident.peak !== this.#severity && incident.severity !== this.#severity) return false;
    const text = [incident.host, incident.threshold, incident.summary, incident.metric, labelled(incident.labels)].join(" ").toLowerCase();
    return this.filter.value.trim().toLowerCase().split(/\s+/).every((word) => text.includes(word));
  }
}

function nothingWrong() {
  return empty("Nothing is wrong", "No threshold is breached on any host.",
    el("p", {}, "What counts as a breach stands under ", el("code", { text: "[[thresholds]]" }), " in ", el("code", { text: "agent.toml" }), "; ",
      el("code", { text: "tocsin alert test" }), " sends one down the whole road."));
}

/** Redraws a list; rows that did not change stay as they are, so that focus and selection survive. */
function show(list, incidents, otherwise) {
  const before = new Map([...list.querySelectorAll("[data-key]")].map((row) => [row.dataset.key, row]));
  const focused = document.activeElement?.closest?.("[data-id]")?.dataset.id;
  const rows = incidents.map((incident) => before.get(key(incident)) ?? incidentRow(incident));
  if (rows.length === list.children.length && rows.length && rows.every((row, index) => row === list.children[index])) return;
  list.replaceChildren(...(rows.length ? rows : [otherwise]));
  const again = focused && rows.find((row) => row.dataset.id === focused);
  if (again && !again.contains(document.activeElement)) again.querySelector("h3 a").focus({ preventScroll: true });
}

const key = (incident) => `${incident.id}/${incident.version}/${incident.delivery?.state}`;

export function incidentRow(incident) {
  const closed = incident.state === "resolved";
  const [delivery] = deliveryWords(incident.delivery);
  const time = closed
    ? el("span", { text: `lasted ${span(Math.max(0, incident.resolved_at - incident.started_at))}, resolved ${moment(incident.resolved_at)}` })
    : since(incident.started_at, "since ");
  return el("article", { class: "incident card", "data-tone": severityTone(incident.severity), "data-closed": closed, "data-id": incident.id, "data-key": key(incident) },
    closed ? pill("resolved", "ok") : pill(incident.severity, severityTone(incident.severity)),
    el("div", { class: "what" },
      el("h3", {}, el("a", { href: `/incidents/${encodeURIComponent(incident.id)}`, text: title(incident) })),
      el("p", { class: "more" },
        el("a", { class: "where", href: `/hosts/${encodeURIComponent(incident.host)}`, text: incident.host }),
        labelled(incident.labels) ? el("span", { text: labelled(incident.labels) }) : null,
        time, el("span", { text: delivery }))),
    el("div", { class: "figures" }, el("b", { text: figures(incident) }), incident.grade ? el("span", { class: "grade", text: `grade ${incident.grade}` }) : null));
}
