// The live stream, read with fetch rather than EventSource: this way the heartbeats are seen, a dead
// connection is noticed, and a refusal can be told from a network that is down.

import { refusal } from "./api.js";

const SILENCE = 40_000; // the collector's heartbeat comes every 15 s
const LONGEST_PAUSE = 20_000;
const HIDDEN = 60_000; // a page that nobody sees lets go of its connection, of which a browser has six

export class Stream {
  #query = null;
  #abort = null;
  #failures = 0;
  #timers = {};

  /** `onOpen` whenever the stream starts anew: what came before was missed. `onEvent(kind, data)`. `onState(live)`. */
  constructor({ onOpen, onEvent, onState }) {
    Object.assign(this, { onOpen, onEvent, onState });
    document.addEventListener("visibilitychange", () => this.#seen());
    addEventListener("online", () => this.#reconnectNow());
  }

  /** Reads with these parameters from now on. */
  open(query) {
    this.#query = query;
    this.#reconnectNow();
  }

  #reconnectNow() {
    clearTimeout(this.#timers.retry);
    this.#abort?.abort();
    if (this.#query !== null) this.#read(this.#query);
  }

  #seen() {
    clearTimeout(this.#timers.hide);
    if (document.hidden) this.#timers.hide = setTimeout(() => this.#abort?.abort("hidden"), HIDDEN);
    else if (this.#abort === null || this.#abort.signal.aborted) this.#reconnectNow();
  }

  async #read(query) {
    const abort = new AbortController();
    this.#abort = abort;
    try {
      const response = await fetch(`/api/v1/stream?${new URLSearchParams(query)}`, { signal: abort.signal, cache: "no-store" });
      if (!response.ok) throw await refusal(response);
      this.#failures = 0;
      this.onState(true);
      this.onOpen();
      await this.#follow(response.body.pipeThrough(new TextDecoderStream()).getReader(), abort);
    } catch {
      // what went wrong shows as "reconnecting"; the browser's own log has the rest
    }
    if (this.#abort !== abort) return; // replaced by a newer one
    clearTimeout(this.#timers.silence);
    this.onState(false);
    if (abort.signal.reason !== "hidden") this.#retry();
  }

  #retry() {
    const pause = Math.min(LONGEST_PAUSE, 500 * 2 ** this.#failures) * (0.5 + Math.random() / 2);
    this.#failures += 1;
    this.#timers.retry = setTimeout(() => this.#reconnectNow(), pause);
  }

  async #follow(reader, abort) {
    let rest = "";
    for (;;) {
      clearTimeout(this.#timers.silence);
      this.#timers.silence = setTimeout(() => abort.abort("silent"), SILENCE);
      const { value, done } = await reader.read();
      if (done || abort.signal.aborted) return;
      const blocks = (rest + value).split("\n\n");
      rest = blocks.pop();
      for (const block of blocks) this.#take(block);
    }
  }

  #take(block) {
    let kind = "";
    let data = "";
    for (const line of block.split("\n")) {
      if (line.startsWith("event: ")) kind = line.slice(7);
      else if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (kind) this.onEvent(kind, JSON.parse(data));
  }
}
