// Tables in what came: found, shown, sorted.

import { count, h } from "./dom.js";

const SHOWN = 1000;

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isScalar = (value) => typeof value !== "object" || value === null;

/// Every table in a value: `{ label, columns: [{ name, values }], length }`.
export function tables(value, label = "", depth = 0) {
  const own = asTable(value);
  if (own) return [{ label, ...own }];
  if (!isObject(value) || depth > 2) return [];
  const inside = Object.entries(value).flatMap(([name, member]) => (isScalar(member) ? [] : tables(member, label ? `${label}.${name}` : name, depth + 1)));
  const scalars = Object.entries(value).filter(([, member]) => isScalar(member));
  if (scalars.length && (inside.length === 0 || depth === 0)) {
    inside.push({ label: inside.length ? "the rest" : label, ...record(scalars) });
  }
  return inside;
}

function asTable(value) {
  if (Array.isArray(value)) return value.length ? ofList(value) : null;
  return isObject(value) ? ofColumns(value) : null;
}

function ofList(list) {
  if (list.every(isObject)) {
    const names = new Set(list.slice(0, SHOWN).flatMap(Object.keys));
    return { length: list.length, columns: [...names].map((name) => ({ name, values: list.map((row) => row[name]) })) };
  }
  if (list.every((row) => Array.isArray(row) && row.length === list[0].length && row.length <= 64 && row.every(isScalar)) && list[0].length) {
    return { length: list.length, columns: list[0].map((_, at) => ({ name: String(at), values: list.map((row) => row[at]) })) };
  }
  if (list.every(isScalar) && list.length > 1) return { length: list.length, columns: [{ name: "value", values: list }], plain: true };
  return null;
}

function ofColumns(value) {
  const columns = Object.entries(value);
  const [first] = columns;
  if (!first || !Array.isArray(first[1]) || first[1].length === 0) return null;
  const alike = columns.every(([, values]) => Array.isArray(values) && values.length === first[1].length && values.every(isScalar));
  return alike ? { length: first[1].length, columns: columns.map(([name, values]) => ({ name, values })) } : null;
}

function record(scalars) {
  return {
    length: scalars.length,
    record: true,
    columns: [{ name: "name", values: scalars.map(([name]) => name) }, { name: "value", values: scalars.map(([, value]) => value) }],
  };
}

export const isNumeric = ({ values }) => {
  const given = values.filter((value) => value !== null && value !== undefined);
  return given.length > 0 && given.every((value) => typeof value === "number" || typeof value === "bigint");
};

/// A value as a cell shows it.
export function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
  return typeof value === "object" ? JSON.stringify(value, (_, one) => (typeof one === "bigint" ? String(one) : one)) : String(value);
}

/// How the numbers of a column are written: with as many digits after the point as the longest has.
function numbers(values) {
  const digits = values.slice(0, SHOWN).map((value) => (typeof value === "number" ? /^-?\d+(?:\.(\d+))?$/.exec(cell(value)) : []));
  const most = Math.max(0, ...digits.map((found) => (found ? found[1]?.length ?? 0 : Infinity)));
  return most > 0 && most <= 4 ? (value) => (typeof value === "number" ? value.toFixed(most) : cell(value)) : cell;
}

/// Smaller before larger, what is missing at the end whichever way.
function order(values, down) {
  const places = values.map((_, at) => at);
  const missing = (value) => value === null || value === undefined;
  const text = new Intl.Collator("en", { numeric: true });
  return places.sort((one, other) => {
    const [a, b] = [values[one], values[other]];
    if (missing(a) || missing(b)) return Number(missing(a)) - Number(missing(b));
    const number = (value) => typeof value === "number" || typeof value === "bigint";
    const difference = number(a) && number(b) ? (a < b ? -1 : a > b ? 1 : 0) : text.compare(cell(a), cell(b));
    return down ? -difference : difference;
  });
}

/// A table to look at. Headers sort it.
export function tableView({ columns, length, label, record: isRecord }) {
  const numeric = columns.map(isNumeric);
  const written = columns.map(({ values }, at) => (numeric[at] ? numbers(values) : cell));
  const body = h("tbody");
  let sorted = { at: undefined, down: false };
  const rows = () => {
    const places = sorted.at === undefined ? Array.from({ length: Math.min(length, SHOWN) }, (_, at) => at)
      : order(columns[sorted.at].values, sorted.down).slice(0, SHOWN);
    body.replaceChildren(...places.map((place) => h("tr", {}, columns.map(({ values }, at) => one(values[place], written[at], numeric[at], at === 0 && isRecord)))));
  };
  const headers = columns.map(({ name }, at) => {
    const header = h("th", { scope: "col", class: numeric[at] ? "number" : null });
    header.append(h("button", {
      type: "button",
      onclick() {
        sorted = { at, down: sorted.at === at && !sorted.down };
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
        rows();
      },
    }, name));
    return header;
  });
  rows();
  const caption = length > SHOWN ? `the first ${count(SHOWN)} of ${count(length)} rows` : "";
  const grid = h("table", { class: "grid" }, h("thead", {}, h("tr", {}, headers)), body);
  const scroll = h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": `Table${label ? ` ${label}` : ""}, ${count(length)} rows` }, grid);
  return h("div", { class: "table" }, scroll, caption ? h("p", { class: "hint" }, `These are ${caption}; sorting sorts all of them.`) : null);
}

function one(value, write, isNumber, isName) {
  if (value === null || value === undefined) return h("td", { class: isNumber ? "null number" : "null" }, "–");
  const text = write(value);
  const short = text.length > 200 ? `${text.slice(0, 200)}…` : text;
  return h(isName ? "th" : "td", { class: isNumber ? "number" : null, scope: isName ? "row" : null, title: text.length > 40 || (isNumber && text !== String(value)) ? cell(String(value)).slice(0, 2000) : null }, short);
}

/// A table as CSV.
export function csv({ columns, length }) {
  const quoted = (value) => {
    const text = typeof value === "number" ? String(value) : cell(value);
    // A cell that a spreadsheet would take for a formula stays text.
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll("\"", "\"\"")}"` : safe;
  };
  const lines = Array.from({ length }, (_, at) => columns.map(({ values }) => quoted(values[at])).join(","));
  return [columns.map(({ name }) => quoted(name)).join(","), ...lines, ""].join("\r\n");
}
