// One route: what it is, a form to try it, its answers.

import { answerView } from "./answer.js";
import { curl, fileBody, formBody, jsonBody, request, send, successes } from "./call.js";
import { copyButton, fresh, h, inline, paragraphs } from "./dom.js";
import { MEDIA, Unreadable, drop, field, json } from "./fields.js";
import { isFile } from "./schema.js";

const TABLES = ["text/csv", MEDIA.parquet, MEDIA.arrow, MEDIA.arrows];

const ANSWERS = {
  "application/json": "JSON",
  "application/json; table=rows": "JSON, rows",
  "application/json; table=columns": "JSON, columns",
  "application/x-ndjson": "NDJSON, as it comes",
  "text/event-stream": "events, as they come",
  "text/csv": "CSV",
  "application/vnd.apache.arrow.stream": "Arrow stream",
  "application/vnd.apache.arrow.file": "Arrow file",
  "application/vnd.apache.parquet": "Parquet",
  "application/x-npy": "NumPy",
  "application/vnd.exuvia.value+msgpack": "Exuvia values",
};

/// The view of an operation. `moreOf` gives what is known of a call beyond its answer.
export function routeView(schemas, operation, moreOf) {
  const form = formOf(schemas, operation);
  const answer = answerView(operation.path.split("/").filter((part) => !part.startsWith("{")).join("-").replace(/^-/, "") || "answer", (fault) => form.place(fault), moreOf);
  const { element: sender } = senderOf(schemas, operation, form, answer);
  const head = h("header", { class: "route-head" },
    h("h1", {}, h("span", { class: `method ${operation.method.toLowerCase()}` }, operation.method), " ", pathView(operation.path)),
    operation.deprecated ? h("p", { class: "note" }, "Deprecated: use something else.") : null,
    operation.stub ? h("p", { class: "note" }, "A stub: no handler yet. It checks what it gets and answers with an example.") : null,
    docs(operation));
  return h("article", { class: "route" }, head,
    h("div", { class: "try" }, h("div", { class: "try-form" }, form.element, sender), answer.element),
    reference(schemas, operation));
}

/// A path whose parameters stand out, and which may break at its slashes.
function pathView(path) {
  const parts = path.split(/(\{[^}]*\}|\/)/).filter(Boolean);
  return h("span", { class: "path" }, parts.map((part) => (part === "/" ? ["/", h("wbr")] : part.startsWith("{") ? h("em", {}, part) : part)));
}

function docs({ summary, description }) {
  const text = description.trim();
  const lead = summary.trim();
  // The summary is as a rule the first line of the description.
  const all = lead && !text.replace(/\s+/g, " ").startsWith(lead.replace(/\s+/g, " ")) ? `${lead}\n\n${text}` : text || lead;
  return all ? h("div", { class: "docs" }, paragraphs(all)) : null;
}

// === the form ===

function formOf(schemas, operation) {
  const parameters = operation.parameters.map((parameter) => ({
    parameter,
    field: field(schemas, parameter.schema, { ...parameter }),
  }));
  const body = bodyOf(schemas, operation);
  const element = h("form", { class: "form", novalidate: true, "aria-label": `Arguments of ${operation.id}`, onsubmit: (event) => event.preventDefault() },
    parameters.map((one) => one.field.element), body?.element);
  if (!parameters.length && !body) element.append(h("p", { class: "empty" }, "It takes no arguments."));
  const fields = () => [...parameters.map((one) => one.field), ...(body?.fields() ?? [])];
  return {
    element,
    /// What was filled in; throws where something cannot be sent, after saying so at its field.
    async read() {
      let wrong;
      const tried = (read, field) => {
        try {
          return read();
        } catch (error) {
          if (!(error instanceof Unreadable)) throw error;
          wrong ??= { error, field };
          return undefined;
        }
      };
      const values = parameters.map((one) => ({ parameter: one.parameter, value: tried(() => one.field.read(), one.field) }));
      const made = body ? await body.read(tried) : undefined;
      if (wrong) {
        wrong.field?.focus();
        throw wrong.error;
      }
      return { values, body: made };
    },
    /// Puts a fault at the field it is of.
    place({ pointer, detail }) {
      const [, first = "", ...rest] = String(pointer ?? "").split("/");
      const name = first.replaceAll("~1", "/").replaceAll("~0", "~");
      const all = fields();
      // A header has a name of its own, which as a rule ends in the parameter's.
      const inHeader = (one) => one.where === "header" && name && one.name.replaceAll("-", "_").endsWith(name);
      const hit = all.find((one) => one.name === name) ?? all.find(inHeader) ?? all.find((one) => one.whole);
      if (!hit) return false;
      const below = hit.whole ? pointer : rest.length ? `/${rest.join("/")}` : "";
      if (!all.some((one) => one.element.querySelector("[aria-invalid]"))) queueMicrotask(() => hit.focus());
      hit.fault({ pointer: below, detail });
      return true;
    },
  };
}

/// The part of the form that makes the body: fields for its members, JSON as a whole, or a file.
function bodyOf(schemas, operation) {
  const { content } = operation;
  const kinds = Object.keys(content);
  if (!kinds.length) return undefined;
  const modes = [];
  const members = membersOf(schemas, content);
  if (members?.length) modes.push(fieldsMode(schemas, members, content));
  const asJson = content["application/json"];
  if (asJson) modes.push(wholeMode(schemas, asJson.schema ?? {}, operation.bodyRequired, modes.length > 0));
  const plainText = content["text/plain"];
  if (plainText && !modes.length) modes.push(wholeMode(schemas, plainText.schema ?? {}, false, false));
  if (kinds.some((kind) => !["application/json", "multipart/form-data", "application/x-www-form-urlencoded"].includes(kind))) modes.push(fileMode(kinds));
  let current = modes[0];
  const place = h("div", { class: "fields" }, current.element);
  const buttons = modes.map((mode) => h("button", { type: "button", "aria-pressed": String(mode === current), onclick: () => choose(mode) }, mode.label));
  const choose = (mode) => {
    current = mode;
    modes.forEach((other, at) => buttons[at].setAttribute("aria-pressed", String(other === mode)));
    place.replaceChildren(mode.element);
  };
  const element = h("div", {}, modes.length > 1 ? h("div", { class: "tabs", role: "group", "aria-label": "Give the body as" }, buttons) : null, place);
  return { element, read: (tried) => current.read(tried), fields: () => current.fields };
}

/// The members of the body as fields, with those that are files where the body may be a form.
function membersOf(schemas, content) {
  const inJson = objectIn(schemas, content["application/json"]?.schema);
  const inForm = objectIn(schemas, content["multipart/form-data"]?.schema);
  const properties = inJson?.properties ?? inForm?.properties;
  if (!properties) return undefined;
  const encoding = content["multipart/form-data"]?.encoding ?? {};
  return Object.entries(properties).map(([name, schema]) => {
    const part = inForm?.properties?.[name];
    const file = part !== undefined && hasFile(schemas, part);
    const { schema: plain } = schemas.plain(schema);
    const takesTable = file && inJson !== undefined && TABLES.some((media) => encoding[name]?.contentType?.includes(media));
    return { name, schema: file && !takesTable ? { ...part, description: plain.description } : schema, takesTable, required: (inJson ?? inForm).required?.includes(name) ?? false };
  });
}

function hasFile(schemas, schema) {
  const { schema: plain } = schemas.plain(schema);
  if (isFile(plain)) return true;
  if (plain.type === "array" && plain.items) return hasFile(schemas, plain.items);
  return Array.isArray(plain.anyOf) && plain.anyOf.some((one) => hasFile(schemas, one));
}

/// The object among what a schema takes; of several, the one with the most members.
function objectIn(schemas, schema) {
  if (schema === undefined) return undefined;
  const { schema: plain } = schemas.plain(schema);
  if (plain.properties && Object.keys(plain.properties).length) return plain;
  const inside = (Array.isArray(plain.anyOf) ? plain.anyOf : []).map((one) => objectIn(schemas, one)).filter(Boolean);
  const size = (one) => Object.keys(one.properties).length;
  return inside.sort((one, other) => size(other) - size(one))[0];
}

function fieldsMode(schemas, members, content) {
  const fields = members.map((member) => field(schemas, member.schema, { ...member, where: "body" }));
  return {
    label: "Fields",
    fields,
    element: h("div", { class: "fields" }, fields.map((one) => one.element)),
    read(tried) {
      return formBody(fields.map((one) => [one.name, tried(() => one.read(), one)]), content);
    },
  };
}

function wholeMode(schemas, schema, required, beside) {
  const example = objectIn(schemas, schema);
  const control = json(schemas, { schema, required: true, example: example ? schemas.example(example) : undefined });
  const faults = h("div", { class: "faults", id: fresh("faults"), "aria-live": "polite" });
  control.element.setAttribute("aria-describedby", faults.id);
  const kind = h("span", { class: "kind" }, schemas.words(schema));
  const element = h("div", { class: "field", "data-field": "body" }, h("label", { for: control.element.id }, h("b", {}, "Body"), " ", kind), control.element, control.extra, faults);
  const whole = {
    name: "",
    whole: true,
    element,
    focus: () => control.element.focus(),
    fault({ pointer, detail }) {
      control.element.setAttribute("aria-invalid", "true");
      const jump = pointer ? h("button", { type: "button", class: "pointer", title: "Show the place", onclick: () => control.select(pointer) }, pointer) : null;
      faults.append(h("p", {}, jump, jump ? " " : null, detail));
    },
  };
  const read = () => {
    control.element.removeAttribute("aria-invalid");
    faults.replaceChildren();
    if (!control.element.value.trim() && !required) return undefined;
    try {
      return control.read();
    } catch (error) {
      if (error instanceof Unreadable) whole.fault({ detail: error.message });
      throw error;
    }
  };
  return {
    label: beside ? "JSON" : "Body",
    fields: [whole],
    element,
    async read(tried) {
      const value = tried(read, whole);
      return value && jsonBody(value.json);
    },
  };
}

function fileMode(kinds) {
  const isTable = TABLES.some((media) => kinds.includes(media));
  const { element: input, body, chosen } = drop(null, isTable);
  input.setAttribute("aria-label", "The body as a file");
  return {
    label: "File",
    fields: [],
    element: h("div", { class: "field" }, body, h("p", { class: "hint" }, `The whole body. It may be ${kinds.filter((kind) => kind !== "multipart/form-data").map((kind) => ANSWERS[kind] ?? kind).join(", ")}.`)),
    async read() {
      const [file] = chosen();
      return file && fileBody(file);
    },
  };
}

// === sending ===

function senderOf(schemas, operation, form, answer) {
  const button = h("button", { type: "submit", class: "send" }, "Send");
  const cancel = h("button", { type: "button", class: "quiet", hidden: true }, "Cancel");
  const accept = acceptOf(successes(schemas, operation));
  const command = h("pre", { tabindex: "0" });
  const shown = h("details", { class: "curl" }, h("summary", {}, "As curl"), h("div", { class: "block" }, h("div", { class: "block-title" }, "Command", copyButton(() => command.textContent)), command));
  let running;
  const make = async () => {
    const { values, body } = await form.read();
    return request(operation, values, body, accept.value());
  };
  async function run() {
    let made;
    try {
      made = await make();
    } catch (error) {
      answer.failed(error instanceof Unreadable ? "Not sent: something is not filled in rightly." : String(error.message ?? error));
      return;
    }
    command.textContent = curl(made);
    running?.abort();
    const controller = new AbortController();
    running = controller;
    cancel.hidden = false;
    answer.running();
    try {
      const came = await send(made, controller.signal, answer);
      await answer.done(came);
    } catch (error) {
      if (running !== controller) return;
      answer.failed(controller.signal.aborted ? "Cancelled. The handler was told to stop." : "No answer: the server cannot be reached.");
      if (!controller.signal.aborted && !(error instanceof TypeError)) throw error;
    } finally {
      if (running === controller) {
        running = undefined;
        if (document.activeElement === cancel) button.focus();
        cancel.hidden = true;
      }
    }
  }
  form.element.addEventListener("submit", run);
  form.element.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const typing = event.target.tagName === "TEXTAREA";
    if (event.ctrlKey || event.metaKey || (!typing && event.target.tagName === "INPUT" && event.target.type !== "file")) {
      event.preventDefault();
      run();
    }
  });
  cancel.addEventListener("click", () => running?.abort());
  button.setAttribute("type", "button");
  button.addEventListener("click", run);
  shown.addEventListener("toggle", async () => {
    if (!shown.open) return;
    try {
      command.textContent = curl(await make());
    } catch {
      command.textContent = "Fill in the form first.";
    }
  });
  const element = h("div", { class: "send-row" }, h("div", { class: "buttons" }, button, cancel, accept.element), h("kbd", { class: "keys" }, "Ctrl Enter"), shown);
  return { element };
}

/// In which format the answer is wanted.
function acceptOf(answers) {
  const kinds = [...new Set(answers.flatMap(([, content]) => Object.keys(content)))];
  if (kinds.length < 2) return { element: null, value: () => kinds[0] && kinds[0] !== "*/*" ? kinds[0] : undefined };
  const streams = kinds.includes("text/event-stream") && kinds.includes("application/x-ndjson");
  const first = streams ? "application/x-ndjson" : kinds.includes("application/json") ? "application/json" : kinds[0];
  const select = h("select", { id: fresh("accept") }, kinds.map((kind) => h("option", { value: kind, selected: kind === first }, ANSWERS[kind] ?? kind)));
  return { element: h("label", { class: "accept", for: select.id }, "as ", select), value: () => select.value };
}

// === the reference ===

function reference(schemas, operation) {
  const results = successes(schemas, operation).map(([status, content]) => {
    const schema = content["application/json"]?.schema ?? Object.values(content)[0]?.schema;
    const media = Object.keys(content).map((kind) => (ANSWERS[kind] ?? kind).replace(/, as .*/, ""));
    return h("p", {}, h("b", {}, status), " ", schema === undefined ? "no data" : schemas.words(schema), media.length ? h("span", { class: "hint" }, ` as ${media.join(", ")}`) : null);
  });
  const used = [...operation.parameters.map((one) => one.schema), ...Object.values(operation.content).map((one) => one.schema), ...successes(schemas, operation).flatMap(([, content]) => Object.values(content).map((one) => one.schema))];
  const classes = [...schemas.classes(used.filter(Boolean))];
  return h("section", { class: "reference", "aria-label": "Reference" },
    h("h2", {}, "What it gives"), results.length ? results : h("p", {}, "Nothing is said of it."),
    operation.handler ? h("p", { class: "hint" }, "Handler ", h("code", {}, operation.handler)) : null,
    classes.length ? [h("h2", {}, "Types"), classes.map(([name, plain]) => typeView(schemas, name, plain))] : null);
}

function typeView(schemas, name, plain) {
  const members = Object.entries(plain.properties ?? {});
  const required = new Set(plain.required ?? []);
  const rows = members.map(([member, schema]) => {
    const { schema: inner } = schemas.plain(schema);
    return [
      h("dt", {}, member, required.has(member) ? null : h("span", { class: "where" }, "optional")),
      h("dd", {}, schemas.words(schema, 1), inner.default !== undefined ? `, ${JSON.stringify(inner.default)} if left out` : null,
        inner.description ? h("span", { class: "hint" }, " ", inline(inner.description)) : null),
    ];
  });
  return h("details", { class: "type" }, h("summary", {}, h("code", {}, name)),
    plain.description ? h("div", { class: "hint" }, paragraphs(plain.description)) : null,
    rows.length ? h("dl", {}, rows) : h("p", {}, schemas.words(plain)));
}
