import { ago, ask, chart, clear, el, fact, fail, lasting, millis, named, number, paged, plural, problems, repeat, start, table, tag, when } from "/page.js";

const day = 86400;

function expiry(shown, now) {
  if (!shown.expires) return tag("quiet", "not there yet");
  const days = Math.floor((shown.expires - now) / day);
  const kind = days < 0 ? "bad" : days < 7 ? "warn" : "good";
  return tag(kind, days < 0 ? "expired" : `${plural(days, "day")} left`);
}

function traffic(traffic) {
  const { all, hosts, rest } = traffic;
  const charts = el("div", { class: "charts" },
    el("div", {}, el("p", {}, `Requests a second: ${number(all.rate, 1)} now`), chart("chart", [[all.rates, "rate"]], "requests a second")),
    el("div", {}, el("p", {}, `Errors (5xx): ${number(all.errors)} of ${number(all.requests)}`), chart("chart", [[all.errorRates, "errors"]], "errors a second")),
    el("div", {}, el("p", {}, `Latency: mean ${millis(all.mean)}, p99 ${millis(all.p99)}`), chart("chart", [[all.latencies, "rate"]], "mean latency")));
  const row = (name, one) => [name, chart("spark", [[one.rates, "rate"], [one.errorRates, "errors"]], `requests a second of the host`), number(one.rate, 1), number(one.requests), one.errors ? tag("bad", number(one.errors)) : "0", millis(one.p50), millis(one.p99)];
  const rows = hosts.map((host) => row(host.host === "" ? "(no rule)" : host.host, host));
  if (rest.requests) rows.push(row("all others", rest));
  return [charts, el("p", { class: "quiet" }, `The last ${lasting(all.rates.length * traffic.tick)} of this replica.`), rows.length
    ? table([["Host"], ["Requests"], ["a second", "number"], ["all", "number"], ["5xx", "number"], ["median", "number"], ["p99", "number"]], rows, "Traffic by host")
    : el("p", { class: "quiet" }, "No requests yet.")];
}

function certificateRows(list, now) {
  return list.map((one) => {
    const acme = one.acme;
    const state = acme ? [tag(["issued", "foreign"].includes(acme.state) ? "good" : ["ordering", "queued"].includes(acme.state) ? "warn" : "bad", acme.state),
      el("ul", { class: "words" }, [["waits for", acme.waitingFor], ["last error", acme.lastError], ["next try", acme.nextTry && when(acme.nextTry)], ["renews", acme.renewsAt && when(acme.renewsAt)]].filter(([, text]) => text).map(([name, text]) => el("li", {}, `${name}: ${text}`)),
        acme.hosts.filter((host) => host.lastError).map((host) => el("li", {}, `${host.host}: ${host.lastError}${host.remedy ? `. To do: ${host.remedy}` : ""}`)))] : el("span", { class: "quiet" }, "by hand");
    return [one.names.join(", ") || "–", `${one.namespace}/${one.secret}${one.isDefault ? " (default)" : ""}`, one.issuer ?? acme?.issuer ?? "–", [expiry(one, now), " ", el("span", { class: "quiet" }, when(one.expires))], state];
  });
}
const certificateColumns = [["Names"], ["Secret"], ["Issuer"], ["Expires"], ["Automatic"]];

function overview(main, view) {
  const top = el("section", {}, el("h2", {}, "What is live"), el("dl", { class: "facts" }));
  const wrong = el("section", {}, el("h2", {}, "Problems"), el("div"));
  const flow = el("section", {}, el("h2", {}, "Traffic"), el("div"));
  const keys = el("section", {}, el("h2", {}, "Certificates that expire first"), el("div"));
  // Shown when there is something in it, so that nothing moves.
  const box = el("div", { hidden: true }, top, wrong, flow, keys);
  main.append(box);
  repeat(view, 2, async () => {
    const now = await ask("/status/overview");
    if (view.signal.aborted) return;
    named(now);
    const counts = now.counts;
    top.lastChild.replaceChildren(
      fact("State", now.ready ? tag("good", "ready") : tag("bad", "not ready"), now.awaited.length ? `waits for ${now.awaited.join(", ")}` : `runs for ${ago(now.now - now.started)}`),
      fact("Table", number(now.generation), now.liveSince ? `live for ${ago(now.now - now.liveSince)}` : "none yet"),
      fact("Ingresses", number(counts.ingresses), `${plural(counts.hosts, "host")}, ${plural(counts.routes, "rule")}`),
      fact("Problems", number(counts.errors + counts.warnings), `${plural(counts.errors, "error")}, ${plural(counts.warnings, "warning")}`),
      fact("Requests a second", number(now.traffic.all.rate, 1), `p99 ${millis(now.traffic.all.p99)}`),
      fact("Certificates", number(counts.certificates), now.certificates[0]?.expires ? `first expires ${when(now.certificates[0].expires)}` : ""),
      fact("Addresses", now.addresses.slice(0, 3).join(", ") || "–", "published in status"),
      fact("Objects from", el("span", { class: "mono" }, now.source.origin ?? "–"), now.source.disconnectedSince ? `can't be read since ${now.source.disconnectedSince}` : "being followed"));
    const all = counts.errors + counts.warnings;
    wrong.lastChild.replaceChildren(problems(now.problems), ...(all > now.problems.length ? [el("p", {}, el("a", { href: "#problems" }, `all ${number(all)} problems`))] : []));
    flow.lastChild.replaceChildren(...traffic(now.traffic));
    keys.lastChild.replaceChildren(now.certificates.length ? table(certificateColumns, certificateRows(now.certificates, now.now), "Certificates") : el("p", { class: "quiet" }, "No certificates are served but the self-signed one."));
    box.hidden = false;
  });
}

function allProblems(main, view) {
  ask("/status/overview").then(named, fail);
  paged(main, view, { path: "/status/problems", title: "Problems", key: "problems", render: problems });
}

function endpoints(route) {
  if (route.unavailable) return tag("bad", `503: ${route.unavailable}`);
  if (!route.endpoints.length) return el("span", { class: "quiet" }, route.backend ? "none" : "–");
  const shown = route.endpoints.map((one) => el("li", {}, el("span", { class: "mono" }, one.address), " ",
    one.state === "ejected" ? tag("bad", `left out for ${millis(one.ejectedForMs)}`) : tag("good", one.state), one.inFlight ? ` ${number(one.inFlight)} in flight` : ""));
  return el("ul", { class: "words" }, shown, route.moreEndpoints ? el("li", {}, `and ${number(route.moreEndpoints)} more`) : null);
}

function routes(main, view) {
  ask("/status/overview").then(named, fail);
  const unwell = el("label", { class: "tick" }, el("input", { type: "checkbox", name: "show", value: "unwell" }), "only what fails");
  const url = (route) => `#explain?url=${encodeURIComponent(`http://${route.host === "*" ? "anything" : route.host.replace("*", "any")}${route.path.replace(/^\S+ /, "").replace(/^default backend$/, "/")}`)}`;
  const row = (route) => [
    [el("strong", {}, route.host), el("br"), el("span", { class: "mono" }, route.path), el("br"), el("a", { href: url(route), "aria-label": `Explain ${route.host} ${route.path}` }, "explain")],
    [`${route.namespace}/${route.ingress}`, el("br"), el("span", { class: "quiet" }, route.source ?? (route.dialect === "ingress-nginx" ? "class of ingress-nginx" : ""))],
    [route.backend ?? "–", route.protocol && route.protocol !== "HTTP/1.1" ? [el("br"), el("span", { class: "quiet" }, route.protocol)] : ""],
    endpoints(route),
    route.asks.length ? el("ul", { class: "words" }, route.asks.map((words) => el("li", {}, el("strong", {}, `${words.about}: `), words.text))) : el("span", { class: "quiet" }, "as usual")];
  paged(main, view, { path: "/status/routes", title: "Routes", key: "routes", filters: unwell, every: 5,
    render: (list) => table([["Rule"], ["Ingress"], ["Backend"], ["Endpoints"], ["Limits and access"]], list.map(row), "Routes") });
}

function explain(main, view) {
  const said = el("div", { "aria-live": "polite" });
  const field = (label, attributes, wide) => el("label", { class: wide ? "wide" : "" }, label, el(attributes.rows ? "textarea" : "input", { autocomplete: "off", ...attributes }));
  const form = el("form", {}, field("URL", { name: "url", required: true, value: view.query.get("url") ?? "", placeholder: "https://shop.example/cart" }, true),
    el("label", {}, "Method", el("select", { name: "method" }, ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"].map((method) => el("option", {}, method)))),
    field("Client", { name: "client", placeholder: "192.0.2.7", size: "16" }), field("Headers, one a line", { name: "header", rows: 2, placeholder: "Cookie: a=1" }, true), el("button", { class: "first" }, "Explain"));
  const show = async () => {
    try {
      const answer = await ask("/status/explain", Object.fromEntries(new FormData(form)));
      if (view.signal.aborted) return;
      clear();
      said.replaceChildren(...explained(answer));
    } catch (error) { fail(error); said.replaceChildren(); }
  };
  form.addEventListener("submit", (event) => { event.preventDefault(); show(); });
  main.append(el("section", {}, el("h2", {}, "Explain"), el("p", { class: "quiet" }, "What this replica would do with a request. Nothing is sent."), form), said);
  if (view.query.get("url")) show();
  ask("/status/overview").then(named, fail);
}

function explained(answer) {
  const { winner } = answer;
  const outcome = answer.refused ? tag("bad", `400: ${answer.refused}`) : answer.answer ? tag("warn", answer.answer) : winner?.answer ? tag("warn", winner.answer) : winner?.backend ? tag("good", `goes to ${winner.backend}`) : winner ? tag("warn", "answered here") : tag("bad", "404: no Ingress has a rule for this host and path");
  const facts = [["Host and path", `${answer.host || "(none)"} ${answer.path}`], ["Certificate", answer.certificate]];
  if (winner) facts.push(["Rule", `${winner.host} ${winner.path}`], ["Ingress", `${winner.namespace}/${winner.ingress} (${winner.dialect})`], ["Backend", winner.backend], ["Endpoints", winner.endpoints.join(", ")], ["Clients", winner.access]);
  const kinds = { passed: ["", "passed"], answered: ["warn", "answered here"], asks: ["warn", "asks first"], forwarded: ["good", "to the backend"] };
  const steps = answer.steps.map((step) => el("li", {}, el("span", {}, step.step), el("span", { class: "quiet" }, step.by ?? ""), tag(...kinds[step.outcome])));
  const lists = [["Snippets", winner?.snippets], ["The backend gets", winner?.headers]].filter(([, list]) => list?.length);
  const rejected = answer.rejected.map((one) => [`${one.namespace}/${one.ingress}`, `${one.host} ${one.path}`, one.reason]);
  return [
    el("section", {}, el("h2", {}, "Outcome"), el("p", {}, outcome), el("dl", { class: "facts" }, facts.filter(([, value]) => value).map(([name, value]) => fact(name, value))), lists.map(([name, list]) => [el("h3", {}, name), el("ul", { class: "words" }, list.map((line) => el("li", { class: "mono" }, line)))])),
    el("section", {}, el("h2", {}, "Steps"), steps.length ? el("ol", { class: "steps" }, steps) : el("p", { class: "quiet" }, "refused before the first one")),
    el("section", {}, el("h2", {}, "Rejected rules"), rejected.length ? table([["Ingress"], ["Rule"], ["Why not"]], rejected, "Rejected rules") : el("p", { class: "quiet" }, "there are no others"), answer.rejectedLeftOut ? el("p", {}, `and ${number(answer.rejectedLeftOut)} further away`) : null)];
}

function live(main, view) {
  const most = 200;
  const body = el("tbody"), state = el("span", { role: "status" }, "connecting");
  const field = (label, name, size) => el("label", {}, label, el("input", { name, size, autocomplete: "off" }));
  const pause = el("button", { type: "button", "aria-pressed": "false", onclick: () => { paused = !paused; pause.setAttribute("aria-pressed", paused); pause.textContent = paused ? "Go on" : "Pause"; } }, "Pause");
  const form = el("form", { onsubmit: (event) => event.preventDefault() }, field("Host", "host", 16), field("Status", "status", 8), field("Route (namespace/name)", "route", 18), field("Client", "client", 16), pause);
  const columns = [["Time", 9], ["Client", 14], ["Request", 40], ["Status", 7], ["Took", 9], ["Route", 21]];
  main.append(el("section", {}, el("h2", {}, "Live"), form, el("div", { class: "pages" }, state),
    el("div", { id: "feed", class: "scroll", tabindex: "0", role: "region", "aria-label": "Requests" }, el("table", {}, el("colgroup", {}, columns.map(() => el("col"))), el("thead", {}, el("tr", {}, columns.map(([name]) => el("th", { scope: "col" }, name)))), body))));
  let paused = false, source, waiting = [], seen = 0, dropped = 0, typing;
  const row = (one) => el("tr", {}, el("td", { class: "mono" }, new Date(one.time_ms).toISOString().slice(11, 23)), el("td", { class: "mono" }, one["client.addr"]),
    el("td", { class: "mono", title: `${one.method} ${one.scheme}://${one.host}${one.path}` }, `${one.method} ${one.host}${one.path}`), el("td", {}, tag(one.status >= 500 ? "bad" : one.status >= 400 ? "warn" : "good", one.status)),
    el("td", {}, millis(one.duration_ms)), el("td", { title: one.error ?? one["upstream.addr"] ?? "" }, one.ingress ? `${one.namespace}/${one.ingress}` : "(no rule)"));
  const draw = () => {
    if (!paused && waiting.length) { body.prepend(...waiting.reverse().map(row)); waiting = []; while (body.childElementCount > most) body.lastChild.remove(); }
    if (source?.readyState === 1) state.textContent = `${number(seen)} requests${dropped ? `, ${number(dropped)} more not shown` : ""}${paused ? ", paused" : ""}`;
  };
  const open = async () => {
    source?.close();
    [seen, dropped, waiting] = [0, 0, []];
    body.replaceChildren();
    const query = new URLSearchParams([...new FormData(form)].filter(([, value]) => value.trim()));
    source = new EventSource(`/status/live?${query}`);
    source.addEventListener("replica", () => clear());
    source.addEventListener("request", (event) => { seen += 1; waiting.push(JSON.parse(event.data)); if (waiting.length > most) { waiting.shift(); } });
    source.addEventListener("dropped", (event) => { dropped += JSON.parse(event.data).dropped; });
    source.onerror = () => { state.textContent = "not connected"; if (source.readyState === 2) refused(query); };
  };
  // An event source doesn't tell why it was refused.
  const refused = async (query) => {
    const stop = new AbortController();
    try { const answer = await fetch(`/status/live?${query}`, { signal: stop.signal }); if (!answer.ok) fail(new Error(await answer.text())); stop.abort(); } catch (error) { if (error.name !== "AbortError") fail(error); }
  };
  form.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(open, 400); });
  const timer = setInterval(draw, 250);
  view.signal.addEventListener("abort", () => { clearInterval(timer); clearTimeout(typing); source?.close(); });
  open();
  ask("/status/overview").then(named, fail);
}

function certificates(main, view) {
  ask("/status/overview").then(named, fail);
  paged(main, view, { path: "/status/certificates", title: "Certificates", key: "certificates",
    render: (list) => table(certificateColumns, certificateRows(list, Date.now() / 1000), "Certificates") });
}

start({ overview, routes, explain, live, certificates, problems: allProblems });
