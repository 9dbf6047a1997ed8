// The shell: which page is shown, the one stream that feeds it, and what stands in the bar.

import { AuditPage } from "./audit.js";
import { clock } from "./format.js";
import { el, say } from "./element.js";
import { FleetPage } from "./fleet.js";
import { GalleryPage } from "./gallery.js";
import { HostPage } from "./host.js";
import { IncidentPage } from "./incident.js";
import { IncidentsPage } from "./incidents.js";
import { State } from "./state.js";
import { Stream } from "./stream.js";
import { empty, refreshTimes, title } from "./words.js";

const STALE = 60_000;
const main = document.getElementById("main");
const connection = document.getElementById("connection");
const connectionText = document.getElementById("connection-text");
const openCount = document.getElementById("open-count");
const announcer = document.getElementById("announcer");

class App {
  state = new State();
  page = null;
  #query = null;
  #live = false;
  #since = Date.now();
  #opened = false;

  start() {
    this.stream = new Stream({
      onOpen: () => this.attempt(() => this.#sync()),
      onEvent: (kind, data) => this.#event(kind, data),
      onState: (live) => this.#connected(live),
    });
    addEventListener("popstate", () => this.#route());
    document.addEventListener("click", (event) => this.#click(event));
    setInterval(() => this.#tick(), 1000);
    this.#route();
  }

  /** Runs `work`, and says on the page what went wrong with it. */
  async attempt(work) {
    try {
      await work();
      document.querySelector(".trouble")?.remove();
      if (!this.page.element.isConnected) main.replaceChildren(this.page.element);
    } catch (error) {
      if (error.name === "AbortError") return;
      document.querySelector(".trouble")?.remove();
      if (error.status === 404) main.replaceChildren(empty("Not found", `${error.message}.`, el("p", {}, el("a", { href: "/", text: "To the fleet" }))));
      else if (error.status !== undefined) main.prepend(el("p", { class: "trouble", role: "alert", text: `The collector answered: ${error.message}` }));
    }
  }

  retitle() {
    const count = this.state.open.size;
    document.title = `${count ? `(${count}) ` : ""}${this.page.title} · Tocsin`;
    openCount.hidden = count === 0;
    say(openCount, String(count));
    openCount.setAttribute("aria-label", `${count} open`);
  }

  #route() {
    this.page?.close?.();
    this.page = pageFor(this, location.pathname);
    main.replaceChildren(this.page.element);
    for (const link of document.querySelectorAll("[data-nav]")) {
      if (link.dataset.nav === this.page.name) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.retitle();
    const query = JSON.stringify(this.page.stream);
    if (query === this.#query && this.#live) return void this.attempt(() => this.page.refresh());
    this.#query = query;
    this.stream.open(this.page.stream);
  }

  #click(event) {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    if (link.origin !== location.origin || link.target || link.hash || /^\/(api|static|login|logout|metrics|healthz)/.test(link.pathname)) return;
    event.preventDefault();
    history.pushState(null, "", link.pathname + link.search);
    this.#route();
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }

  /** After every start of the stream: events are missed in between, so the present state is fetched. */
  async #sync() {
    await this.state.sync();
    this.#opened = true;
    this.retitle();
    await this.page.refresh();
  }

  #event(kind, data) {
    const change = this.state.take(kind, data);
    if (change && this.#opened) this.#announce(change, data);
    if (this.page.element.isConnected) this.page.event(kind, data);
    else if (data.id === this.page.id || data.host === this.page.host) this.attempt(() => this.page.refresh()); // it was not found before
  }

  #announce(change, incident) {
    this.retitle();
    announcer.append(el("span", { text: `${change}: ${incident.severity}, ${title(incident)}, on ${incident.host}. ` }));
    while (announcer.children.length > 5) announcer.firstElementChild.remove();
  }

  #connected(live) {
    if (this.#live !== live) this.#since = Date.now();
    this.#live = live;
    this.#showConnection();
  }

  #tick() {
    refreshTimes(document);
    this.#showConnection();
  }

  #showConnection() {
    const [state, text] = this.#connectionWords();
    connection.dataset.state = state;
    say(connectionText, text);
  }

  #connectionWords() {
    if (!this.#live) return this.#opened ? ["reconnecting", `Reconnecting since ${clock(this.#since / 1000)}`] : ["connecting", "Connecting…"];
    const latest = Math.max(this.state.lastSample, this.#since);
    const expects = this.page.stream.kind === undefined && this.state.hosts.size > 0;
    if (expects && Date.now() - latest > STALE) return ["stale", `No data since ${clock(latest / 1000)}`];
    return ["live", "Live"];
  }
}

function pageFor(app, path) {
  if (path === "/audit") return new AuditPage(app);
  const [, section, name] = path.match(/^\/(?:(hosts|incidents|gallery)(?:\/([^/]+))?)?$/) ?? [];
  if (section === "hosts" && name) return new HostPage(app, decodeURIComponent(name));
  if (section === "incidents") return name ? new IncidentPage(app, decodeURIComponent(name)) : new IncidentsPage(app);
  if (section === "gallery") return new GalleryPage(app);
  return new FleetPage(app);
}

new App().start();
