// Elements, built without markup: whatever a host sent is text or an attribute, never HTML.

/** el("p", {class: "x", text: "…", "aria-label": "…", onclick: f}, child, …): attributes that are null or false are left out. */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets the text only where it differs, so that nothing is laid out for nothing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets or removes an attribute only where it differs. */
export function mark(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

const due = new Set();
let frame = 0;

/** Runs `work` once before the next paint, however often it is asked for until then. */
export function schedule(work) {
  due.add(work);
  if (frame === 0) frame = requestAnimationFrame(run);
}

function run() {
  frame = 0;
  const works = [...due];
  due.clear();
  for (const work of works) work();
}
