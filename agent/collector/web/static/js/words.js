// The words and tones that stand for states, and the small pieces made of them.

import { ago, moment, quantity } from "./format.js";
import { el } from "./element.js";
import { severityRank } from "./state.js";

const HOST_TONES = { online: "ok", offline: "critical", unknown: "unknown" };
const STATUS_TONES = { EXCELLENT: "ok", GOOD: "ok", WARNING: "warning", CRITICAL: "critical" };
const DELIVERIES = {
  pending: ["waiting to be sent to Slack", "info"],
  sending: ["being sent to Slack", "info"],
  delivered: ["delivered to Slack", "ok"],
  ambiguous: ["may not have reached Slack; being looked for", "warning"],
  dead: ["could not be sent to Slack", "critical"],
  unknown: ["no word about Slack", "unknown"],
};
const PRINTED = ["printed on the terminal", "info"];
const SEVERITIES = ["ok", "info", "warning", "critical"];

export const hostTone = (state) => HOST_TONES[state] ?? "unknown";
export const statusTone = (status) => STATUS_TONES[status] ?? "unknown";
export const severityTone = (severity) => (SEVERITIES.includes(severity) ? severity : "unknown");
/** Without a token the agent prints: its channel is then the terminal, and nobody in Slack was told. */
export const deliveryWords = (delivery) => (delivery?.state === "delivered" && delivery.channel === "terminal" ? PRINTED : DELIVERIES[delivery?.state] ?? DELIVERIES.unknown);

export function pill(text, tone) {
  return el("span", { class: "pill", "data-tone": tone, text });
}

/** How a whole host stands: the worst of its state and its open incidents, for colour and order. */
export function standing(host, worst) {
  if (worst?.severity === "critical") return { tone: "critical", rank: 0 };
  if (host.state === "offline") return { tone: "critical", rank: 1 };
  if (worst?.severity === "warning") return { tone: "warning", rank: 2 };
  if (host.state !== "online") return { tone: "unknown", rank: 3 };
  if (severityRank(worst?.severity) > 0) return { tone: "info", rank: 4 };
  return { tone: "ok", rank: 5 };
}

export function title(incident) {
  return incident.summary || incident.threshold;
}

/** "93.1 % > 90 %": the present value, or the worst once it is over; of silence how long it took to be one. */
export function figures(incident) {
  const over = incident.state === "resolved";
  if (incident.op === "absent" && incident.limit !== null)
    return `${over ? "had no data" : "no data"} for ${quantity(incident.limit, "seconds")}`;
  const value = quantity(over ? incident.peak_value ?? incident.value : incident.value, incident.unit);
  if (incident.limit === null || incident.limit === undefined) return value;
  const limit = quantity(incident.limit, incident.unit);
  return incident.op ? `${value} ${incident.op} ${limit}` : `${value} (limit ${limit})`;
}

/** A time that says how long ago it was and is kept up to date by `refreshTimes`. */
export function since(time, prefix = "") {
  const element = el("time", { class: "ago", "data-since": String(time), "data-prefix": prefix || null, text: prefix + ago(time) });
  element.title = moment(time);
  element.dateTime = new Date(time * 1000).toISOString();
  return element;
}

export function resince(element, time) {
  if (element.dataset.since === String(time)) return;
  element.dataset.since = String(time);
  showAge(element);
  element.title = moment(time);
  element.dateTime = new Date(time * 1000).toISOString();
}

export function refreshTimes(root) {
  for (const element of root.querySelectorAll("[data-since]")) showAge(element);
}

function showAge(element) {
  const text = (element.dataset.prefix ?? "") + ago(Number(element.dataset.since));
  if (element.textContent !== text) element.textContent = text;
}

export function empty(heading, ...lines) {
  return el("section", { class: "empty" }, el("h2", { text: heading }), ...lines.map((line) => (typeof line === "string" ? el("p", { text: line }) : line)));
}
