// Making elements and writing numbers. Everything foreign becomes text here, never markup.

/// An element: `h("a", { href: "#/", class: "x", onclick: f }, "text", child)`.
export function h(tag, attributes, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/// The same in SVG.
export function s(tag, attributes, ...children) {
  return build(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function build(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(4).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

let unique = 0;

/// A name for an element that labels point to.
export const fresh = (word) => `${word}-${++unique}`;

/// Sets an element's text only where it differs, so that nothing is read aloud twice.
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/// Puts new rows in place of old ones but keeps those that are the same, with what was focused.
export function fill(parent, ...children) {
  parent.replaceChildren(...children.flat(4).filter(Boolean));
  return parent;
}

/// What a program says, as a sentence begins.
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/// `1.2 s`, `340 ms`, `0.4 ms`.
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms < 1) return `${trim(ms, 2)} ms`;
  if (ms < 100) return `${trim(ms, 1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${trim(ms / 1000, 2)} s`;
  return age(ms / 1000);
}

/// `12 s`, `4 min`, `3 h 20 min`, `2 d 4 h`.
export function age(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${hours / 24} d`;
}

/// `52.4 MB`.
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  for (const [unit, size] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (count >= size) return `${trim(count / size, count >= 100 * size ? 0 : 1)} ${unit}`;
  }
  return `${count} B`;
}

/// `12,345`.
export const count = (number) => Number(number).toLocaleString("en");

const trim = (number, digits) => String(Number(number.toFixed(digits)));

/// A text as paragraphs: blank lines part them, lines of one are joined, indented ones are kept.
/// What stands in backticks is code.
export function paragraphs(text) {
  const blocks = text.replace(/\r\n?/g, "\n").split(/\n[ \t]*\n/);
  return blocks.filter((block) => block.trim()).map((block) => {
    const lines = block.split("\n");
    const list = lines.every((line, at) => at === 0 ? /^\s*[*-] /.test(line) : true);
    if (list) return h("ul", {}, items(lines).map((item) => h("li", {}, inline(item))));
    if (lines.every((line) => /^(\s{4}|\t)|^>>> /.test(line))) return h("pre", {}, dedented(lines));
    return h("p", {}, inline(lines.map((line) => line.trim()).join(" ")));
  });
}

function dedented(lines) {
  const margin = Math.min(...lines.map((line) => line.search(/\S|$/)));
  return lines.map((line) => line.slice(margin)).join("\n");
}

function items(lines) {
  const found = [];
  for (const line of lines) {
    const item = /^\s*[*-] (.*)/.exec(line);
    if (item) found.push(item[1]);
    else found[found.length - 1] += ` ${line.trim()}`;
  }
  return found;
}

/// A line with `code` in it.
export function inline(text) {
  return text.split(/(``?[^`]+``?)/).map((part) => {
    const code = /^``?([^`]+)``?$/.exec(part);
    return code ? h("code", {}, code[1]) : part;
  });
}

/// Puts a text on the clipboard, also where the page is not on a secure origin.
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "unseen", value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

/// A button that copies what `text()` gives, and says so.
export function copyButton(text, label = "Copy") {
  const button = h("button", { type: "button", class: "quiet small" }, label);
  button.addEventListener("click", async () => {
    await copy(text());
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = label; }, 1600);
  });
  return button;
}

/// Gives a blob to the user as a file.
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
