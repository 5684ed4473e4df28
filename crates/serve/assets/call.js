// From a document to operations, from values to a request, from a request to an answer as it comes.

import { mediaOf } from "./fields.js";

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options"];

/// Where the server is, also behind a proxy that puts it below a folder.
export const base = new URL(".", document.baseURI);

/// The place of a path of the server's.
export const at = (path) => new URL(path.replace(/^\//, "./"), base);

/// Every operation of a document, in its order.
export function operations(document, schemas) {
  return Object.entries(document.paths ?? {}).flatMap(([path, reference]) => {
    const item = schemas.follow(reference);
    return METHODS.filter((method) => item[method]).map((method) => operation(schemas, path, method, item));
  });
}

function operation(schemas, path, method, item) {
  const said = item[method];
  const all = [...(said.parameters ?? []), ...(item.parameters ?? [])].map((one) => schemas.follow(one));
  const parameters = all.filter((one, at) => one.in !== "cookie"
    && all.findIndex((other) => other.name === one.name && other.in === one.in) === at);
  const body = said.requestBody ? schemas.follow(said.requestBody) : undefined;
  return {
    id: `${method.toUpperCase()} ${path}`,
    method: method.toUpperCase(),
    path,
    summary: said.summary ?? "",
    description: said.description ?? "",
    tags: said.tags?.length ? said.tags : ["other"],
    deprecated: said.deprecated === true,
    handler: said["x-exuvia-handler"],
    stub: said["x-exuvia-stub"] === true,
    rest: undefined,
    parameters: parameters.map((one) => parameter(schemas, one)),
    content: body?.content ?? {},
    bodyRequired: body?.required === true,
    responses: said.responses ?? {},
  };
}

function parameter(schemas, said) {
  const [media] = Object.keys(said.content ?? {});
  return {
    name: said.name,
    where: said.in,
    required: said.required === true || said.in === "path",
    description: said.description,
    schema: said.schema ?? said.content?.[media]?.schema ?? {},
    asJson: media !== undefined,
    explode: said.explode ?? (said.style ?? "form") === "form",
  };
}

/// Answers that a route gives when it succeeds: `[status, content]`.
export function successes(schemas, operation) {
  return Object.entries(operation.responses)
    .filter(([status]) => /^2/.test(status))
    .map(([status, response]) => [status, schemas.follow(response).content ?? {}]);
}

// === requests ===

/// The URL, headers and body that `values` make; `values` has `where`, `name` and what a field read.
export function request(operation, values, body, accept) {
  let path = operation.path;
  const query = new URLSearchParams();
  const headers = new Headers();
  if (accept) headers.set("accept", accept);
  for (const { parameter: { name, where, asJson, explode }, value } of values) {
    if (value === undefined) continue;
    const texts = asJson ? [value.json] : value.text;
    if (where === "path") {
      // The rest of a path keeps its slashes.
      const text = texts.join(",");
      const encoded = operation.rest === name ? text.split("/").map(encodeURIComponent).join("/") : encodeURIComponent(text);
      path = path.replace(`{${name}}`, () => encoded);
    } else if (where === "query") {
      for (const text of explode ? texts : [texts.join(",")]) query.append(name, text);
    } else {
      headers.set(name, texts.join(","));
    }
  }
  const url = at(path);
  url.search = query.toString();
  if (body?.media) headers.set("content-type", body.media);
  return { method: operation.method, url, headers, body: body?.data, shown: body?.shown };
}

/// The body that a form's members make: `members` are `[name, value]`.
export async function formBody(members, content) {
  const given = members.filter(([, value]) => value !== undefined);
  const files = given.filter(([, value]) => value.files);
  if (files.length === 0) return given.length ? jsonBody(await asJson(given)) : undefined;
  const [[, { files: [first] }]] = files;
  if (given.length === 1 && content[mediaOf(first)]) return fileBody(first);
  if (!content["multipart/form-data"]) {
    if (given.length === 1) return fileBody(first);
    return jsonBody(await asJson(given));
  }
  const data = new FormData();
  const shown = [];
  for (const [name, value] of given) {
    for (const file of value.files ?? []) {
      const media = mediaOf(file);
      data.append(name, new File([file], file.name, { type: media }));
      shown.push(`-F ${quote(`${name}=@${file.name};type=${media}`)}`);
    }
    if (!value.files) {
      const text = value.text.length === 1 ? value.text[0] : value.json;
      data.append(name, text);
      shown.push(`--form-string ${quote(`${name}=${text}`)}`);
    }
  }
  return { data, shown };
}

async function asJson(members) {
  const written = members.map(async ([name, value]) => `${JSON.stringify(name)}: ${value.json ?? await base64(value.files[0])}`);
  return `{${(await Promise.all(written)).join(", ")}}`;
}

async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return JSON.stringify(btoa(text));
}

export const jsonBody = (text) => ({ media: "application/json", data: text, shown: [`-d ${quote(text)}`] });

export function fileBody(file) {
  return { media: mediaOf(file), data: file, shown: [`--data-binary ${quote(`@${file.name}`)}`] };
}

/// The request as a command to paste.
export function curl({ method, url, headers, shown }) {
  const words = [["GET", "POST"].includes(method) && (method === "POST") === Boolean(shown) ? "curl" : `curl -X ${method}`, quote(url.href)];
  for (const [name, value] of headers) {
    if (name !== "accept" || value !== "*/*") words.push(`-H ${quote(`${name}: ${value}`)}`);
  }
  return [...words, ...(shown ?? [])].join(" \\\n  ");
}

const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

// === answers ===

/// Sends a request. `heard.head(answer)` comes with the head, `heard.piece(text)` with each piece
/// of a text that comes bit by bit. Gives the answer with its whole body.
export async function send({ method, url, headers, body }, signal, heard) {
  const began = performance.now();
  const response = await fetch(url, { method, headers, body, signal, cache: "no-store", redirect: "manual" });
  const media = (response.headers.get("content-type") ?? "").toLowerCase();
  const answer = {
    status: response.status,
    media: media.split(";")[0].trim(),
    contentType: media,
    headers: [...response.headers],
    callId: response.headers.get("exuvia-call-id"),
    firstMs: performance.now() - began,
    ms: undefined,
    blob: undefined,
    broken: undefined,
  };
  heard.head(answer);
  const pieces = [];
  const live = STREAMED.has(answer.media) ? new TextDecoder() : undefined;
  try {
    const reader = response.body?.getReader();
    for (let next = await reader?.read(); next && !next.done; next = await reader.read()) {
      pieces.push(next.value);
      if (live) heard.piece(live.decode(next.value, { stream: true }));
    }
  } catch (error) {
    if (signal.aborted) throw error;
    answer.broken = "The answer broke off: what came is not the whole. The server's log and the last calls say why.";
  }
  answer.ms = performance.now() - began;
  answer.blob = new Blob(pieces, { type: media });
  return answer;
}

export const STREAMED = new Set(["application/x-ndjson", "application/ndjson", "application/jsonl", "text/event-stream"]);

/// Whole numbers that a JavaScript number cannot hold stay what they are.
export function parse(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text, (key, value, context) => {
    const exact = typeof value !== "number" || Number.isSafeInteger(value) || !/^-?\d+$/.test(context?.source ?? "");
    return exact ? value : BigInt(context.source);
  });
}

/// Cuts what comes into lines and gives each as JSON.
export function lineReader(line) {
  let rest = "";
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop();
    for (const one of lines) if (one.trim()) line(parseOr(one));
  };
}

/// Cuts what comes into server-sent events.
export function eventReader(event) {
  let rest = "";
  return (text) => {
    const blocks = (rest + text).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const found = { event: "message", data: [] };
      for (const line of block.split("\n")) {
        const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
        if (name === "data") found.data.push(value);
        else if (name) found[name] = value;
      }
      if (found.data.length || found.event !== "message") event({ ...found, data: parseOr(found.data.join("\n")) });
    }
  };
}

function parseOr(text) {
  try {
    return parse(text);
  } catch {
    return text;
  }
}
