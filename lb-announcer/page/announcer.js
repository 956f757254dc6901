import { ago, ask, bar, el, fact, fail, named, number, paged, plural, problems, repeat, start, table, tag } from "/page.js";

function pools(list) {
  if (!list.length) return el("p", { class: "quiet" }, "This process allocates nothing; the controller's page shows the pools.");
  return table([["Pool"], ["Use"], ["given", "number"], ["used by others", "number"], ["of", "number"]], list.map((pool) => [
    `${pool.name} (${pool.family})`, bar(pool.total, [["assigned", pool.assigned], ["taken", pool.taken]], `${pool.assigned} of ${pool.total} addresses of pool ${pool.name} are given`),
    number(pool.assigned), number(pool.taken), pool.total > 1e9 ? pool.total.toExponential(1) : number(pool.total)]), "Pools");
}

function peers(list, port) {
  if (!list.length) return el("p", { class: "quiet" }, "There are no peers, or this process hears none.");
  return table([["Node"], ["Heard"], ["Through"], ["Why not"]], list.map((peer) => [
    peer.node, peer.heard ? tag("good", "heard") : tag("bad", "not heard"), port ? `UDP port ${port}` : "–", peer.why ?? ""]), "Peers");
}

function overview(main, view) {
  const top = el("section", {}, el("h2", {}, "What is live"), el("dl", { class: "facts" }));
  const wrong = el("section", {}, el("h2", {}, "Problems"), el("div"));
  const use = el("section", {}, el("h2", {}, "Pools"), el("div"));
  const others = el("section", {}, el("h2", {}, "Peers"), el("div"));
  // Shown when there is something in it, so that nothing moves.
  const box = el("div", { hidden: true }, top, wrong, use, others);
  main.append(box);
  repeat(view, 2, async () => {
    const now = await ask("/status/overview");
    if (view.signal.aborted) return;
    named(now);
    const { counts } = now;
    const speaks = now.role !== "controller";
    top.lastChild.replaceChildren(
      fact("State", now.ready ? tag("good", "ready") : tag("bad", "not ready"), now.awaited.length ? `waits for ${now.awaited.join(", ")}` : `runs for ${ago(now.now - now.started)}`),
      fact("Services", number(counts.services), counts.waiting ? `${plural(counts.waiting, "Service")} without an address` : "each has its address"),
      fact("Addresses", number(counts.addresses), `${number(counts.announced)} announced${speaks ? `, ${number(counts.own)} from here` : ""}`),
      fact("Problems", number(counts.errors + counts.warnings), `${plural(counts.errors, "error")}, ${plural(counts.warnings, "warning")}`),
      fact("Role", now.role, now.allocates ? "allocates" : "announces what is allocated"),
      ...(speaks ? [fact("Interfaces", el("span", { class: "mono" }, now.interfaces.map((one) => `${one.name} ${one.mac ?? ""}`).join(", ") || "none"), now.waitsForPort ? `waits for UDP port ${now.waitsForPort}` : "announced on")] : []),
      fact("Objects from", el("span", { class: "mono" }, now.source.origin ?? "–"), now.source.disconnectedSince ? `can't be read since ${now.source.disconnectedSince}` : "being followed"));
    const all = counts.errors + counts.warnings;
    wrong.lastChild.replaceChildren(problems(now.problems), ...(all > now.problems.length ? [el("p", {}, el("a", { href: "#problems" }, `all ${number(all)} problems`))] : []));
    use.lastChild.replaceChildren(pools(now.pools));
    others.hidden = !speaks;
    others.lastChild.replaceChildren(peers(now.peers, now.heartbeatPort));
    box.hidden = false;
  });
}

function moved(last) {
  if (!last) return el("span", { class: "quiet" }, "not known");
  const words = [`since ${new Date(last.sinceMs).toISOString().replace("T", " ").slice(0, 19)} UTC (${ago((Date.now() - last.sinceMs) / 1000)})`];
  if (last.from && last.from !== last.node) words.push(`from ${last.from}`);
  if (last.cause) words.push(last.cause);
  if (last.tookMs !== null) words.push(`took ${number(last.tookMs)} ms`);
  return el("ul", { class: "words" }, words.map((word) => el("li", {}, word)));
}

function addresses(main, view) {
  const use = el("section", {}, el("h2", {}, "Pools"), el("div"));
  const rest = el("section", {}, el("h2", {}, "Peers and conflicts"), el("div"));
  const box = el("div", { hidden: true }, use);
  main.append(box);
  const row = (one) => [
    el("strong", { class: "mono" }, one.ip), `${one.namespace}/${one.service}`, one.pool,
    one.nodes.length ? [one.nodes.join(", "), one.interfaces.length ? [el("br"), el("span", { class: "quiet" }, one.interfaces.join(", "))] : ""] : tag("bad", "nobody announces it"),
    el("span", { class: "mono" }, one.macs.join(", ") || "–"), one.standbys.join(", ") || "–", moved(one.move),
    [one.contestedBy ? tag("bad", `${one.contestedBy} answers for it, too`) : "", one.problems.map((problem) => el("p", {}, problem.message)), !one.contestedBy && !one.problems.length ? tag("good", "none") : ""]];
  let extra;
  paged(box, view, { path: "/status/addresses", title: "Addresses", key: "addresses", every: 2,
    seen: (answer) => extra(answer),
    render: (list) => table([["Address"], ["Service"], ["Pool"], ["Node"], ["MAC"], ["Standbys"], ["Last move"], ["Conflicts"]], list.map(row), "Addresses") });
  box.append(rest);
  extra = (answer) => {
    use.lastChild.replaceChildren(pools(answer.pools));
    const conflicts = answer.conflicts.map((one) => [one.ip, one.mac, one.seenBy]);
    const waiting = answer.waiting.map((one) => [`${one.namespace}/${one.service}`, one.problems.map((problem) => problem.message).join("; ") || "waits"]);
    rest.lastChild.replaceChildren(
      waiting.length ? el("div", {}, el("h3", {}, "Services without an address"), table([["Service"], ["Why"]], waiting, "Services without an address")) : "",
      conflicts.length ? el("div", {}, el("h3", {}, "Addresses that foreign hosts have"), table([["Address"], ["MAC"], ["Seen by"]], conflicts, "Conflicts")) : "",
      peers(answer.peers, null));
    box.hidden = false;
  };
  repeat(view, 10, async () => named(await ask("/status/overview")));
}

function allProblems(main, view) {
  ask("/status/overview").then(named, fail);
  paged(main, view, { path: "/status/problems", title: "Problems", key: "problems", render: problems });
}

start({ overview, addresses, problems: allProblems });
