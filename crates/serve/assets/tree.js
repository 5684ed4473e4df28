// JSON to look at: objects and lists open and close, and are made when they are opened.

import { h } from "./dom.js";

const CHUNK = 100;
const OPEN = 2;

/// A view of any value.
export const tree = (value) => h("div", { class: "tree" }, node(undefined, value, 0));

function node(name, value, depth) {
  const key = name === undefined ? null : h("span", { class: "key" }, typeof name === "number" ? `${name}` : name, ": ");
  if (typeof value !== "object" || value === null) return h("div", { class: "leaf" }, key, leaf(value));
  const list = Array.isArray(value);
  const names = list ? value : Object.keys(value);
  if (names.length === 0) return h("div", { class: "leaf" }, key, list ? "[]" : "{}");
  const size = list ? `${names.length} item${names.length === 1 ? "" : "s"}` : `${names.length} member${names.length === 1 ? "" : "s"}`;
  const inside = h("div", { class: "inside" });
  const details = h("details", {}, h("summary", {}, key, h("span", { class: "size" }, list ? `[ ${size} ]` : `{ ${size} }`)), inside);
  let made = false;
  const make = () => {
    if (made || !details.open) return;
    made = true;
    grow(inside, value, list ? null : names, 0, depth);
  };
  details.addEventListener("toggle", make);
  details.open = depth < OPEN && names.length <= CHUNK;
  make();
  return details;
}

function grow(inside, value, names, from, depth) {
  const length = names ? names.length : value.length;
  const to = Math.min(length, from + CHUNK);
  for (let at = from; at < to; at += 1) {
    const name = names ? names[at] : at;
    inside.append(node(name, value[name], depth + 1));
  }
  if (to === length) return;
  const more = h("button", { type: "button", class: "quiet small" }, `${length - to} more`);
  more.addEventListener("click", () => {
    more.remove();
    grow(inside, value, names, to, depth);
  });
  inside.append(more);
}

function leaf(value) {
  if (typeof value === "string") return h("span", { class: "text" }, JSON.stringify(value));
  if (value === null) return h("span", { class: "word" }, "null");
  return h("span", { class: typeof value === "boolean" ? "word" : "figure" }, String(value));
}
