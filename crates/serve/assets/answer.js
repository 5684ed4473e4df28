// An answer as it comes and as it is: table, chart, JSON, text, image, or what went wrong.

import { STREAMED, eventReader, lineReader, parse } from "./call.js";
import { chartView, plan } from "./chart.js";
import { bytes, copyButton, count, duration, h, save, say } from "./dom.js";
import { outputView, problemView } from "./failure.js";
import { csv, tableView, tables } from "./table.js";
import { tree } from "./tree.js";

const PIECES_SHOWN = 300;
const TEXT_SHOWN = 200_000;

const ENDINGS = {
  "application/json": "json",
  "application/problem+json": "json",
  "application/x-ndjson": "ndjson",
  "text/csv": "csv",
  "text/html": "html",
  "text/plain": "txt",
  "application/vnd.apache.arrow.stream": "arrows",
  "application/vnd.apache.arrow.file": "arrow",
  "application/vnd.apache.parquet": "parquet",
  "application/x-npy": "npy",
  "image/svg+xml": "svg",
};

const STATUS = { 200: "OK", 201: "Created", 202: "Accepted", 204: "No data", 400: "Bad request", 404: "Not found", 405: "Wrong method", 406: "Not acceptable", 408: "Too slow", 413: "Too large", 415: "Unknown media type", 422: "Arguments do not fit", 500: "Failed", 502: "Worker died", 503: "Not now", 504: "Took too long" };

/// The place where a route's answers are shown. `place(fault)` puts a fault at its field, if it can.
export function answerView(name, place, moreOf) {
  const line = h("p", { class: "answer-line", role: "status", "aria-live": "polite" });
  const tools = h("div", { class: "tools" });
  const body = h("div", { class: "answer-body" });
  const element = h("section", { class: "answer", "aria-label": "Answer", hidden: true }, h("header", { class: "answer-head" }, line, tools), body);
  let timer;
  let live;
  const stop = () => clearInterval(timer);
  const show = (...children) => body.replaceChildren(...children.flat().filter(Boolean));
  return {
    element,
    running() {
      element.hidden = false;
      element.className = "answer running";
      const began = performance.now();
      line.replaceChildren("Running ", h("span", { "aria-hidden": "true" }));
      stop();
      timer = setInterval(() => { line.lastElementChild.textContent = `${((performance.now() - began) / 1000).toFixed(1)} s`; }, 100);
      tools.replaceChildren();
      show();
      live = undefined;
    },
    head(answer) {
      if (STREAMED.has(answer.media)) {
        live = liveView(answer.media);
        show(live.element);
      }
    },
    piece: (text) => live?.piece(text),
    async done(answer) {
      stop();
      const good = answer.status < 400 && !answer.broken;
      element.className = `answer ${good ? "good" : "bad"}`;
      describe(line, answer);
      const shown = await content(answer, live, place);
      const output = h("div", {});
      if (answer.callId) showOutput(output, answer.callId, moreOf);
      tools.replaceChildren(...shown.tools, h("button", { type: "button", class: "quiet small", onclick: () => save(answer.blob, `${name}.${ENDINGS[answer.media] ?? "bin"}`) }, "Download"));
      show(answer.broken ? h("p", { class: "sentence bad" }, answer.broken) : null, shown.view, output, headersView(answer));
    },
    failed(message) {
      stop();
      element.hidden = false;
      element.className = "answer bad";
      line.replaceChildren(h("b", {}, message));
      tools.replaceChildren();
      show();
    },
  };
}

function describe(line, { status, ms, blob, callId }) {
  line.replaceChildren(
    h("b", {}, `${status} ${STATUS[status] ?? ""}`.trim()), " ",
    h("span", {}, duration(ms)), " ",
    h("span", {}, bytes(blob.size)), " ",
    callId ? h("span", { class: "call-id" }, "call ", h("code", {}, callId)) : "");
}

function headersView({ headers }) {
  const rows = headers.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]);
  return h("details", { class: "headers" }, h("summary", {}, "Headers"), h("dl", {}, rows));
}

/// What to show of an answer, and its own buttons.
async function content(answer, live, place) {
  const { media, blob, status } = answer;
  if (media === "application/problem+json") return { tools: [], view: failure(await blob.text(), status, place) };
  if (blob.size === 0) return { tools: [], view: h("p", { class: "empty" }, status === 204 ? "Done. The handler gave no data." : "The answer is empty.") };
  if (live) return values(live.values, live.kind, await blob.text());
  if (media === "application/json" || media.endsWith("+json")) return json(await blob.text());
  if (media.startsWith("image/")) return { tools: [], view: picture(blob) };
  if (media === "text/csv") return plainText(await blob.text());
  if (media.startsWith("text/")) return plainText(await blob.text());
  return { tools: [], view: h("p", { class: "empty" }, `${bytes(blob.size)} of ${media || "unknown kind"}. Download it, or ask for JSON to see it here.`) };
}

function json(text) {
  let value;
  try {
    value = parse(text);
  } catch {
    return plainText(text);
  }
  return values(value, "json", text);
}

/// Tables with their charts first, where there are some; the whole as JSON beside them.
function values(value, kind, text) {
  const found = tables(kind === "events" && value.every((one) => one.event === "message") ? value.map((one) => one.data) : value);
  const copyAll = copyButton(() => text);
  if (found.length === 0) return { tools: [copyAll], view: scalar(value) ?? tree(value) };
  const shown = h("div", {});
  const choices = [...found.map((table) => [title(table), () => tableAndChart(table)]), ["JSON", () => tree(value)]];
  let current = found[0];
  const tabs = tabList(choices.map(([name]) => name), (at) => {
    current = found[at];
    asCsv.hidden = !current;
    shown.replaceChildren(choices[at][1]());
  });
  const asCsv = h("button", { type: "button", class: "quiet small", onclick: () => save(new Blob([csv(current)], { type: "text/csv" }), "table.csv") }, "As CSV");
  shown.replaceChildren(choices[0][1]());
  return { tools: [copyAll, asCsv], view: [tabs, shown] };
}

const title = ({ label, length, record }) => (label && label !== "the rest" ? label : record ? (label || "Values") : `Table of ${count(length)}`);

/// Buttons of which one is pressed.
function tabList(names, choose) {
  const buttons = names.map((name, at) => h("button", { type: "button", "aria-pressed": String(at === 0), onclick: () => press(at) }, name));
  const press = (at) => {
    buttons.forEach((button, other) => button.setAttribute("aria-pressed", String(other === at)));
    choose(at);
  };
  return h("div", { class: "tabs", role: "group", "aria-label": "Show as" }, buttons);
}

function tableAndChart(table) {
  const planned = plan(table);
  return h("div", {}, planned ? chartView(planned, table.label) : null, tableView(table));
}

/// A single value, large.
function scalar(value) {
  if (typeof value === "object" && value !== null) return null;
  if (typeof value === "string" && value.length > 80) return h("pre", { class: "plain", tabindex: "0" }, value.slice(0, TEXT_SHOWN));
  return h("p", { class: "scalar" }, value === null ? "null" : String(value));
}

function plainText(text) {
  const cut = text.length > TEXT_SHOWN;
  const pre = h("pre", { class: "plain", tabindex: "0" }, text.slice(0, TEXT_SHOWN));
  return { tools: [copyButton(() => text)], view: [pre, cut ? h("p", { class: "hint" }, "The rest is in the download.") : null] };
}

function picture(blob) {
  const url = URL.createObjectURL(blob);
  const image = h("img", { class: "picture", src: url, alt: "The answer is an image" });
  image.addEventListener("load", () => URL.revokeObjectURL(url));
  return image;
}

// === what comes bit by bit ===

function liveView(media) {
  const state = h("p", { class: "hint", role: "status" });
  const list = h("ol", { class: "pieces" });
  const found = [];
  let drawn = 0;
  let waiting = false;
  const draw = () => {
    waiting = false;
    for (; drawn < Math.min(found.length, PIECES_SHOWN); drawn += 1) list.append(h("li", {}, short(found[drawn])));
    say(state, found.length > PIECES_SHOWN ? `${count(found.length)} so far; the first ${PIECES_SHOWN} are here` : `${count(found.length)} so far`);
  };
  const add = (value) => {
    found.push(value);
    if (waiting) return;
    waiting = true;
    setTimeout(draw, 60);
  };
  const events = media === "text/event-stream";
  return {
    element: h("div", {}, state, list),
    values: found,
    kind: events ? "events" : "lines",
    piece: events ? eventReader(add) : lineReader(add),
  };
}

const short = (value) => JSON.stringify(value, (_, one) => (typeof one === "bigint" ? String(one) : one))?.slice(0, 400) ?? "";

// === failures ===

function failure(text, status, place) {
  let problem;
  try {
    problem = parse(text);
  } catch {
    return h("pre", { class: "plain" }, text);
  }
  const faults = Array.isArray(problem.errors) ? problem.errors : [];
  const unplaced = faults.filter((fault) => !place(fault));
  return problemView(problem, status, unplaced);
}

/// Puts there what a call printed, as far as it is known; lines may come after the answer.
async function showOutput(place, callId, moreOf) {
  for (const wait of [0, 700, 2000]) {
    await new Promise((resolve) => { setTimeout(resolve, wait); });
    const more = await moreOf(callId);
    const printed = more && outputView(more.output, more.output_dropped);
    if (printed) return place.replaceChildren(printed);
  }
  return undefined;
}
