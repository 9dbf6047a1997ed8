// What each message looks like in Slack: sample incidents, written by the code that writes the real ones.

import { get } from "./api.js";
import { el } from "./element.js";
import { moment } from "./format.js";

const WIDTHS = [["desktop", "Desktop"], ["phone", "Phone"]];
const EMOJI = { eyes: "👀", no_bell: "🔕", left_right_arrow: "↔", bell: "🔔" };
const DOTS = { red_circle: "critical", large_yellow_circle: "warning", large_blue_circle: "info", large_green_circle: "ok" };

export class GalleryPage {
  name = "gallery";
  title = "Messages";
  stream = { kind: "incident" };

  constructor() {
    this.widths = el("div", { class: "segments", role: "group", "aria-label": "Width" },
      ...WIDTHS.map(([width, text]) => el("button", { type: "button", "aria-pressed": String(width === "desktop"), "data-width": width, text, onclick: () => this.#choose(width) })));
    this.index = el("nav", { class: "index", "aria-label": "Messages" });
    this.list = el("div", { class: "shots" }, el("p", { class: "muted", text: "Loading…" }));
    this.element = el("div", { class: "gallery", "data-width": "desktop" },
      el("p", { class: "crumb" }, el("a", { href: "/incidents", text: "Incidents" })),
      el("div", { class: "page-head" }, el("h1", { text: "What each message looks like" }), this.widths),
      el("p", { class: "lead", text: "Made-up incidents, written by the code that writes the real messages, and drawn about as Slack draws them. Nothing here is clickable." }),
      el("div", { class: "wall" }, this.index, this.list));
  }

  async refresh() {
    if (this.index.childElementCount) return; // it does not change
    const { messages, picture } = await get("gallery");
    const shots = messages.map((message, index) => shot(message, picture && index === 0));
    this.list.replaceChildren(...shots);
    this.index.replaceChildren(...messages.map((message, index) => el("button", { type: "button", text: message.says, onclick: () => show(shots[index]) })));
  }

  event() {}

  #choose(width) {
    this.element.dataset.width = width;
    for (const button of this.widths.children) button.setAttribute("aria-pressed", String(button.dataset.width === width));
  }
}

function show(element) {
  element.scrollIntoView({ block: "start" });
  element.focus({ preventScroll: true });
}

function shot(message, picture) {
  return el("article", { class: "shot", id: `message-${message.name}`, tabindex: "-1", "aria-label": message.says, "data-thread": message.thread },
    el("h2", { text: message.says }),
    el("div", { class: "slack card" },
      el("img", { class: "face", src: "/static/bell.svg", alt: "", width: "36", height: "36" }),
      el("div", { class: "said" },
        el("p", { class: "who" }, el("b", { text: "Tocsin" }), el("span", { class: "app", text: "APP" }), message.thread ? el("span", { class: "muted", text: "in the thread" }) : null),
        ...(message.blocks.length || message.attachments.length ? message.blocks.map(block) : [el("p", {}, ...written(message.text))]),
        ...message.attachments.map(attachment),
        picture ? el("figure", {}, el("img", { class: "picture", src: "/api/v1/gallery/chart", alt: "The hour before it opened, as a chart with the limit", width: "800", height: "440" }), el("figcaption", { class: "muted small", text: "in its thread, where the app may send files" })) : null)));
}

function attachment(one) {
  const box = el("div", { class: "attached" }, ...one.blocks.map(block));
  if (/^#[0-9a-f]{6}$/i.test(one.color ?? "")) box.style.setProperty("--bar", one.color);
  return box;
}

function block(one) {
  if (one.type === "section" && one.fields) return el("div", { class: "fields" }, ...one.fields.map((field) => el("p", {}, ...written(field.text))));
  if (one.type === "section") return el("div", { class: "section-text" }, ...written(one.text.text));
  if (one.type === "header") return el("p", { class: "headline", text: one.text.text });
  if (one.type === "context") return el("div", { class: "context" }, ...one.elements.map((element) => el("p", {}, ...written(element.text))));
  if (one.type === "actions") return el("div", { class: "actions" }, ...one.elements.map((button) => el("span", { class: "press", "data-style": button.style, text: button.text.text })));
  if (one.type === "divider") return el("hr");
  return el("p", { class: "muted", text: `(${one.type})` });
}

/** Slack's mrkdwn as elements: bold, code, links, dates, mentions, emoji. */
function written(text) {
  const parts = [];
  const pattern = /```\n?([\s\S]*?)\n?```|`([^`\n]+)`|\*([^*\n]+)\*|<([^<>]+)>|:([a-z_]+):|\n/g;
  let at = 0;
  for (const found of text.matchAll(pattern)) {
    if (found.index > at) parts.push(unescaped(text.slice(at, found.index)));
    parts.push(piece(found));
    at = found.index + found[0].length;
  }
  if (at < text.length) parts.push(unescaped(text.slice(at)));
  return parts;
}

function piece([whole, fence, code, bold, control, emoji]) {
  if (fence !== undefined) return el("pre", { tabindex: "0", text: unescaped(fence) });
  if (code !== undefined) return el("code", { text: unescaped(code) });
  if (bold !== undefined) return el("b", {}, ...written(bold));
  if (control !== undefined) return controlled(control);
  if (emoji !== undefined) return pictured(emoji);
  return whole === "\n" ? el("br") : whole;
}

function controlled(control) {
  const [target, words] = control.split("|");
  const date = target.match(/^!date\^(\d+)\^/);
  if (date) return el("time", { text: moment(Number(date[1])) });
  if (target.startsWith("!") || target.startsWith("@")) return el("span", { class: "mention", text: `@${words ?? target.replace(/^[!@]/, "").replace(/^subteam\^/, "")}` });
  return el("span", { class: "link", text: unescaped(words ?? target) });
}

function pictured(name) {
  if (DOTS[name]) return el("span", { class: "dot-sign", "data-tone": DOTS[name], role: "img", "aria-label": name.replaceAll("_", " ") });
  return EMOJI[name] ? el("span", { role: "img", "aria-label": name.replaceAll("_", " "), text: EMOJI[name] }) : `:${name}:`;
}

const unescaped = (text) => text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
