// Reading JSON Schema as OpenAPI 3.1 has it: in words for people, and as examples.

const DEPTH = 6;

const FORMATS = {
  "date-time": "date and time",
  date: "date",
  time: "time",
  duration: "duration",
  uuid: "UUID",
  ipv4: "IPv4 address",
  ipv6: "IPv6 address",
  email: "e-mail address",
  uri: "URI",
  binary: "file",
};

/// A document, and the schemas in it.
export class Schemas {
  constructor(document) {
    this.document = document;
  }

  /// What a reference stands for; its siblings (a description, a default) win.
  follow(schema) {
    let found = schema ?? {};
    for (let step = 0; step < 24 && found && typeof found === "object" && found.$ref; step += 1) {
      const { $ref, ...own } = found;
      const target = this.at($ref);
      found = target && typeof target === "object" ? { ...target, ...own } : own;
    }
    if (found === true) return {};
    return found && typeof found === "object" ? found : { not: {} };
  }

  at(reference) {
    if (typeof reference !== "string" || !reference.startsWith("#/")) return undefined;
    const steps = reference.slice(2).split("/").map((step) => decode(step).replaceAll("~1", "/").replaceAll("~0", "~"));
    return steps.reduce((place, step) => (place && Object.hasOwn(place, step) ? place[step] : undefined), this.document);
  }

  /// A schema without `null`, and whether null was among what it takes; `allOf` becomes one.
  plain(schema) {
    let found = this.follow(schema);
    if (Array.isArray(found.allOf)) {
      const { allOf, ...own } = found;
      found = allOf.map((one) => this.follow(one)).reduceRight((sum, one) => merged(one, sum), own);
    }
    const { anyOf, oneOf, ...own } = found;
    const members = anyOf ?? oneOf;
    if (Array.isArray(members)) {
      const others = members.filter((one) => !isNull(this.follow(one)));
      const nullable = others.length < members.length;
      if (others.length === 1) {
        const inner = this.plain(others[0]);
        return { schema: { ...inner.schema, ...own }, nullable: nullable || inner.nullable };
      }
      return { schema: { ...own, anyOf: others }, nullable };
    }
    if (Array.isArray(found.type) && found.type.includes("null")) {
      const others = found.type.filter((type) => type !== "null");
      const type = others.length === 1 ? others[0] : others;
      return { schema: { ...found, type }, nullable: true };
    }
    return { schema: found, nullable: isNull(found) };
  }

  /// The name of the class a schema refers to.
  name(schema) {
    const reference = schema && typeof schema === "object" ? schema.$ref : undefined;
    return typeof reference === "string" ? decode(reference.slice(reference.lastIndexOf("/") + 1)) : undefined;
  }

  /// The name of the one class that is left without null and what `allOf` adds.
  onlyName(schema) {
    const members = schema?.anyOf ?? schema?.oneOf ?? schema?.allOf;
    const names = (Array.isArray(members) ? members : []).filter((one) => !isNull(this.follow(one)) && !one.not).map((one) => this.name(one));
    return names.length === 1 ? names[0] : undefined;
  }

  /// The values of a choice, or nothing.
  choices(schema) {
    const { schema: plain } = this.plain(schema);
    if (Array.isArray(plain.enum)) return plain.enum;
    if ("const" in plain) return [plain.const];
    if (!Array.isArray(plain.anyOf) || plain.anyOf.length === 0) return undefined;
    const each = plain.anyOf.map((one) => this.choices(one));
    return each.every(Boolean) ? each.flat() : undefined;
  }

  /// `list of Line`, `whole number from 1 to 9`, `"post" or "van"`.
  words(schema, depth = 0) {
    const name = this.name(schema) ?? this.onlyName(schema);
    const { schema: plain, nullable } = this.plain(schema);
    const tail = nullable && !isNull(plain) ? " or null" : "";
    if (name && this.isObject(plain)) return name + tail;
    const choices = this.choices(schema);
    if (choices) return alternatives(choices.filter((one) => one !== null).map((one) => JSON.stringify(one))) + tail;
    if (Array.isArray(plain.anyOf)) {
      if (depth >= DEPTH) return "one of several";
      return alternatives([...new Set(plain.anyOf.map((one) => this.words(one, depth + 1)))]) + tail;
    }
    return this.kindInWords(plain, depth, name) + tail;
  }

  kindInWords(plain, depth, name) {
    if (isFile(plain)) return mediaInWords(plain.contentMediaType);
    switch (plain.type) {
      case "integer": return `whole number${bounds(plain)}`;
      case "number": return `number${bounds(plain)}`;
      case "boolean": return "yes or no";
      case "string": return textInWords(plain);
      case "null": return "null";
      case "array": {
        if (Array.isArray(plain.prefixItems)) {
          const items = plain.prefixItems.map((item) => (depth < DEPTH ? this.words(item, depth + 1) : "…"));
          return `[${items.join(", ")}]`;
        }
        const item = plain.items && depth < DEPTH ? this.words(plain.items, depth + 1) : "anything";
        const of = item === "anything" ? "list" : `list of ${item.includes(" or ") ? `(${item})` : item}`;
        return `${of}${sizes(plain.minItems, plain.maxItems, "item")}`;
      }
      case "object": {
        if (name) return name;
        if (plain.properties && Object.keys(plain.properties).length) return plain.title ?? "object";
        const value = plain.additionalProperties;
        if (value && typeof value === "object" && depth < DEPTH) return `object of ${this.words(value, depth + 1)}`;
        return "object";
      }
      default:
        if (Array.isArray(plain.type)) return alternatives(plain.type.map((type) => this.kindInWords({ ...plain, type }, depth, name)));
        return plain.title ?? "anything";
    }
  }

  isObject(plain) {
    return plain.type === "object" || plain.properties !== undefined;
  }

  /// A value that fits, with what must be there.
  example(schema, depth = 0) {
    const { schema: plain, nullable } = this.plain(schema);
    if (Array.isArray(plain.examples) && plain.examples.length) return plain.examples[0];
    if (plain.example !== undefined) return plain.example;
    if (plain.default !== undefined && depth > 0) return plain.default;
    const choices = this.choices(schema);
    if (choices) return choices[0];
    if (depth > DEPTH) return null;
    if (Array.isArray(plain.anyOf) && plain.anyOf.length) return this.example(plain.anyOf[0], depth + 1);
    const type = Array.isArray(plain.type) ? plain.type[0] : plain.type;
    switch (type) {
      case "integer": return number(plain, 1);
      case "number": return number(plain, 0.5);
      case "boolean": return false;
      case "string": return text(plain);
      case "null": return null;
      case "array": return this.listExample(plain, depth);
      case "object": return this.objectExample(plain, depth);
      default: return plain.properties ? this.objectExample(plain, depth) : nullable ? null : {};
    }
  }

  listExample(plain, depth) {
    if (Array.isArray(plain.prefixItems)) return plain.prefixItems.map((item) => this.example(item, depth + 1));
    if (plain.items === undefined || depth > 3) return [];
    return Array.from({ length: Math.max(1, Math.min(plain.minItems ?? 1, 8)) }, () => this.example(plain.items, depth + 1));
  }

  objectExample(plain, depth) {
    const required = new Set(plain.required ?? []);
    const members = Object.entries(plain.properties ?? {});
    const shown = members.filter(([name]) => required.has(name) || (depth === 0 && members.length <= 12 && required.size === 0));
    return Object.fromEntries(shown.map(([name, member]) => [name, this.example(member, depth + 1)]));
  }

  /// The classes a schema names, in the order in which they are met.
  classes(schemas) {
    const found = new Map();
    const visit = (schema, depth) => {
      if (!schema || typeof schema !== "object" || depth > 40) return;
      if (Array.isArray(schema)) return schema.forEach((one) => visit(one, depth + 1));
      const name = this.name(schema);
      if (name && found.has(name)) return;
      if (name) {
        const { schema: plain } = this.plain(schema);
        found.set(name, plain);
        visit(plain, depth + 1);
      }
      for (const [word, inner] of Object.entries(schema)) {
        if (word === "default" || word === "examples" || word === "const" || word === "enum") continue;
        if (word === "properties") Object.values(inner ?? {}).forEach((one) => visit(one, depth + 1));
        else visit(inner, depth + 1);
      }
    };
    schemas.forEach((schema) => visit(schema, 0));
    return found;
  }
}

export const isNull = (schema) => schema.type === "null" || schema.const === null;

/// Whether a part of a form is a file.
export const isFile = (plain) => plain.format === "binary"
  || (plain.contentMediaType !== undefined && plain.contentEncoding === undefined);

const decode = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

function merged(first, second) {
  const both = { ...first, ...second };
  if (first.properties || second.properties) both.properties = { ...first.properties, ...second.properties };
  if (first.required || second.required) both.required = [...new Set([...(first.required ?? []), ...(second.required ?? [])])];
  return both;
}

function mediaInWords(media) {
  if (typeof media !== "string" || media === "application/octet-stream" || media.includes(",")) return "file";
  return `file (${media})`;
}

function textInWords(plain) {
  if (plain.contentEncoding) return `bytes in ${plain.contentEncoding}`;
  const what = FORMATS[plain.format] ?? "text";
  const pattern = typeof plain.pattern === "string" && plain.pattern.length <= 24 && !FORMATS[plain.format] ? ` like ${plain.pattern}` : "";
  return `${what}${sizes(plain.minLength, plain.maxLength, "character")}${pattern}`;
}

function bounds({ minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf }) {
  const step = multipleOf !== undefined ? `, a multiple of ${multipleOf}` : "";
  if (minimum !== undefined && maximum !== undefined) return ` from ${minimum} to ${maximum}${step}`;
  const low = minimum !== undefined ? `at least ${minimum}` : exclusiveMinimum !== undefined ? `above ${exclusiveMinimum}` : "";
  const high = maximum !== undefined ? `at most ${maximum}` : exclusiveMaximum !== undefined ? `below ${exclusiveMaximum}` : "";
  const said = [low, high].filter(Boolean).join(", ");
  return `${said ? `, ${said}` : ""}${step}`;
}

function sizes(least, most, unit) {
  const units = (number) => `${number} ${unit}${number === 1 ? "" : "s"}`;
  if (least && most !== undefined) return least === most ? ` of ${units(least)}` : ` of ${least} to ${units(most)}`;
  if (least > 1) return ` of at least ${units(least)}`;
  return most !== undefined ? ` of at most ${units(most)}` : "";
}

function alternatives(words) {
  if (words.length > 8) return `${words.slice(0, 6).join(", ")} or ${words.length - 6} others`;
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

function number({ minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf }, otherwise) {
  if (multipleOf !== undefined) return multipleOf * Math.ceil((minimum ?? exclusiveMinimum ?? 0) / multipleOf + (exclusiveMinimum !== undefined ? 1 : 0));
  if (minimum !== undefined) return minimum;
  if (exclusiveMinimum !== undefined) return exclusiveMinimum + otherwise;
  if (maximum !== undefined) return Math.min(maximum, otherwise);
  if (exclusiveMaximum !== undefined) return Math.min(exclusiveMaximum - otherwise, otherwise);
  return otherwise;
}

const SAMPLES = {
  "date-time": "2026-01-31T12:00:00Z",
  date: "2026-01-31",
  time: "12:00:00",
  duration: "PT1H",
  uuid: "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
  ipv4: "192.0.2.1",
  ipv6: "2001:db8::1",
};

function text(plain) {
  if (SAMPLES[plain.format]) return SAMPLES[plain.format];
  if (plain.contentEncoding) return "";
  return "text".padEnd(plain.minLength ?? 0, "x").slice(0, plain.maxLength ?? undefined);
}
