// One incident: what it was, how it went, and whether Slack was told.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { el, schedule } from "./element.js";
import { drawnUnit, labelled, moment, now, quantity, span } from "./format.js";
import { SeriesTable } from "./series.js";
import { deliveryWords, figures, pill, severityTone, since, title } from "./words.js";

const WORDS = { opened: "Opened", escalated: "Escalated", deescalated: "Eased", reminded: "Still open", resolved: "Resolved",
  acknowledged: "Acknowledged", muted: "Held back", unmuted: "Told again", flapping: "Flapping", steady: "Steady again", evidence: "Evidence" };
const BEFORE = 900;
const AFTER = 300;

export class IncidentPage {
  name = "incidents";
  title = "Incident";
  stream = { kind: "host,incident,delivery" };
  #chart = null;
  #times = "";

  constructor(app, id) {
    this.id = id;
    this.app = app;
    this.plot = el("section", { class: "card wide", "aria-label": "Values around the incident" }, el("p", { class: "muted", text: "Loading values…" }));
    this.body = el("div", {}, el("p", { class: "muted", text: "Loading…" }));
    this.element = el("div", {}, el("p", { class: "crumb" }, el("a", { href: "/incidents", text: "Incidents" })), this.body);
  }

  async refresh() {
    this.found = await get(`incidents/${encodeURIComponent(this.id)}`);
    schedule(this.#draw);
    await this.#plot();
  }

  event(kind, data) {
    if (kind === "incident" && data.id === this.id) this.app.attempt(() => this.refresh());
    if (kind === "delivery" && data.incident === this.id && this.found) {
      this.found.incident.delivery = data;
      schedule(this.#draw);
    }
  }

  close() {
    this.#chart?.destroy();
  }

  #draw = () => {
    const { incident, transitions } = this.found;
    const open = incident.state === "open";
    this.title = title(incident);
    this.app.retitle();
    this.body.replaceChildren(
      el("div", { class: "page-head" }, el("h1", { text: title(incident) }),
        open ? pill(incident.severity, severityTone(incident.severity)) : pill("resolved", "ok"),
        incident.grade ? el("span", { class: "grade", text: `grade ${incident.grade}` }) : null),
      el("div", { class: "detail" }, this.plot,
        el("section", { class: "card" }, el("h2", { text: "Timeline" }), el("ol", { class: "timeline" }, ...transitions.map((step) => stepItem(step, incident)))),
        el("div", { class: "aside" }, facts(incident), ...(incident.evidence ?? []).map(evidencePart), deliveryPart(incident.delivery))));
  };

  async #plot() {
    const { incident } = this.found;
    const end = Math.min(now(), (incident.resolved_at ?? now()) + AFTER);
    const start = incident.started_at - BEFORE;
    const times = `${start}/${Math.floor(end / 10)}`;
    if (!incident.metric || times === this.#times) return;
    this.#times = times;
    const step = end - start > 7200 ? Math.ceil((end - start) / 600 / 60) * 60 : 0;
    const { series } = await get("series", { host: incident.host, metric: incident.metric, from: String(start), to: String(end), step: String(step) });
    const wanted = series.filter((one) => same(one.labels, incident.labels));
    this.#chart?.destroy();
    if (wanted.length === 0) return this.plot.replaceChildren(el("p", { class: "muted", text: "No values of this time are kept any more." }));
    const table = new SeriesTable(step);
    table.load(wanted);
    this.#chart = new Chart({ title: incident.metric, unit: drawnUnit(incident.unit || wanted[0].unit, wanted[0].kind), table, prefix: "", limit: incident.limit, marks: this.found.transitions.map((one) => one.time) });
    this.#chart.window(start, end);
    this.plot.replaceChildren(this.#chart.element);
    this.#chart.show();
  }
}

function same(one, other) {
  return Object.entries(other ?? {}).every(([name, value]) => one[name] === value);
}

function stepItem(step, incident) {
  const tone = step.kind === "resolved" ? "ok" : severityTone(step.severity);
  return el("li", { "data-tone": tone },
    el("p", {}, el("strong", { text: WORDS[step.kind] ?? step.kind }), pill(step.kind === "resolved" ? "ok" : step.severity, tone), el("span", { class: "muted small", text: moment(step.time) })),
    el("p", { class: "muted", text: [step.value === null ? "" : `at ${quantity(step.value, incident.unit)}`, step.note].filter(Boolean).join(" · ") }));
}

function facts(incident) {
  const rows = [
    ["Host", el("a", { href: `/hosts/${encodeURIComponent(incident.host)}`, text: incident.host })],
    ["Rule", incident.threshold],
    ["Metric", incident.metric],
    ["Labels", labelled(incident.labels)],
    [incident.state === "open" ? "Value" : "Worst value", figures(incident)],
    ["Worst", pill(incident.peak, severityTone(incident.peak))],
    ["Since", since(incident.started_at)],
    ["Lasted", incident.resolved_at ? span(Math.max(0, incident.resolved_at - incident.started_at)) : ""],
    ["Forecast", incident.forecast],
    ["Taken by", incident.acknowledged_by],
    ["Not told", incident.muted],
    ["Flapping", incident.flapping ? "changes too often to be told each time" : ""],
    ["Runbook", runbook(incident.runbook)],
  ].filter(([, value]) => value);
  return el("section", { class: "card" }, el("h2", { text: "Facts" }),
    el("dl", {}, ...rows.flatMap(([name, value]) => [el("dt", { text: name }), typeof value === "string" ? el("dd", { text: value }) : el("dd", {}, value)])));
}

function evidencePart({ title, lines }) {
  return el("section", { class: "card" }, el("h2", { text: title }), el("pre", { text: lines.join("\n") }));
}

/** A link only where it is one to the web; what a host sent may be anything. */
function runbook(text) {
  return /^https?:\/\//i.test(text ?? "") ? el("a", { href: text, rel: "noreferrer noopener", text }) : text;
}

function deliveryPart(delivery) {
  const [words, tone] = deliveryWords(delivery);
  const rows = [
    ["Channel", delivery.channel],
    ["Tries", delivery.attempts ? String(delivery.attempts) : ""],
    ["Next try", delivery.next_try && delivery.state !== "delivered" ? moment(delivery.next_try) : ""],
    ["Trouble", delivery.error],
  ].filter(([, value]) => value);
  return el("section", { class: "card", id: "delivery" }, el("h2", { text: "Slack" }), el("p", {}, pill(delivery.state ?? "unknown", tone)), el("p", { class: "muted", text: words }),
    el("dl", {}, ...rows.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: value })])));
}
