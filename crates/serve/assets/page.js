// The page as a whole: the list of routes, which of them is shown, what is said at the top.

import { at, operations } from "./call.js";
import { duration, count, h, say } from "./dom.js";
import { Live, callsGrid, isOf, overview, put, showCall } from "./live.js";
import { routeView } from "./route.js";
import { Schemas } from "./schema.js";

const place = (id) => document.getElementById(id);
const [main, list, search, menu, nav, dialog, status] = ["main", "list", "search", "menu", "routes", "detail", "status"].map(place);

let schemas;
let all = [];
let views = new Map();
const detail = (call) => showCall(dialog, call);

/// A link to the operations of a route as the state names it: `PUT,POST /orders`.
function link(route) {
  const [methods, path = ""] = route.split(" ");
  const known = all.find((one) => isOf(route, one));
  const name = [h("span", { class: `method ${methods.split(",")[0].toLowerCase()}` }, methods.replaceAll(",", " ")), " ", path];
  return known ? h("a", { class: "to-route", href: hash(known), "data-key": `route ${route}` }, name) : h("span", { class: "to-route" }, name);
}

const hash = ({ method, path }) => `#/${method}${encodeURI(path)}`;

const home = overview(detail, link);
const live = new Live(changed);

function changed() {
  const { state, lost } = live;
  top(state, lost);
  if (live.restarted) {
    live.restarted = false;
    load();
  }
  if (!state) return;
  home.update(live);
  for (const operation of all) {
    const row = live.route(operation);
    operation.badge?.classList.toggle("some", Boolean(row?.errors));
    if (operation.badge) say(operation.badge, row?.errors ? `${count(row.errors)} failed` : "");
  }
  current()?.view?.update();
}

function top(state, lost) {
  const tone = lost ? "bad" : !state ? "" : state.broken?.length ? "warn" : state.ready ? "good" : "warn";
  const words = lost ? "No contact with the server" : !state ? "" : [state.ready ? state.reason : `Not ready: ${state.reason}`, brokenWords(state)].filter(Boolean).join(" · ");
  if (status.dataset.words === words + tone) return;
  status.dataset.words = words + tone;
  status.replaceChildren(h("i", { class: `dot ${tone}` }), h("span", {}, words));
}

function brokenWords({ broken }) {
  if (!broken?.length) return "";
  return broken.length === 1 ? `${broken[0].module} is broken` : `${broken.length} modules are broken`;
}

// === the list ===

function draw() {
  const groups = new Map();
  for (const operation of all) {
    const [tag] = operation.tags;
    groups.set(tag, [...(groups.get(tag) ?? []), operation]);
  }
  list.replaceChildren(
    h("a", { class: "home", href: "#/" }, "Overview"),
    ...[...groups].map(([tag, members]) => h("section", { class: "group", "aria-label": tag }, h("h2", {}, tag), h("ul", {}, members.map(item)))),
    h("p", { class: "empty none", hidden: true }, "No route is like that."));
  sift();
  mark();
}

function item(operation) {
  operation.badge = h("span", { class: "badge" });
  operation.entry = h("li", {}, h("a", { href: hash(operation), title: operation.summary || operation.id, class: operation.deprecated ? "old" : null },
    h("span", { class: `method ${operation.method.toLowerCase()}` }, operation.method), h("span", { class: "entry" }, operation.path), operation.badge));
  return operation.entry;
}

function sift() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const operation of all) {
    const text = [operation.id, operation.summary, operation.description, ...operation.tags].join(" ").toLowerCase();
    operation.entry.hidden = !words.every((word) => text.includes(word));
  }
  for (const group of list.querySelectorAll(".group")) group.hidden = !group.querySelector("li:not([hidden])");
  list.querySelector(".none").hidden = all.some((one) => !one.entry.hidden);
}

// === what is shown ===

function current() {
  return all.find((one) => hash(one) === location.hash) ?? all.find((one) => hash(one) === decodeURI(location.hash));
}

function viewOf(operation) {
  let view = views.get(operation);
  if (view) return view;
  const { rest } = /\{\*(?<rest>[^}]*)\}$/.exec(live.route(operation)?.route ?? "")?.groups ?? {};
  operation.rest = rest === undefined ? undefined : /\{([^}]*)\}$/.exec(operation.path)?.[1];
  const element = routeView(schemas, operation, (id) => live.more(id));
  const figures = h("p", { class: "route-figures" });
  const calls = h("section", { class: "panel", "aria-label": "Last calls of this route" });
  element.querySelector(".route-head").append(figures);
  element.append(calls);
  const update = () => {
    const row = live.route(operation);
    if (!row) return;
    say(figures, row.calls === 0 ? "Not called yet" : [
      `${count(row.calls)} call${row.calls === 1 ? "" : "s"}`,
      row.errors ? `${count(row.errors)} failed` : null,
      row.p50_ms === null ? null : `p50 ${duration(row.p50_ms)}`,
      row.p99_ms === null ? null : `p99 ${duration(row.p99_ms)}`,
      row.in_flight ? `${count(row.in_flight)} now` : null,
      row.waiting ? `${count(row.waiting)} wait` : null,
    ].filter(Boolean).join(" · "));
    const own = live.state.calls.filter((call) => call.route === row.route).slice(0, 8);
    put(calls, own.length ? [h("h2", {}, "Last calls"), callsGrid(own, detail)] : []);
  };
  view = { element, update };
  views.set(operation, view);
  return view;
}

function show() {
  const operation = current();
  const view = operation ? viewOf(operation) : home;
  if (operation) operation.view = view;
  if (main.firstElementChild !== view.element || main.childElementCount !== 1) main.replaceChildren(view.element);
  document.title = operation ? `${operation.id} · Exuvia` : "Exuvia";
  if (operation) view.update();
  mark();
}

function mark() {
  for (const anchor of list.querySelectorAll("a")) {
    const here = anchor.getAttribute("href") === (current() ? hash(current()) : "#/");
    if (here) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
}

function close() {
  nav.classList.remove("open");
  menu.setAttribute("aria-expanded", "false");
}

async function load() {
  try {
    const response = await fetch(at("/openapi.json"), { cache: "no-cache" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const document = await response.json();
    schemas = new Schemas(document);
    all = operations(document, schemas);
    views = new Map();
    draw();
    show();
  } catch (error) {
    list.replaceChildren(h("p", { class: "empty" }, `The routes cannot be read: ${error.message}`));
    show();
  }
}

// === what people do ===

addEventListener("hashchange", () => {
  show();
  close();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
list.addEventListener("click", (event) => event.target.closest("a") && close());
search.addEventListener("input", sift);
search.addEventListener("keydown", (event) => {
  if (event.key === "Enter") list.querySelector(".group:not([hidden]) li:not([hidden]) a")?.click();
});
menu.addEventListener("click", () => {
  const open = nav.classList.toggle("open");
  menu.setAttribute("aria-expanded", String(open));
  if (open) search.focus();
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !dialog.open) {
    event.preventDefault();
    nav.classList.add("open");
    menu.setAttribute("aria-expanded", "true");
    search.focus();
  }
  if (event.key === "Escape" && nav.classList.contains("open")) {
    close();
    menu.focus();
  }
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
// A file that misses its place must not take the page away.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());

await live.ask();
await load();
live.start();
