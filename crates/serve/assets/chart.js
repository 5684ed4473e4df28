// A table as a chart: lines over a time, a number or the rows, bars over a few names.

import { fresh, h, s } from "./dom.js";
import { cell, isNumeric } from "./table.js";

const HEIGHT = 290;
const TOP = 12;
const BOTTOM = 44;
const RIGHT = 14;
const COLOURS = 6;
const BARS = 40;

const TIME = /^\d{4}-\d\d(-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?)?$/;

/// What can be drawn of a table, or nothing.
export function plan(table) {
  const { columns, length } = table;
  if (length < 2 || length > 200_000) return null;
  if (table.plain) return numbersOf(table);
  const numeric = columns.filter(isNumeric);
  const time = columns.find((column) => isTime(column.values));
  if (time && length <= 12 && numeric.length && !climbs(time.values.map(moment)) && new Set(time.values).size === length) {
    // A ranking of days, say: their order is what it tells.
    return { kind: "bars", x: time.name, names: time.values, series: series(numeric), length };
  }
  if (time && numeric.length) return lines(time.name, time.values.map(moment), numeric, "time", length);
  const [first] = columns;
  if (isNumeric(first) && numeric.length > 1 && climbs(first.values)) {
    return lines(first.name, first.values.map(Number), numeric.filter((column) => column !== first), "number", length);
  }
  if (!numeric.length) return null;
  const names = columns.find((column) => !isNumeric(column) && column.values.every((value) => typeof value === "string"));
  if (names && length <= BARS && new Set(names.values).size === length) {
    return { kind: "bars", x: names.name, names: names.values, series: series(numeric), length };
  }
  return numeric.length && length > 2 && !table.record ? lines("row", numeric[0].values.map((_, at) => at), numeric, "number", length) : null;
}

function numbersOf(table) {
  const [column] = table.columns;
  return isNumeric(column) && table.length > 2 ? lines("row", column.values.map((_, at) => at), [column], "number", table.length) : null;
}

function lines(x, places, numeric, scale, length) {
  const order = places.map((_, at) => at).sort((one, other) => places[one] - places[other]);
  const sorted = { x, scale, kind: "lines", length, places: order.map((at) => places[at]) };
  return { ...sorted, series: series(numeric).map((one) => ({ ...one, values: order.map((at) => one.values[at]) })) };
}

/// The columns, those shown at first that are of one size with the first.
function series(numeric) {
  const size = (values) => values.reduce((most, value) => (value === null || value === undefined ? most : Math.max(most, Math.abs(Number(value)))), 0);
  const [first] = numeric.map(({ values }) => size(values));
  return numeric.slice(0, 24).map(({ name, values }, at) => {
    const own = size(values);
    const alike = own === 0 || first === 0 || (own / first < 12 && first / own < 12);
    return { name, values: values.map((value) => (value === null || value === undefined ? NaN : Number(value))), colour: at % COLOURS, shown: at < COLOURS && alike };
  });
}

const moment = (value) => (typeof value === "string" ? Date.parse(/[Zz]|[+-]\d\d:?\d\d$|^\d{4}-\d\d(-\d\d)?$/.test(value) ? value : `${value.replace(" ", "T")}Z`) : NaN);
const isTime = (values) => values.slice(0, 50).every((value) => typeof value === "string" && TIME.test(value)) && values.every((value) => !Number.isNaN(moment(value)));
const climbs = (values) => values.every((value, at) => at === 0 || Number(value) > Number(values[at - 1]));

/// A chart that fits its place, with a legend that shows and hides series.
export function chartView(planned, label) {
  const place = h("div", { class: "plot" });
  const tip = h("div", { class: "tip", hidden: true, "aria-live": "polite" });
  const legend = h("div", { class: "legend", role: "group", "aria-label": "Series" });
  const view = h("figure", { class: "chart" }, legend, h("div", { class: "canvas" }, place, tip));
  const whole = h("button", { type: "button", class: "quiet small", hidden: true, onclick: () => zoom(0, planned.length) }, "Whole range");
  let width = 0;
  let [from, to] = [0, planned.length];
  const draw = () => {
    if (width < 40) return;
    tip.hidden = true;
    whole.hidden = to - from === planned.length;
    place.replaceChildren(picture(part(planned, from, to), width, tip, label, (first, last) => zoom(from + first, from + last + 1)));
  };
  const zoom = (first, last) => {
    const focused = place.contains(document.activeElement);
    const least = Math.min(4, planned.length);
    [from, to] = [Math.max(0, Math.min(first, planned.length - least)), Math.min(planned.length, Math.max(last, first + least))];
    draw();
    if (focused) place.firstElementChild?.focus();
  };
  for (const one of planned.series) {
    const button = h("button", { type: "button", class: `series c${one.colour}`, "aria-pressed": String(one.shown) }, h("i", {}), one.name);
    button.addEventListener("click", () => {
      one.shown = !one.shown;
      button.setAttribute("aria-pressed", String(one.shown));
      draw();
    });
    legend.append(button);
  }
  legend.append(whole);
  new ResizeObserver(([{ contentRect }]) => {
    const fits = Math.floor(contentRect.width);
    if (fits !== width) {
      width = fits;
      draw();
    }
  }).observe(place);
  return view;
}

/// The rows of a plan from one to before another.
function part(planned, from, to) {
  if (to - from === planned.length) return planned;
  const cut = (list) => list?.slice(from, to);
  return {
    ...planned,
    length: to - from,
    places: cut(planned.places),
    names: cut(planned.names),
    series: planned.series.map((one) => ({ ...one, values: cut(one.values) })),
  };
}

function picture(planned, width, tip, label, zoom) {
  const shown = planned.series.filter((one) => one.shown);
  const values = shown.flatMap((one) => one.values).filter((value) => Number.isFinite(value));
  const ticks = nice(...range(values, planned.kind === "bars"), 5);
  const left = Math.max(...ticks.map((tick) => number(tick, ticks).length)) * 7 + 16;
  const inner = { left, right: width - RIGHT, top: TOP, bottom: HEIGHT - BOTTOM };
  const y = scale(ticks[0], ticks.at(-1), inner.bottom, inner.top);
  const summary = `${label ? `${label}: ` : ""}${shown.map((one) => one.name).join(", ")} by ${planned.x}, ${planned.length} rows. Arrow keys read values, plus and minus zoom.`;
  const title = fresh("chart");
  const root = s("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", tabindex: 0, "aria-labelledby": title }, s("title", { id: title }, summary));
  for (const tick of ticks) {
    root.append(
      s("line", { class: tick === 0 ? "zero" : "rule", x1: left, x2: inner.right, y1: y(tick), y2: y(tick) }),
      s("text", { class: "tick", x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, number(tick, ticks)),
    );
  }
  root.append(s("text", { class: "tick name", x: (inner.left + inner.right) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, planned.x));
  const x = planned.kind === "bars" ? bars(root, planned, shown, inner, y) : curves(root, planned, shown, inner, y);
  pointer(root, planned, shown, inner, x, y, tip, width, zoom);
  return root;
}

function range(values, fromZero) {
  if (!values.length) return [0, 1];
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  // Zero is part of the picture where it is not far.
  if (fromZero || (low > 0 && low < (high - low) * 0.7)) low = Math.min(low, 0);
  if (fromZero || (high < 0 && -high < (high - low) * 0.7)) high = Math.max(high, 0);
  return low === high ? [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2] : [low, high];
}

const scale = (from, to, start, end) => (value) => start + ((value - from) / (to - from || 1)) * (end - start);

/// Round numbers from below `low` to above `high`.
function nice(low, high, wanted) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= rough);
  const first = Math.floor(low / step) * step;
  const length = Math.round((Math.ceil(high / step) * step - first) / step) + 1;
  return Array.from({ length }, (_, at) => Number((first + at * step).toPrecision(12)));
}

function number(value, ticks) {
  const most = Math.max(...ticks.map(Math.abs));
  for (const [size, unit] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]]) {
    if (most >= size) return value === 0 ? "0" : `${Number((value / (unit === "k" ? 1e3 : size)).toPrecision(6))}${unit}`;
  }
  return String(value).replace("-", "−");
}

// === lines ===

function curves(root, planned, shown, inner, y) {
  const { places } = planned;
  const x = scale(places[0], places.at(-1), inner.left, inner.right);
  const axis = planned.scale === "time" ? moments(places[0], places.at(-1), inner) : steps(places[0], places.at(-1), inner);
  for (const [value, text] of axis) {
    root.append(s("text", { class: "tick", x: x(value), y: HEIGHT - 26, "text-anchor": x(value) > inner.right - 24 ? "end" : "middle" }, text));
    root.append(s("line", { class: "rule short", x1: x(value), x2: x(value), y1: inner.bottom, y2: inner.bottom + 4 }));
  }
  for (const one of [...shown].reverse()) {
    const dense = places.length > inner.right - inner.left ? " dense" : "";
    root.append(s("path", { class: `curve c${one.colour}${dense}`, d: path(places, one.values, x, y, inner) }));
    if (places.length <= 40) {
      places.forEach((place, at) => Number.isFinite(one.values[at])
        && root.append(s("circle", { class: `dot c${one.colour}`, cx: x(place), cy: y(one.values[at]), r: 2.5 })));
    }
  }
  return (at) => x(places[at]);
}

/// A line through the values; of many at one pixel, the least and the greatest.
function path(places, values, x, y, inner) {
  const dense = places.length > 3 * (inner.right - inner.left);
  const points = [];
  let [column, low, high] = [null, null, null];
  const flush = () => {
    if (low !== null) points.push(...(low <= high ? [low, high] : [high, low]));
    [low, high] = [null, null];
  };
  values.forEach((value, at) => {
    if (!dense) return points.push(Number.isFinite(value) ? at : null);
    const pixel = Math.floor(x(places[at]));
    if (pixel !== column) flush();
    column = pixel;
    if (!Number.isFinite(value)) return undefined;
    if (low === null || value < values[low]) low = at;
    if (high === null || value > values[high]) high = at;
    return undefined;
  });
  flush();
  let pen = "M";
  return points.map((at) => {
    if (at === null) {
      pen = "M";
      return "";
    }
    const step = `${pen}${x(places[at]).toFixed(1)} ${y(values[at]).toFixed(1)}`;
    pen = "L";
    return step;
  }).join("");
}

function steps(from, to, inner) {
  const ticks = nice(from, to, Math.max(2, (inner.right - inner.left) / 90)).filter((tick) => tick >= from && tick <= to);
  return ticks.map((tick) => [tick, number(tick, ticks)]);
}

const MINUTE = 60_000;
const DAY = 86_400_000;
const STRIDES = [1000, 5000, 15_000, 30_000, MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, 60 * MINUTE, 180 * MINUTE, 360 * MINUTE, 720 * MINUTE, DAY, 2 * DAY, 7 * DAY, 14 * DAY];
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Round moments, in UTC as the data has them.
function moments(from, to, inner) {
  const wanted = Math.max(2, Math.floor((inner.right - inner.left) / 95));
  const stride = STRIDES.find((one) => (to - from) / one <= wanted);
  if (!stride) return calendar(from, to, wanted);
  const ticks = [];
  for (let tick = Math.ceil(from / stride) * stride; tick <= to; tick += stride) {
    const date = new Date(tick);
    const clock = date.toISOString().slice(11, stride < MINUTE ? 19 : 16);
    ticks.push([tick, stride >= DAY || clock === "00:00" ? `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}` : clock]);
  }
  return ticks;
}

function calendar(from, to, wanted) {
  const months = (to - from) / (30.44 * DAY);
  const stride = [1, 2, 3, 6, 12, 24, 60, 120, 240].find((one) => months / one <= wanted) ?? 1200;
  const ticks = [];
  const begin = new Date(from);
  for (let month = Math.ceil((begin.getUTCFullYear() * 12 + begin.getUTCMonth()) / stride) * stride; ; month += stride) {
    const tick = Date.UTC(Math.floor(month / 12), month % 12);
    if (tick > to) return ticks;
    if (tick >= from) ticks.push([tick, month % 12 === 0 ? String(Math.floor(month / 12)) : MONTHS[month % 12]]);
  }
}

// === bars ===

function bars(root, { names }, shown, inner, y) {
  const slot = (inner.right - inner.left) / names.length;
  const wide = Math.min(64, slot * 0.72) / Math.max(1, shown.length);
  const fits = Math.max(1, Math.ceil(names.length / ((inner.right - inner.left) / 64)));
  const middle = (at) => inner.left + slot * (at + 0.5);
  names.forEach((name, at) => {
    shown.forEach((one, place) => {
      if (!Number.isFinite(one.values[at])) return;
      const [a, b] = [y(0), y(one.values[at])];
      const left = middle(at) + (place - shown.length / 2) * wide;
      root.append(s("rect", { class: `bar c${one.colour}`, x: left + 0.5, y: Math.min(a, b), width: Math.max(1, wide - 1), height: Math.max(1, Math.abs(a - b)), rx: Math.min(2, wide / 4) }));
    });
    if (at % fits === 0) {
      const room = Math.max(4, Math.floor((slot * fits) / 7));
      const text = name.length > room ? `${name.slice(0, room - 1)}…` : name;
      root.append(s("text", { class: "tick", x: middle(at), y: HEIGHT - 26, "text-anchor": "middle" }, text));
    }
  });
  return middle;
}

// === reading values ===

/// Shows the values nearest to the pointer, or where the arrow keys are; what is drawn over is
/// zoomed into.
function pointer(root, planned, shown, inner, x, y, tip, width, zoom) {
  const cross = s("line", { class: "cross", y1: inner.top, y2: inner.bottom, visibility: "hidden" });
  const dots = shown.map((one) => s("circle", { class: `dot c${one.colour}`, r: 4, visibility: "hidden" }));
  const chosen = s("rect", { class: "chosen", y: inner.top, height: inner.bottom - inner.top, visibility: "hidden" });
  root.append(chosen, cross, ...dots);
  let at = 0;
  let pressed;
  const hide = () => {
    tip.hidden = true;
    for (const mark of [cross, ...dots]) mark.setAttribute("visibility", "hidden");
  };
  const show = (place) => {
    at = Math.max(0, Math.min(planned.length - 1, place));
    const left = x(at);
    cross.setAttribute("x1", left);
    cross.setAttribute("x2", left);
    if (planned.kind === "lines") cross.setAttribute("visibility", "visible");
    shown.forEach((one, index) => {
      const there = Number.isFinite(one.values[at]);
      dots[index].setAttribute("visibility", there && planned.kind === "lines" ? "visible" : "hidden");
      if (there) {
        dots[index].setAttribute("cx", left);
        dots[index].setAttribute("cy", y(one.values[at]));
      }
    });
    const rows = shown.map((one) => h("p", { class: `c${one.colour}` }, h("i", {}), h("span", {}, one.name), h("b", {}, Number.isFinite(one.values[at]) ? cell(one.values[at]) : "–")));
    tip.replaceChildren(h("p", { class: "tip-x" }, where(planned, at)), ...rows);
    tip.hidden = false;
    const high = shown.some((one) => y(one.values[at]) < (inner.top + inner.bottom) / 2);
    tip.classList.toggle("low", high);
    const over = left > width / 2;
    tip.style.left = over ? "" : `${left + 12}px`;
    tip.style.right = over ? `${width - left + 12}px` : "";
  };
  root.addEventListener("pointermove", (event) => {
    const box = root.getBoundingClientRect();
    const place = nearest(planned, inner, x, event.clientX - box.left);
    show(place);
    if (pressed === undefined) return;
    chosen.setAttribute("x", Math.min(x(pressed), x(at)));
    chosen.setAttribute("width", Math.abs(x(pressed) - x(at)));
    chosen.setAttribute("visibility", "visible");
  });
  root.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button !== 0 || planned.kind === "bars") return;
    pressed = nearest(planned, inner, x, event.clientX - root.getBoundingClientRect().left);
    root.setPointerCapture(event.pointerId);
  });
  root.addEventListener("pointerup", () => {
    const [first, last] = [Math.min(pressed, at), Math.max(pressed, at)];
    pressed = undefined;
    chosen.setAttribute("visibility", "hidden");
    if (last - first > 1) zoom(first, last);
  });
  root.addEventListener("pointerleave", hide);
  root.addEventListener("blur", hide);
  root.addEventListener("keydown", (event) => {
    const half = Math.max(2, Math.floor(planned.length / 4));
    if (event.key === "+" || event.key === "=") return zoom(at - half, at + half);
    if (event.key === "-") return zoom(-planned.length, 2 * planned.length);
    const step = { ArrowRight: 1, ArrowLeft: -1, PageDown: Math.ceil(planned.length / 10), PageUp: -Math.ceil(planned.length / 10) }[event.key];
    if (step === undefined && event.key !== "Home" && event.key !== "End") return undefined;
    event.preventDefault();
    return show(event.key === "Home" ? 0 : event.key === "End" ? planned.length - 1 : tip.hidden ? at : at + step);
  });
}

function nearest(planned, inner, x, pixel) {
  if (planned.kind === "bars") return Math.floor(((pixel - inner.left) / (inner.right - inner.left)) * planned.length);
  let [low, high] = [0, planned.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x(middle) < pixel) low = middle;
    else high = middle;
  }
  return pixel - x(low) < x(high) - pixel ? low : high;
}

function where(planned, at) {
  if (planned.kind === "bars") return planned.names[at];
  if (planned.scale !== "time") return `${planned.x} ${cell(planned.places[at])}`;
  return new Date(planned.places[at]).toISOString().replace("T", " ").replace(/(:00)?\.000Z$/, "").replace(/ 00:00$/, "");
}

/// A line so small that it says only where things go.
export function spark(values, from, width = 72, height = 20) {
  const [low, high] = [Math.min(from, ...values), Math.max(...values)];
  const x = scale(0, Math.max(1, values.length - 1), 1, width - 1);
  const y = scale(low, high === low ? low + 1 : high, height - 2, 2);
  const d = values.map((value, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  return s("svg", { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, s("path", { d }));
}
