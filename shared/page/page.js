// What the pages of both programs have in common. Everything that is shown is set as text, never as HTML.

/** Makes an element: `el("td", {class: "number"}, "7")`. */
export function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function svg(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** Asks this replica; a refusal becomes an error with its sentence. */
export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value !== "" && value !== undefined));
  const answer = await fetch(`${path}?${query}`);
  if (!answer.ok) throw new Error((await answer.text()).trim() || `the answer is ${answer.status}`);
  return answer.json();
}

const trouble = () => document.getElementById("trouble");
export function fail(error) { trouble().textContent = error.message === "Failed to fetch" ? "This replica doesn't answer. What is shown is old." : error.message; trouble().hidden = false; }
export function clear() { trouble().hidden = true; }

/** Runs `work` now and again and again while its view is shown. */
export function repeat(view, seconds, work) {
  let running = false;
  const once = async () => {
    if (running || view.signal.aborted || document.hidden) return;
    running = true;
    try { await work(); if (!view.signal.aborted) clear(); } catch (error) { if (!view.signal.aborted) fail(error); }
    running = false;
  };
  const timer = setInterval(once, seconds * 1000);
  view.signal.addEventListener("abort", () => clearInterval(timer));
  return once();
}

/** Shows one of the views, by the fragment of the address. */
export function start(views) {
  let now = null;
  const main = document.getElementById("main");
  const show = () => {
    const [name] = location.hash.slice(1).split("?");
    const chosen = views[name] ? name : "overview";
    if (now) now.abort();
    now = new AbortController();
    for (const link of document.querySelectorAll("nav a")) {
      if (link.hash === `#${chosen}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    clear();
    main.replaceChildren();
    views[chosen](main, { signal: now.signal, query: new URLSearchParams(location.hash.split("?")[1] ?? "") });
  };
  addEventListener("hashchange", () => { show(); main.focus({ preventScroll: true }); scrollTo(0, 0); });
  show();
}

export const number = (value, digits = 0) => value === null || value === undefined ? "–" : value.toLocaleString("en", { maximumFractionDigits: digits });
export const millis = (value) => value === null || value === undefined ? "–" : value >= 1000 ? `${number(value / 1000, 2)} s` : `${number(value, value < 10 ? 1 : 0)} ms`;
export const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
/** How long something lasts, behind "the last": "minute", "5 minutes". */
export function lasting(seconds) {
  const [count, unit] = seconds < 60 ? [Math.max(1, Math.round(seconds)), "second"] : [Math.round(seconds / 60), "minute"];
  return count === 1 ? unit : plural(count, unit);
}
export function ago(seconds) {
  const [unit, size] = seconds < 60 ? ["s", 1] : seconds < 3600 ? ["min", 60] : seconds < 172800 ? ["h", 3600] : ["days", 86400];
  return `${Math.max(0, Math.floor(seconds / size))} ${unit}`;
}
export const when = (seconds) => seconds ? new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 16) + " UTC" : "–";
export const tag = (kind, text) => el("span", { class: `tag ${kind}` }, text);
export const fact = (name, value, small) => el("div", {}, el("dt", {}, name), el("dd", {}, value, small ? el("br") : "", small ? el("small", {}, small) : ""));

/** A table; on a phone each row becomes a card. Columns: [name, class]. */
export function table(columns, rows, caption) {
  const cells = (row) => el("tr", {}, row.map((cell, index) => el("td", { class: columns[index][1], "data-name": columns[index][0] }, el("span", {}, cell))));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { class: "cards" }, el("thead", {}, el("tr", {}, columns.map(([name, kind]) => el("th", { class: kind, scope: "col" }, name)))), el("tbody", {}, rows.map(cells))));
}

/** A line for each list of numbers, over the same time. */
export function chart(kind, lists, label) {
  const most = Math.max(1e-9, ...lists.flatMap(([values]) => values.map((value) => value ?? 0)));
  const line = ([values, name]) => {
    const step = 100 / Math.max(1, values.length - 1);
    let pen = "M";
    const points = values.map((value, index) => {
      if (value === null) { pen = "M"; return ""; }
      const point = `${pen}${(index * step).toFixed(2)} ${(30 - 28 * value / most).toFixed(2)}`;
      pen = "L";
      return point;
    });
    return svg("path", { d: points.join(""), class: name });
  };
  return svg("svg", { class: kind, viewBox: "0 0 100 32", preserveAspectRatio: "none", role: "img", "aria-label": label }, ...lists.map(line));
}

/** How much of a pool is used. */
export function bar(total, parts, label) {
  let at = 0;
  const made = svg("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", role: "img", "aria-label": label });
  for (const [kind, value] of parts) {
    const wide = total > 0 ? Math.min(100 - at, value > 0 ? Math.max(0.6, 100 * value / total) : 0) : 0;
    made.append(svg("rect", { class: kind, x: at, y: 0, width: wide, height: 10 }));
    at += wide;
  }
  return made;
}

/** What is wrong, each with its object, field, value and remedy. */
export function problems(list) {
  if (!list.length) return el("p", {}, tag("good", "nothing is wrong"));
  return el("ul", { class: "problems" }, list.map((problem) => {
    const name = problem.namespace ? `${problem.namespace}/${problem.name}` : problem.name;
    const place = problem.file ? ` in ${problem.file}${problem.line ? `:${problem.line}` : ""}` : "";
    let cause = problem.message;
    if (problem.remedy && cause.endsWith(problem.remedy)) cause = cause.slice(0, -problem.remedy.length).replace(/[;:,\s]+$/, "");
    return el("li", {},
      el("p", {}, tag(problem.severity === "error" ? "bad" : "warn", problem.severity), " ", el("strong", {}, `${problem.kind} ${name}`), el("span", { class: "quiet" }, ` ${problem.reason}${place}`)),
      problem.field && el("p", {}, el("code", {}, problem.field), problem.value && [" is ", el("code", {}, JSON.stringify(problem.value))]),
      el("p", {}, cause), problem.remedy && el("p", {}, el("strong", {}, "To do: "), problem.remedy));
  }));
}

/** A list that the server searches and cuts into pages. */
export function paged(main, view, { path, title, key, render, seen = () => {}, filters = [], every = 10, size = 100 }) {
  const list = el("div", { id: "list", "aria-live": "off" });
  const search = el("input", { type: "search", name: "search", autocomplete: "off", value: view.query.get("search") ?? "" });
  const form = el("form", { role: "search", onsubmit: (event) => event.preventDefault() }, el("label", { class: "wide" }, "Search", search), filters);
  const count = el("span", { role: "status" });
  const back = el("button", { type: "button", onclick: () => { offset = Math.max(0, offset - size); load(); } }, "Previous");
  const next = el("button", { type: "button", onclick: () => { offset += size; load(); } }, "Next");
  main.append(el("section", {}, el("h2", {}, title), form, el("div", { class: "pages" }, back, next, count), list));
  let offset = 0, asked = 0, typing;
  const load = async () => {
    const turn = ++asked;
    const extra = Object.fromEntries(new FormData(form));
    const answer = await ask(path, { ...extra, offset, limit: size });
    if (turn !== asked || view.signal.aborted) return;
    const found = answer[key];
    seen(answer);
    const range = found.length ? `${number(answer.offset + 1)} to ${number(answer.offset + found.length)} of ` : "";
    count.textContent = `${range}${number(answer.matched)}${answer.matched === answer.total ? "" : ` (of ${number(answer.total)})`}`;
    back.disabled = offset === 0;
    next.disabled = answer.offset + found.length >= answer.matched;
    const scrolled = list.querySelector(".scroll")?.scrollLeft ?? 0;
    list.replaceChildren(found.length ? render(found, answer) : el("p", { class: "quiet" }, "nothing is found"));
    if (scrolled) list.querySelector(".scroll").scrollLeft = scrolled;
  };
  const changed = () => { offset = 0; load().then(clear, fail); };
  form.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(changed, 150); });
  return repeat(view, every, load);
}

/** Says at the top which replica this is. */
export function named(overview) {
  const node = overview.node && overview.node !== overview.replica ? `, node ${overview.node}` : "";
  document.getElementById("replica").textContent = `${overview.role ? `${overview.role} ` : "replica "}${overview.replica}${node} · ${overview.version}`;
}
