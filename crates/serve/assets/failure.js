// What went wrong, for people: a sentence, whose matter it is, the stack, what was printed.

import { copyButton, h, sentence } from "./dom.js";

const RESPONSIBLE = {
  caller: "It lies in the request.",
  guest: "It lies in the handler's code.",
  host: "It lies in Exuvia itself.",
  infrastructure: "It lies in load or the machine, not in the code.",
};

/// A problem document, and the faults for which `placed` found no field.
export function problemView(problem, status, unplaced) {
  const { title, detail, responsible, signal, exit_status: exit, retryable } = problem;
  const facts = [
    signal && `Signal ${signal}.`,
    exit !== undefined && `Exit status ${exit}.`,
    retryable && "It may be sent again, if running it twice does no harm.",
    RESPONSIBLE[responsible],
  ].filter(Boolean);
  const faults = Array.isArray(problem.errors) ? problem.errors : [];
  return h("div", { class: "problem" },
    h("p", { class: "problem-title" }, title ?? `The answer has the status ${status}`),
    detail && faults.length === 0 ? h("p", { class: "sentence" }, sentence(String(detail))) : null,
    faults.length ? faultsView(faults, unplaced) : null,
    facts.length ? h("p", { class: "hint" }, facts.join(" ")) : null,
    stackView(problem));
}

function faultsView(faults, unplaced) {
  const placed = faults.length - unplaced.length;
  const intro = placed === 0 ? null
    : h("p", { class: "sentence" }, placed === 1 ? "One fault, shown at its field." : `${placed} faults, shown at their fields.`);
  const list = unplaced.map(({ pointer, detail }) => h("li", {}, pointer ? h("code", {}, pointer) : null, pointer ? " " : null, detail));
  return [intro, list.length ? h("ul", { class: "fault-list" }, list) : null];
}

/// The traceback, or the frames that were found.
export function stackView({ exception, traceback, frames }) {
  const text = exception?.traceback || traceback;
  if (text) return codeBlock("Traceback", text);
  if (!Array.isArray(frames) || !frames.length) return null;
  const list = frames.map(({ file, line, function: name }) => h("li", {}, h("b", {}, name), h("span", {}, ` ${file}:${line}`)));
  return h("div", { class: "block" }, h("p", { class: "block-title" }, "Stack, innermost first"), h("ol", { class: "frames" }, list));
}

/// What a call printed.
export function outputView(lines, dropped = 0) {
  if (!Array.isArray(lines) || !lines.length) return null;
  const rows = lines.map(({ stream, text }) => h("span", { class: stream === "stderr" ? "line err" : "line" }, `${text}\n`));
  const note = dropped ? `The last ${lines.length} lines; ${dropped} came before.` : "";
  return h("div", { class: "block" }, h("div", { class: "block-title" }, "Printed", copyButton(() => lines.map((line) => line.text).join("\n"))),
    note ? h("p", { class: "hint" }, note) : null, h("pre", { tabindex: "0" }, rows));
}

/// A named text in the letters of code.
export function codeBlock(title, text) {
  return h("div", { class: "block" }, h("div", { class: "block-title" }, title, copyButton(() => text)), h("pre", { tabindex: "0" }, text));
}
