// What happens on the server now, asked for each second while somebody looks.

import { at } from "./call.js";
import { spark } from "./chart.js";
import { age, bytes, count, duration, h, sentence } from "./dom.js";
import { outputView, stackView } from "./failure.js";

const EVERY = 1000;
const REMEMBERED = 60;

/// Asks for the state, remembers how it changed, and tells `changed`.
export class Live {
  constructor(changed) {
    this.changed = changed;
    this.state = undefined;
    this.lost = false;
    this.rates = [];
    this.memory = new Map();
    this.last = undefined;
  }

  start() {
    const tick = async () => {
      if (document.visibilityState === "visible") await this.ask();
      setTimeout(tick, EVERY);
    };
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.ask());
    return tick();
  }

  async ask() {
    try {
      const response = await fetch(at("/_exuvia/state.json"), { cache: "no-store", signal: AbortSignal.timeout(10_000) });
      if (!response.ok) throw new Error(`the state came with status ${response.status}`);
      this.take(await response.json());
      this.lost = false;
    } catch {
      this.lost = true;
    }
    this.changed(this);
  }

  take(state) {
    const total = state.routes.reduce((sum, route) => sum + route.calls, 0);
    const now = performance.now();
    if (this.last && total >= this.last.total) {
      this.rates.push(((total - this.last.total) * 1000) / Math.max(1, now - this.last.now));
      if (this.rates.length > REMEMBERED) this.rates.shift();
    }
    this.restarted = this.state !== undefined && state.uptime_s < this.state.uptime_s;
    this.last = { total, now };
    for (const { worker, rss } of state.workers) {
      const seen = this.memory.get(worker) ?? [];
      if (rss) seen.push(rss);
      if (seen.length > REMEMBERED) seen.shift();
      this.memory.set(worker, seen);
    }
    const alive = new Set(state.workers.map((one) => one.worker));
    for (const worker of this.memory.keys()) if (!alive.has(worker)) this.memory.delete(worker);
    this.state = state;
  }

  /// The row of an operation: rows may name several methods.
  route(operation) {
    return this.state?.routes.find(({ route }) => isOf(route, operation));
  }

  /// What more is known of a call; nothing where nothing is.
  async more(id) {
    await this.ask();
    const known = [...(this.state?.calls ?? []), ...(this.state?.failures ?? [])].find((call) => call.id === id);
    return known?.has_more ? callOf(id) : undefined;
  }
}

/// Whether a route as the state names it, `PUT,POST /orders/{*id}`, is the operation's. Documents
/// have no word for the rest of a path, and may name its places otherwise.
export function isOf(route, { method, path }) {
  const [methods, own = ""] = route.split(" ");
  const places = (text) => text.replace(/\{[^}]*\}/g, "{}");
  return places(own) === places(path) && methods.split(",").includes(method);
}

async function callOf(id) {
  try {
    const response = await fetch(at(`/_exuvia/calls/${encodeURIComponent(id)}.json`), { cache: "no-store" });
    return response.ok ? await response.json() : undefined;
  } catch {
    return undefined;
  }
}

// === the overview ===

/// The page's first view. `update(live)` brings it to the present.
export function overview(detail, link) {
  const sections = { notices: h("div"), figures: h("dl", { class: "figures" }), running: h("div"), routes: h("div"), workers: h("div"), calls: h("div") };
  const filter = { failed: false };
  let live;
  const element = h("article", { class: "overview" },
    h("h1", { class: "unseen" }, "Overview"), sections.notices, sections.figures, sections.running, sections.routes, sections.workers, sections.calls);
  const update = (now) => {
    live = now;
    const { state } = live;
    if (!state) return;
    put(sections.notices, notices(state, link));
    put(sections.figures, figures(live));
    put(sections.running, runningView(state, link));
    put(sections.routes, routesView(state, link));
    put(sections.workers, workersView(live));
    put(sections.calls, callsView(filter.failed ? state.failures ?? [] : state.calls, detail, link, {
      failed: filter.failed,
      choose(failed) {
        filter.failed = failed;
        update(live);
      },
    }));
  };
  return { element, update };
}

let pressed;
addEventListener("pointerdown", (event) => { pressed = event.target; }, true);
for (const kind of ["pointerup", "pointercancel"]) addEventListener(kind, () => { pressed = undefined; }, true);

/// Whether somebody is at it: a click that has begun must end where it began, and what is marked to
/// be copied must stay.
function isInUse(section) {
  const selection = getSelection();
  const marked = !selection.isCollapsed && selection.containsNode(section, true);
  return marked || (pressed !== undefined && section.contains(pressed));
}

/// New rows in place of old ones where they differ. The focus and what was opened are kept, by
/// `data-key`.
export function put(section, children) {
  if (isInUse(section)) return;
  const keyed = (inside, css) => new Map([...inside.querySelectorAll(css)].map((one) => [one.dataset.key, one]));
  const next = section.cloneNode(false);
  next.append(...[children].flat(4).filter(Boolean));
  const before = keyed(section, "details[data-key]");
  for (const [key, details] of keyed(next, "details[data-key]")) details.open = before.get(key)?.open ?? details.open;
  if (next.isEqualNode(section)) return;
  const focus = section.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const scrolled = [...section.querySelectorAll(".scroll")].map((one) => [one.scrollLeft, one.scrollTop]);
  section.replaceChildren(...next.childNodes);
  section.querySelectorAll(".scroll").forEach((one, index) => scrolled[index] && one.scrollTo(...scrolled[index]));
  if (focus) keyed(section, "[data-key]").get(focus)?.focus({ preventScroll: true });
}

function notices({ broken, stubs }, link) {
  const modules = (broken ?? []).map(({ module, file, message, traceback }) => h("section", { class: "notice bad", "aria-label": `Broken module ${module}` },
    h("h2", {}, h("code", {}, module), " is not served"),
    h("p", {}, message || `${file || module} cannot be imported.`),
    traceback ? h("details", { open: true, "data-key": `broken ${module}` }, h("summary", {}, "Traceback"), h("pre", { tabindex: "0", "data-key": `trace ${module}` }, traceback)) : null));
  const missing = stubs?.length ? h("section", { class: "notice", "aria-label": "Stubs" },
    h("h2", {}, stubs.length === 1 ? "One operation has no handler yet" : `${stubs.length} operations have no handler yet`),
    h("ul", {}, stubs.map((route) => h("li", {}, link(route))))) : null;
  return [modules, missing];
}

function figures({ state, rates }) {
  const calls = state.routes.reduce((sum, route) => sum + route.calls, 0);
  const errors = state.routes.reduce((sum, route) => sum + route.errors, 0);
  const rate = rates.at(-1) ?? 0;
  const figure = (name, value, more, tone) => h("div", { class: `figure ${tone ?? ""}` }, h("dt", {}, name), h("dd", {}, h("b", {}, value), more ? h("span", {}, more) : null));
  return [
    figure("Calls a second", rate < 10 ? rate.toFixed(1) : count(Math.round(rate)), rates.length > 1 ? spark(rates, 0, 84, 22) : null),
    figure("Calls", count(calls), `up ${age(state.uptime_s)}`),
    figure("Failed", count(errors), calls ? `${share(errors, calls)} of calls` : "", errors ? "tone-bad" : ""),
    figure("Running", count(state.routes.reduce((sum, route) => sum + route.in_flight, 0)), `${count(state.connections)} connection${state.connections === 1 ? "" : "s"}`),
    figure("Queue", count(state.queue.length), `of ${count(state.queue.limit)}${state.queue.rejected ? `, ${count(state.queue.rejected)} refused` : ""}`, state.queue.length ? "tone-warn" : ""),
  ];
}

const share = (part, all) => (part === 0 ? "none" : part / all < 0.001 ? "< 0.1 %" : `${((100 * part) / all).toFixed(1)} %`);

const section = (title, ...children) => h("section", { class: "panel" }, h("h2", {}, title), children);

function grid(label, names, rows) {
  const head = h("thead", {}, h("tr", {}, names.map(([name, kind]) => h("th", { scope: "col", class: kind }, name))));
  return h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label, "data-key": `region ${label}` }, h("table", { class: "list" }, head, h("tbody", {}, rows)));
}

const cells = (values) => values.map(([value, kind]) => h("td", { class: kind }, value));

function runningView({ running }, link) {
  // What ends at once is no news.
  const long = running.filter((call) => call.for_ms > 500).slice(0, 10);
  if (!long.length) return null;
  const rest = running.length - long.length;
  return section("Running", h("ul", { class: "running" }, long.map(({ route, for_ms: ms, id }) => h("li", {}, link(route), h("span", { class: "hint" }, ` for ${duration(ms)}${id ? ` · ${id}` : ""}`)))),
    rest > 0 ? h("p", { class: "hint" }, `and ${count(rest)} others`) : null);
}

function routesView({ routes }, link) {
  const rows = routes.map((route) => h("tr", {}, cells([
    [link(route.route), "wide"],
    [count(route.calls), "number"],
    [route.errors ? h("span", { class: "tone-bad" }, count(route.errors)) : "–", "number"],
    [duration(route.p50_ms), "number"],
    [duration(route.p99_ms), "number"],
    [route.in_flight ? `${count(route.in_flight)}${route.waiting ? ` (${count(route.waiting)} wait)` : ""}` : "–", "number"],
  ])));
  return section("Routes", grid("Routes", [["Route"], ["Calls", "number"], ["Failed", "number"], ["p50", "number"], ["p99", "number"], ["Now", "number"]], rows));
}

function workersView({ state, memory }) {
  const rows = state.workers.map((one) => h("tr", {}, cells([
    [h("span", { class: `state ${one.state}` }, one.state), "wide"],
    [String(one.worker), "number"],
    [one.age_s === null ? "–" : age(one.age_s), "number"],
    [count(one.calls), "number"],
    [one.running ? count(one.running) : "–", "number"],
    [h("span", { class: "memory" }, (memory.get(one.worker)?.length ?? 0) > 1 ? spark(memory.get(one.worker), 0.9 * memory.get(one.worker)[0], 64, 18) : null, bytes(one.rss)), "number"],
  ])));
  if (!rows.length) return section("Workers", h("p", { class: "empty" }, "There are none."));
  return section("Workers", grid("Workers", [["State"], ["Worker", "number"], ["Age", "number"], ["Calls", "number"], ["Now", "number"], ["Memory", "number"]], rows));
}

function callsView(calls, detail, link, { failed, choose }) {
  const tabs = h("div", { class: "tabs", role: "group", "aria-label": "Which calls" }, [["All", false], ["Failures", true]].map(([name, value]) => h("button", {
    type: "button", "aria-pressed": String(failed === value), "data-key": `calls ${name}`, onclick: () => choose(value),
  }, name)));
  if (!calls.length) return section("Last calls", tabs, h("p", { class: "empty" }, failed ? "None failed." : "None yet."));
  return section("Last calls", tabs, callsGrid(calls.slice(0, 50), detail, link));
}

/// The last calls as rows; with `link` each names its route.
export function callsGrid(calls, detail, link) {
  const rows = calls.map((call) => h("tr", { class: call.status >= 500 ? "tone-bad-row" : null }, cells([
    [h("span", { class: `answered s${String(call.status)[0]}` }, String(call.status)), null],
    ...(link ? [[call.route ? link(call.route) : "–", "wide"]] : []),
    [call.kind?.replaceAll("_", " ") ?? "", link ? "kind-cell" : "wide"],
    [duration(call.ms), "number"],
    [call.worker === null || call.worker === undefined ? "–" : String(call.worker), "number"],
    [clock(call.at), "number"],
    [call.has_more ? h("button", { type: "button", class: "quiet small", "data-key": `more ${call.id}`, "aria-label": `Details of call ${call.id}`, onclick: () => detail(call) }, "Details") : "", "number"],
  ])));
  const names = [["Status"], ...(link ? [["Route"]] : []), ["Why"], ["Took", "number"], ["Worker", "number"], ["At", "number"], [h("span", { class: "unseen" }, "More")]];
  return grid("Last calls", names, rows);
}

function clock(at) {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "–" : date.toLocaleTimeString("en-GB");
}

// === one call ===

/// Shows a call in the dialog.
export async function showCall(dialog, call) {
  const body = h("div", { class: "detail-body" }, h("p", { class: "hint" }, "Reading…"));
  const close = h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
  const heading = h("h2", { id: "detail-title" }, h("span", { class: `answered s${String(call.status)[0]}` }, String(call.status)), " ", call.route ?? "Call");
  dialog.replaceChildren(h("header", { class: "detail-head" }, heading, close), body);
  dialog.showModal();
  const more = call.has_more && call.id ? await callOf(call.id) : undefined;
  const facts = [["Call", call.id ?? "–"], ["At", call.at ?? "–"], ["Took", duration(call.ms)], ["Worker", call.worker ?? "–"], ["Ended as", call.kind?.replaceAll("_", " ") ?? "result"]];
  body.replaceChildren(...[
    h("dl", { class: "facts" }, facts.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, String(value))))),
    more?.detail ? h("p", { class: "sentence" }, sentence(more.detail)) : null,
    more ? stackView(more) : null,
    more ? outputView(more.output, more.output_dropped) : null,
    call.has_more && !more ? h("p", { class: "hint" }, "It is no longer known.") : null,
  ].filter(Boolean));
}

