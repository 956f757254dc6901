// What the pages' own functions make of numbers and times. Run by the tests: node --test e2e/page/words.test.mjs
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

// Served with a type of its own to browsers, the file has no ending that would tell every node that it is a module.
const source = readFileSync(new URL("../../shared/page/page.js", import.meta.url), "utf8");
const { ago, lasting, millis, number, plural, when } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

test("numbers are readable", () => {
  assert.equal(number(5000), "5,000");
  assert.equal(number(0.125, 1), "0.1");
  assert.equal(number(0), "0");
  assert.equal(number(null), "–");
  assert.equal(number(undefined), "–");
});

test("durations have a unit that suits them", () => {
  assert.equal(millis(0.25), "0.3 ms");
  assert.equal(millis(12.6), "13 ms");
  assert.equal(millis(1500), "1.5 s");
  assert.equal(millis(null), "–");
});

test("spans of time are cut, never rounded up", () => {
  const table = [[-3, "0 s"], [0, "0 s"], [59.9, "59 s"], [60, "1 min"], [3599, "59 min"], [3600, "1 h"], [172799, "47 h"], [172800, "2 days"]];
  for (const [seconds, words] of table) assert.equal(ago(seconds), words);
});

test("what is counted has its singular", () => {
  assert.equal(plural(1, "day"), "1 day");
  assert.equal(plural(0, "day"), "0 days");
  assert.equal(plural(2500, "day"), "2,500 days");
  assert.equal(plural(null, "day"), "– days");
});

test("the time that a chart covers is said as people say it", () => {
  assert.equal(lasting(2), "2 seconds");
  assert.equal(lasting(59), "59 seconds");
  assert.equal(lasting(60), "minute");
  assert.equal(lasting(89), "minute");
  assert.equal(lasting(100), "2 minutes");
  assert.equal(lasting(300), "5 minutes");
});

test("a moment is told in UTC", () => {
  assert.equal(when(0), "–");
  assert.equal(when(1767225600), "2026-01-01 00:00 UTC");
});
