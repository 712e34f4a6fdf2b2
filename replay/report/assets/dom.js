// Elements. Every text goes in as text: there is no way from here to markup.

// Return an element: h("a", {class: "x", href: "#seq=1", onclick: f}, "text", child, ...).
function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : shownText(child));
  }
}

// Control characters, and those that turn the order of what is shown around.
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

// Return a text with what would not be seen made visible: a guest may have chosen it.
function shownText(value) {
  return String(value).replace(CONTROL, (each) => `\\x${each.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

function setText(element, text) {
  const shown = shownText(text);
  if (element.textContent !== shown) element.textContent = shown;
}

function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

function seconds(ns) {
  return (ns / 1e9).toFixed(6);
}

// Return a link to an event of a trace: an address that can be shared.
function eventLink(trace, seq, text = `#${seq}`, props = {}) {
  return h("a", { href: `#${trace.key}=${seq}`, class: "event-link", ...props }, text);
}

function cssColour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

const LANE_COLOURS = [
  "--lane-register", "--lane-command", "--lane-msi", "--lane-save", "--lane-reset", "--lane-table",
  "--lane-other",
];
