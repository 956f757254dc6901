// Looks at a page with a real browser, as a person would, and prints what it found as JSON.
//
//   node run.mjs MODULES '{"url": ..., "views": [...], "modes": ["light", "dark", "phone"], "pictures": FOLDER, "prefix": NAME}'
//
// MODULES is the folder with puppeteer-core and axe-core. Each view is opened in light and dark and 390 px wide; after
// its steps it has to show its text within its patience (seconds, 10 by default), axe-core looks at it and a picture is
// taken. The program that runs this decides what is wrong.
import { get } from "node:http";
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

const [modules, text] = process.argv.slice(2);
const require = createRequire(join(modules, "package.json"));
const puppeteer = require("puppeteer-core");
const axe = require.resolve("axe-core/axe.min.js");
const wanted = JSON.parse(text);
const chromium = process.env.LANDFALL_CHROMIUM ?? "/usr/bin/chromium";

const browser = await puppeteer.launch({
  executablePath: chromium, headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run", "--disable-background-networking"],
});
const modes = { light: [1280, 900, "light"], dark: [1280, 900, "dark"], phone: [390, 844, "light"] };
const found = { views: [], console: [], requests: [], elsewhere: [] };
mkdirSync(wanted.pictures, { recursive: true });

try {
  for (const mode of wanted.modes) {
    const [width, height, scheme] = modes[mode];
    const page = await browser.newPage();
    // axe-core is put in by the debugger, which the page's own policy doesn't forbid.
    await page.setViewport({ width, height, isMobile: mode === "phone", hasTouch: mode === "phone" });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }, { name: "prefers-reduced-motion", value: "reduce" }]);
    page.on("console", (message) => { if (["error", "warn"].includes(message.type())) found.console.push(`${mode}: ${message.text()}`); });
    page.on("pageerror", (error) => found.console.push(`${mode}: ${error.message}`));
    page.on("request", (request) => {
      const { origin, protocol } = new URL(request.url());
      found.requests.push(request.url());
      if (protocol !== "data:" && origin !== new URL(wanted.url).origin) found.elsewhere.push(request.url());
    });
    await page.evaluateOnNewDocument(() => {
      globalThis.shifts = 0;
      new PerformanceObserver((list) => { for (const entry of list.getEntries()) if (!entry.hadRecentInput) globalThis.shifts += entry.value; })
        .observe({ type: "layout-shift", buffered: true });
    });
    for (const view of wanted.views) {
      await page.goto("about:blank");
      await page.goto(`${wanted.url}#${view.name}`, { waitUntil: "load" });
      for (const step of view.steps ?? []) await take(page, step);
      await shows(page, view.shows, view.patience)
        .catch(async () => { throw new Error(`view ${view.name} (${mode}) doesn't show ${JSON.stringify(view.shows)}, but:\n${await page.evaluate(() => document.body.innerText)}`); });
      const facts = await page.evaluate(() => ({
        paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
        shift: globalThis.shifts,
        wide: document.documentElement.scrollWidth,
        text: document.body.innerText,
      }));
      // axe-core needs to run in the page; a function that is evaluated is no inline script.
      await page.evaluate(require("node:fs").readFileSync(axe, "utf8"));
      const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
      const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
        .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html} ${node.failureSummary}`).join(" | ")}`);
      await page.screenshot({ path: join(wanted.pictures, `${wanted.prefix}-${view.name.split("?")[0]}-${mode}.png`), fullPage: false });
      found.views.push({ view: view.name, mode, width, ...facts, serious });
    }
    await page.close();
  }
} catch (error) {
  found.failed = error.message;
} finally {
  await browser.close();
}
console.log(JSON.stringify(found));

async function take(page, [what, selector, value]) {
  if (what === "type") { await page.waitForSelector(selector); await page.type(selector, value); }
  else if (what === "click") { await page.waitForSelector(selector); await page.click(selector); }
  else if (what === "wait") await new Promise((done) => setTimeout(done, selector));
  else if (what === "shows") await shows(page, selector);
  else if (what === "press") await page.keyboard.press(selector);
  else if (what === "get") await request(selector, value ?? {});
  else throw new Error(`no such step: ${what}`);
}

function shows(page, text, seconds = 10) {
  return page.waitForFunction((text) => document.querySelector("main").innerText.includes(text), { timeout: seconds * 1000 }, text);
}

// By hand: fetch does not let a caller say the Host.
function request(url, headers) {
  return new Promise((done, failed) => get(url, { headers }, (answer) => answer.resume().on("end", done)).on("error", failed));
}
