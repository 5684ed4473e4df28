// One field for each argument. A field reads as `undefined` (not given), or as
// `{ json, text, files }`: raw JSON, the same as texts for a path or a query, or files.

import { bytes, fresh, h, inline, say } from "./dom.js";
import { isFile } from "./schema.js";

export const MEDIA = {
  csv: "text/csv",
  parquet: "application/vnd.apache.parquet",
  arrow: "application/vnd.apache.arrow.file",
  arrows: "application/vnd.apache.arrow.stream",
  feather: "application/vnd.apache.arrow.file",
  ndjson: "application/x-ndjson",
  jsonl: "application/x-ndjson",
  json: "application/json",
  npy: "application/x-npy",
};

/// The media type of a file by its name: browsers do not know most of these.
export function mediaOf(file) {
  const ending = file.name.slice(file.name.lastIndexOf(".") + 1).toLowerCase();
  return MEDIA[ending] ?? (file.type || "application/octet-stream");
}

/// What was written cannot be sent.
export class Unreadable extends Error {}

/// A field for `schema`. `about`: `name`, `required`, `where` ("path", "query", "header", "body"),
/// `description`, `takesTable`.
export function field(schemas, schema, about) {
  const { schema: plain, nullable } = schemas.plain(schema);
  const choices = schemas.choices(schema);
  const input = control(schemas, { schema, plain, nullable, choices, ...about });
  return frame(schemas, schema, plain, about, input);
}

// Each control: `element` (with an id), `read()`, and perhaps `focus()`, `extra`.
function control(schemas, about) {
  const { plain, choices, takesTable, where } = about;
  if (takesTable) return table(schemas, about);
  if (isFile(plain)) return file(about);
  if (choices) return choice(about);
  switch (plain.type) {
    case "boolean": return truth(about);
    case "integer":
    case "number": return numeric(about);
    case "string": return plain.contentEncoding && where === "body" ? file({ ...about, base64: true }) : words(about);
    case "array": if (where !== "body" && flat(schemas, plain)) return lines(about);
  }
  return json(schemas, about);
}

function flat(schemas, plain) {
  const item = schemas.plain(plain.items ?? {}).schema;
  return !["array", "object"].includes(item.type) && item.type !== undefined;
}

// === the frame around a control ===

function frame(schemas, schema, plain, { name, required, description, label, where }, input) {
  const faults = h("div", { class: "faults", id: fresh("faults"), "aria-live": "polite" });
  const text = description ?? plain.description;
  const hint = text ? h("p", { class: "hint", id: fresh("hint") }, inline(text)) : null;
  const described = [hint?.id, faults.id].filter(Boolean).join(" ");
  input.element.setAttribute("aria-describedby", described);
  if (required) input.element.setAttribute("aria-required", "true");
  const kind = h("span", { class: "kind" }, input.kind ?? schemas.words(schema));
  const place = where && where !== "body" ? h("span", { class: "where" }, where) : null;
  const must = required ? null : h("span", { class: "where" }, "optional");
  const caption = h("label", { for: input.element.id }, h("b", {}, label ?? name), " ", kind, place, must);
  const element = h("div", { class: "field", "data-field": name }, caption, hint, input.body ?? input.element, input.extra, faults);
  return {
    name,
    where,
    element,
    focus: () => input.element.focus(),
    read() {
      this.clear();
      try {
        return input.read();
      } catch (error) {
        if (error instanceof Unreadable) this.fault({ pointer: "", detail: error.message });
        throw error;
      }
    },
    /// Shows what is wrong; `pointer` is below this field.
    fault({ pointer, detail }) {
      input.element.setAttribute("aria-invalid", "true");
      const jump = pointer && input.select
        ? h("button", { type: "button", class: "pointer", title: "Show the place", onclick: () => input.select(pointer) }, pointer)
        : pointer ? h("code", { class: "pointer" }, pointer) : null;
      faults.append(h("p", {}, jump, jump ? " " : null, detail));
    },
    clear() {
      input.element.removeAttribute("aria-invalid");
      faults.replaceChildren();
    },
  };
}

const given = (text) => ({ json: JSON.stringify(text), text: [text] });

const fallback = (plain) => (plain.default !== undefined && plain.default !== null
  ? `${typeof plain.default === "string" ? plain.default : JSON.stringify(plain.default)} if left empty` : undefined);

// === controls ===

function words({ plain, required, where, name }) {
  const kind = { date: "date", time: "time", "date-time": "datetime-local" }[plain.format];
  const id = fresh("field");
  if (kind && (plain.default ?? null) === null) {
    const input = h("input", { id, type: kind, step: kind === "date" ? null : 1 });
    const zone = kind === "datetime-local" ? h("p", { class: "hint" }, "as UTC") : null;
    const ending = kind === "datetime-local" ? "Z" : "";
    const read = () => {
      if (!input.value) return missing(required, input);
      const full = kind !== "date" && /T?\d\d:\d\d$/.test(input.value) ? `${input.value}:00` : input.value;
      return given(full + ending);
    };
    return { element: input, extra: zone, read };
  }
  const attributes = { id, minlength: plain.minLength, maxlength: plain.maxLength, placeholder: fallback(plain), spellcheck: "false", autocomplete: "off" };
  const one = where !== "body" || plain.format;
  const input = one ? h("input", { ...attributes, type: "text" }) : h("textarea", { ...attributes, rows: 1, class: "words" });
  if (required) input.value = plain.examples?.[0] ?? "";
  const read = () => {
    if (input.value === "" && where === "path") throw new Unreadable(`the path needs a ${name}`);
    if (input.value === "" && !required) return undefined;
    return given(input.value);
  };
  return { element: input, read };
}

function missing(required, input) {
  if (input.validity?.badInput) throw new Unreadable("is not complete");
  if (required) throw new Unreadable("is missing");
  return undefined;
}

function numeric({ plain, required, nullable }) {
  const step = plain.multipleOf ?? (plain.type === "integer" ? 1 : "any");
  const input = h("input", { id: fresh("field"), type: "number", min: plain.minimum, max: plain.maximum, step, placeholder: fallback(plain), autocomplete: "off" });
  if (required && plain.examples?.length) input.value = plain.examples[0];
  const read = () => {
    const text = input.value.trim();
    if (text === "") {
      if (input.validity.badInput) throw new Unreadable("must be a number");
      return required && nullable ? { json: "null", text: ["null"] } : missing(required, input);
    }
    // The digits as they were typed: a JavaScript number would lose some.
    const json = text.replace(/^(-?)0+(?=\d)/, "$1").replace(/^(-?)\./, "$10.").replace(/\.$/, "");
    return { json: json.replace(/^\+/, ""), text: [text] };
  };
  return { element: input, read };
}

function truth({ plain, required }) {
  if (plain.default === undefined && !required) {
    return choice({ choices: [true, false], plain, required, kind: "yes or no" });
  }
  const input = h("input", { id: fresh("field"), type: "checkbox" });
  input.checked = plain.default === true;
  const read = () => (!required && input.checked === plain.default ? undefined
    : { json: String(input.checked), text: [String(input.checked)] });
  return { element: input, read };
}

function choice({ choices, plain, required, kind, nullable }) {
  const shown = nullable && !choices.includes(null) && required ? [...choices, null] : choices;
  const options = shown.map((value, at) => h("option", { value: at }, value === true ? "yes" : value === false ? "no" : String(value)));
  const usual = plain.default ?? null;
  const empty = usual === null ? "left out" : `left out: ${usual === true ? "yes" : usual === false ? "no" : usual}`;
  const input = h("select", { id: fresh("field") }, required ? null : h("option", { value: "" }, empty), options);
  const read = () => {
    if (input.value === "") return undefined;
    const value = shown[Number(input.value)];
    return { json: JSON.stringify(value), text: [String(value)] };
  };
  return { element: input, read, kind };
}

/// Several texts, one a line, for a query or a header.
function lines({ required, plain }) {
  const input = h("textarea", { id: fresh("field"), rows: 2, class: "words", placeholder: fallback(plain) ?? "one a line", spellcheck: "false" });
  const read = () => {
    const text = input.value.split("\n").map((line) => line.trim()).filter(Boolean);
    if (!text.length) return missing(required, input);
    return { json: JSON.stringify(text), text };
  };
  return { element: input, read };
}

export function json(schemas, { schema, required, example, plain }) {
  const start = required ? JSON.stringify(example ?? schemas.example(schema), null, 2) : "";
  const input = h("textarea", { id: fresh("field"), class: "code", rows: Math.min(14, Math.max(3, start.split("\n").length)), spellcheck: "false", autocapitalize: "off", value: start, placeholder: fallback(plain ?? {}) ?? "JSON" });
  const state = h("p", { class: "hint", role: "status" });
  const parse = () => {
    try {
      JSON.parse(input.value);
      return undefined;
    } catch (error) {
      return explain(input.value, error);
    }
  };
  input.addEventListener("input", () => say(state, input.value.trim() && parse() ? "Not JSON yet" : ""));
  const read = () => {
    if (!input.value.trim()) return missing(required, input);
    const wrong = parse();
    if (wrong) throw new Unreadable(wrong);
    return { json: input.value.trim(), text: [input.value.trim()] };
  };
  // What is missing has no place: the object it is missing from has.
  const select = (pointer) => {
    input.focus();
    for (let place = pointer; place; place = place.slice(0, place.lastIndexOf("/"))) {
      const found = locate(input.value, place);
      if (found) return input.setSelectionRange(...found);
    }
    return undefined;
  };
  return { element: input, extra: state, read, select };
}

function file({ required, plain, base64 }) {
  const { element, body, chosen } = drop(plain.contentMediaType?.includes("/") ? null : undefined, false);
  const read = () => {
    const files = chosen();
    if (!files.length) return required ? missing(true, element) : undefined;
    return { files, base64 };
  };
  return { element, body, read };
}

/// A table: a file, or rows as JSON.
function table(schemas, about) {
  const { element, body, chosen, onchange } = drop(".csv,.parquet,.arrow,.arrows,.feather,.ndjson,.jsonl,.json,.npy", true);
  const rows = json(schemas, { ...about, required: false, plain: {} });
  rows.element.setAttribute("aria-label", `${about.name} as JSON`);
  const written = h("details", { class: "written" }, h("summary", {}, "or write it as JSON"), rows.element, rows.extra);
  onchange(() => { written.hidden = chosen().length > 0; });
  const read = () => {
    const files = chosen();
    if (files.length) return { files };
    const text = rows.read();
    return text === undefined && about.required ? missing(true, element) : text;
  };
  const select = (pointer) => {
    written.open = true;
    rows.select(pointer);
  };
  return { element, body, extra: written, read, select, kind: "table" };
}

/// A place to drop a file at, which is also a button.
export function drop(accept, isTable) {
  const input = h("input", { id: fresh("field"), type: "file", accept, class: "unseen" });
  const name = h("span", { class: "drop-name" });
  const preview = h("pre", { class: "drop-preview", hidden: true });
  const remove = h("button", { type: "button", class: "quiet small", hidden: true }, "Remove");
  const words = isTable ? "Drop a CSV, Parquet or Arrow file here, or " : "Drop a file here, or ";
  const ask = h("span", {}, words, h("span", { class: "link" }, "choose one"));
  const zone = h("label", { class: "drop", for: input.id }, ask, name);
  const listeners = [];
  let files = [];
  async function take(list) {
    files = [...list].slice(0, 1);
    const [first] = files;
    zone.classList.toggle("full", Boolean(first));
    ask.hidden = Boolean(first);
    remove.hidden = !first;
    name.textContent = first ? `${first.name} · ${bytes(first.size)}` : "";
    preview.hidden = true;
    listeners.forEach((listener) => listener());
    if (first && /\.(csv|ndjson|jsonl|json|txt)$/i.test(first.name)) {
      const text = await first.slice(0, 2000).text();
      preview.textContent = text.split("\n").slice(0, 4).map((line) => line.slice(0, 120)).join("\n");
      preview.hidden = !preview.textContent.trim();
    }
  }
  input.addEventListener("change", () => take(input.files));
  remove.addEventListener("click", () => {
    input.value = "";
    take([]);
    input.focus();
  });
  for (const kind of ["dragenter", "dragover"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) zone.addEventListener(kind, () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    take(event.dataTransfer.files);
  });
  const body = h("div", { class: "drop-field" }, input, zone, remove, preview);
  return { element: input, body, chosen: () => files, onchange: (listener) => listeners.push(listener) };
}

// === JSON as it is written ===

/// What a parser says, with the line.
function explain(text, error) {
  const at = /position (\d+)/.exec(error.message)?.[1];
  const line = /line (\d+)/.exec(error.message)?.[1] ?? (at ? text.slice(0, Number(at)).split("\n").length : undefined);
  return `is not JSON${line ? `, line ${line}` : ""}`;
}

/// Where the value at a JSON Pointer begins and ends in a text.
export function locate(text, pointer) {
  const steps = pointer.split("/").slice(1).map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  const token = /\s*(?:("(?:[^"\\]|\\.)*")|([{}[\]:,])|([^\s{}[\]:,"]+))/y;
  const next = () => {
    const begin = token.lastIndex;
    const found = token.exec(text);
    return found ? { word: found[1] ?? found[2] ?? found[3], end: token.lastIndex, begin: begin + found[0].search(/\S/) } : null;
  };
  const value = (rest) => {
    const first = next();
    if (!first) return null;
    let hit = rest.length === 0 ? first : null;
    let end = first.end;
    if (first.word === "{" || first.word === "[") {
      for (let index = 0; ; index += 1) {
        const place = token.lastIndex;
        const ahead = next();
        if (!ahead) return null;
        if (ahead.word === "}" || ahead.word === "]") {
          end = ahead.end;
          break;
        }
        if (ahead.word === "," ) {
          index -= 1;
          continue;
        }
        let key = String(index);
        if (first.word === "{") {
          key = JSON.parse(ahead.word);
          next();
        } else {
          token.lastIndex = place;
        }
        const found = value(key === rest[0] ? rest.slice(1) : ["\0"]);
        if (found && key === rest[0]) return found;
      }
    }
    return hit ? [hit.begin, end] : ["none", end];
  };
  try {
    token.lastIndex = 0;
    const found = value(steps);
    return found && found[0] !== "none" ? found : null;
  } catch {
    return null;
  }
}
