// Who asked for what, and how it came out; and how Slack reaches the collector.

import { get } from "./api.js";
import { el, schedule } from "./element.js";
import { moment } from "./format.js";
import { empty, pill } from "./words.js";

const PAGE = "100";
const EVERY = 5000;
const TONES = { done: "ok", accepted: "info", confirm: "info", cancelled: "unknown", refused: "critical", failed: "critical", unanswered: "warning" };
const KINDS = ["all", "refused"];

export class AuditPage {
  name = "audit";
  title = "Audit";
  stream = { kind: "host,incident,delivery" };
  #rows = new Map();
  #next = "";
  #kind = "all";
  #loaded = false;
  #older = false;
  #draw = () => this.#render();

  constructor(app) {
    this.app = app;
    this.filter = el("input", { type: "search", id: "audit-filter", placeholder: "person, host, verb or text", autocomplete: "off", oninput: () => schedule(this.#draw) });
    this.segments = el("div", { class: "segments", role: "group", "aria-label": "Outcome" },
      ...KINDS.map((kind) => el("button", { type: "button", "aria-pressed": String(kind === "all"), text: kind, onclick: (event) => this.#choose(kind, event.currentTarget) })));
    this.reach = el("div", { class: "reach" });
    this.list = el("div", {});
    this.chains = el("p", { class: "section muted small", role: "status" });
    this.more = el("button", { class: "button", type: "button", text: "Show older", hidden: true, onclick: () => this.#showOlder() });
    this.verify = el("button", { class: "button", type: "button", text: "Verify the chain", onclick: () => this.#verify() });
    this.element = el("div", {},
      el("div", { class: "page-head" }, el("h1", { text: "Audit" }), this.segments,
        el("label", { class: "field push", for: "audit-filter" }, "Filter", this.filter)),
      this.reach, this.list, el("p", { class: "section" }, this.more, " ", this.verify), this.chains);
    this.timer = setInterval(() => this.app.attempt(() => this.refresh()), EVERY);
  }

  close() {
    clearInterval(this.timer);
  }

  async refresh() {
    const [page, slack] = await Promise.all([get("audit", { limit: PAGE }), get("slack")]);
    this.#take(page);
    if (!this.#older) this.#next = page.next;
    this.reach.replaceChildren(...reachWords(slack));
  }

  event() {}

  #take(page) {
    for (const row of page.audit) this.#rows.set(`${row.chain}/${row.seq}`, row);
    this.#loaded = true;
    schedule(this.#draw);
  }

  async #showOlder() {
    await this.app.attempt(async () => {
      const page = await get("audit", { limit: PAGE, cursor: this.#next });
      this.#older = true;
      this.#next = page.next;
      this.#take(page);
    });
  }

  async #verify() {
    await this.app.attempt(async () => {
      const { chains } = await get("audit", { limit: "1", verify: "1" });
      this.chains.textContent = chains.length ? chains.map(chainWords).join(" · ") : "There is nothing to verify yet.";
    });
  }

  #choose(kind, pressed) {
    this.#kind = kind;
    for (const button of this.segments.children) button.setAttribute("aria-pressed", String(button === pressed));
    schedule(this.#draw);
  }

  #render() {
    const words = this.filter.value.trim().toLowerCase().split(/\s+/);
    const rows = [...this.#rows.values()].filter((row) => this.#wants(row, words)).sort((a, b) => b.time - a.time || b.seq - a.seq);
    const filtered = this.#kind !== "all" || this.filter.value.trim() !== "";
    this.more.hidden = this.#next === "";
    if (!rows.length) {
      this.list.replaceChildren(this.#loaded ? empty(filtered ? "Nothing matches" : "Nobody has asked for anything yet") : el("p", { class: "muted", text: "Loading…" }));
      return;
    }
    const head = el("tr", {}, ...["When", "Who", "Outcome", "What", "Where"].map((text) => el("th", { scope: "col", text })));
    this.list.replaceChildren(el("div", { class: "card audit-card" },
      el("table", { class: "audit" }, el("thead", {}, head), el("tbody", {}, ...rows.map(auditRow)))));
  }

  #wants(row, words) {
    if (this.#kind !== "all" && row.outcome !== this.#kind) return false;
    const text = [row.actor, row.verb, row.text, row.detail, row.outcome, row.source, ...row.hosts].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  }
}

function auditRow(row) {
  const time = el("time", { text: moment(row.time) });
  time.dateTime = new Date(row.time * 1000).toISOString();
  const where = row.hosts.length > 4 ? `${row.hosts.slice(0, 4).join(", ")} and ${row.hosts.length - 4} more` : row.hosts.join(", ") || "–";
  return el("tr", { "data-outcome": row.outcome },
    el("td", {}, time),
    el("td", { class: "who" }, el("span", { text: row.actor }), " ", el("span", { class: "muted small", text: row.source })),
    el("td", {}, pill(row.outcome, TONES[row.outcome] ?? "unknown")),
    el("td", { class: "asked" }, el("code", { text: row.text }), row.detail ? el("p", { text: row.detail }) : null),
    el("td", { text: where }));
}

function chainWords(chain) {
  if (chain.broken) return `${chain.chain}: changed at line ${chain.broken}: ${chain.why}`;
  return `${chain.chain}: ${chain.rows} lines, whole; the newest hash is ${chain.head}`;
}

function reachWords(slack) {
  const found = [];
  if (slack.mode === "off") found.push(pill("Slack cannot ask: no tokens for it", "unknown"));
  if (slack.mode === "http") found.push(pill("Slack asks by HTTP", "ok"));
  if (slack.mode === "socket") found.push(slack.socket.connected ? pill("Slack is connected", "ok") : pill(`Slack is not connected: ${slack.socket.error || "connecting"}`, "critical"));
  found.push(slack.signs ? pill("commands are signed", "ok") : pill("no key to sign with: hosts cannot be asked", "warning"));
  if (slack.audit_waiting) found.push(pill(`${slack.audit_waiting} entries wait for the database`, "warning"));
  return found;
}
