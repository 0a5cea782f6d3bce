// The status page in a browser, with real processes.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, afterEach, before, test } from "node:test";

import { Gateway, Simulator, TIMEOUT, launchBrowser, untilLive } from "./processes.js";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let simulators = [];
let gateway;
let browser;
let page;
/** What no page may do: errors, and requests to another origin. */
let problems;

before(async () => {
  simulators = [await Simulator.start(), await Simulator.start()];
  gateway = await Gateway.start({ acme: simulators[0], globex: simulators[1] });
  browser = await launchBrowser();
  const { status, id } = await gateway.create("asha@example.com", { caller: "checkout" });
  assert.equal(status, 0);
  // A duplicate, so that there is an error.
  assert.equal((await gateway.create("asha@example.com")).status, 6);
  await Promise.all([1, 2, 3].map(() => gateway.get(id)));
});

after(async () => {
  await browser?.close();
  await gateway?.kill();
  await Promise.all(simulators.map((simulator) => simulator.kill()));
});

afterEach(async () => {
  await page?.close();
  page = undefined;
  assert.deepEqual(problems, []);
});

/** Opens the page, and waits for its first data. */
async function open({ width = 1280, scheme = "light", path = "/", zone, onRequest } = {}) {
  problems = [];
  page = await browser.newPage();
  page.on("console", (message) => problems.push(`console ${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => problems.push(`error: ${error.message}`));
  page.on("dialog", (dialog) => {
    problems.push(`dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  page.on("request", (request) => {
    if (new URL(request.url()).origin !== gateway.url) problems.push(`request to ${request.url()}`);
  });
  if (onRequest) {
    await page.setRequestInterception(true);
    page.on("request", onRequest);
  }
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  if (zone) await page.emulateTimezone(zone);
  const response = await page.goto(gateway.url + path, { timeout: TIMEOUT });
  await untilLive(page);
  return response;
}

const text = (id) => page.$eval(`#${id}`, (node) => node.textContent);
const until = (condition, ...args) => page.waitForFunction(condition, { timeout: TIMEOUT }, ...args);

test("the page loads with a strict policy and shows the last error", async () => {
  const response = await open();
  const policy = response.headers()["content-security-policy"];
  assert.match(policy, /^default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'/);
  assert.equal(response.headers()["x-content-type-options"], "nosniff");
  assert.equal(await text("verdict-text"), "All is well");
  assert.match(await text("error-rows"), /^LEAD_DUPLICATEALREADY_EXISTS1\d\d:\d\d:\d\dLeadService\/CreateLeadotheracme/);
  assert.match(await text("endpoint-rows"), /Lead\.Create\d+ ms02/);
  assert.equal(await page.$$eval("#tenant-rows tr", (rows) => rows.length), 2);
});

test("the page updates by itself, and the picture shows the new calls", async () => {
  await open();
  const calls = () => page.$eval("#slots-text", (node) => Number(node.textContent.match(/(\d+) calls/)[1]));
  const before = await calls();
  const pixels = () => page.$eval("#slots", (canvas) => canvas.toDataURL());
  const picture = await pixels();
  assert.equal((await gateway.create("new@example.com")).status, 0);
  await until((before) => Number(document.getElementById("slots-text").textContent.match(/(\d+) calls/)[1]) > before, before);
  assert.notEqual(await pixels(), picture);
});

test("times are in UTC, whatever the zone of the browser", async () => {
  await open({ zone: "Asia/Kolkata" });
  const shown = await page.$eval("#error-rows tr", (row) => row.children[2].title);
  const parsed = Date.parse(shown.replace(" UTC", "Z"));
  assert.match(shown, / UTC$/);
  assert.ok(Math.abs(Date.now() - parsed) < 3_600_000, shown);
  assert.match(await text("day"), /reset at 00:00:00 UTC$/);
});

test("errors of one kind are one row", async () => {
  await open();
  const row = () => page.$$eval("#error-rows tr", (rows) => {
    const cells = [...rows.find((row) => row.textContent.includes("LEAD_DUPLICATE")).children];
    return { rows: rows.length, count: Number(cells[1].textContent), id: cells[6].textContent };
  });
  const before = await row();
  // Other ids are not shown, because they are texts of callers.
  const ids = ["0190b3a4-0000-7000-8000-000000000001", "0190b3a4-0000-7000-8000-000000000002"];
  for (const id of ids) assert.equal((await gateway.create("asha@example.com", { "x-request-id": id })).status, 6);
  await until((count) => Number([...document.querySelectorAll("#error-rows tr")].find((row) => row.textContent.includes("LEAD_DUPLICATE")).children[1].textContent) === count, before.count + 2);
  const after = await row();
  assert.equal(after.rows, before.rows);
  assert.ok(after.id.startsWith(ids[1]), after.id);
});

test("the verdict of a tenant is not repeated below the same verdict of the process", async () => {
  await open();
  assert.equal(await page.$eval("#tenant-verdict", (node) => node.checkVisibility()), false);
});

test("another tenant can be selected, also by the address", async () => {
  await open();
  assert.equal(await text("tenant-name"), "acme");
  await page.click("#tenant-rows tr:nth-child(2) button");
  await until(() => document.getElementById("tenant-name").textContent === "globex");
  assert.equal(new URL(page.url()).hash, "#globex");
  assert.equal(await page.$eval("tr[aria-current]", (row) => row.dataset.key), "globex");
  await page.close();
  await open({ path: "/#globex" });
  assert.equal(await text("tenant-name"), "globex");
  await page.type("#filter", "ACM");
  await until(() => document.querySelectorAll("#tenant-rows tr").length === 1);
});

for (const scheme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    test(`axe finds nothing serious, and nothing is cut off: ${scheme}, ${width} px`, async () => {
      await open({ scheme, width });
      await page.$$eval("details", (all) => all.forEach((details) => (details.open = true)));
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(overflow <= 0, `the page is ${overflow} px too wide`);
      // On a narrow screen: reason, code, count and time of an error; endpoint, p95 and failed requests.
      const seen = { "error-rows": 3, "endpoint-rows": 3 };
      for (const id of ["tenant-rows", "error-rows", "endpoint-rows"]) {
        const cut = await page.$eval(`#${id}`, (body, cells) => {
          const right = body.closest(".scroll").getBoundingClientRect().right;
          const all = [...body.querySelectorAll("tr")].flatMap((row) => [...row.children].slice(0, cells));
          return all.filter((cell) => cell.getBoundingClientRect().right > right + 1).map((cell) => cell.textContent);
        }, width < 400 ? (seen[id] ?? 0) : Infinity);
        assert.deepEqual(cut, [], id);
      }
      // The debugger is not bound by the policy of the page.
      const session = await page.createCDPSession();
      await session.send("Runtime.evaluate", { expression: AXE });
      const violations = await page.evaluate(async () => (await axe.run({ resultTypes: ["violations"] })).violations);
      const serious = violations.filter(({ impact }) => ["serious", "critical"].includes(impact));
      assert.deepEqual(serious.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), []);
    });
  }
}

test("the keyboard reaches everything, and the focus survives updates", async () => {
  await open();
  const selector = "a[href], button, input, summary, [tabindex='0']";
  const wanted = await page.$$eval(selector, (all) => {
    const visible = all.filter((node) => node.checkVisibility());
    visible.forEach((node, at) => (node.dataset.stop = at));
    return visible.length;
  });
  assert.ok(wanted > 10, `${wanted} elements`);
  const reached = new Set();
  for (let presses = 0; presses < 2 * wanted && reached.size < wanted; presses += 1) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => document.activeElement.dataset.stop);
    if (stop !== undefined) reached.add(stop);
  }
  assert.equal(reached.size, wanted);
  await page.focus("#tenant-rows tr:nth-child(2) button");
  const uptime = await text("slots-text");
  await gateway.create("focus@example.com");
  await until((before) => document.getElementById("slots-text").textContent !== before, uptime);
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "globex");
  await page.keyboard.press("Enter");
  await until(() => document.getElementById("tenant-name").textContent === "globex");
});

test("hostile values are shown as text", async () => {
  const hostile = `<img src=x onerror="alert(1)">`;
  // What a client may send is rejected or not shown.
  assert.equal((await gateway.create("x@example.com", { caller: hostile })).status, 3);
  assert.equal((await gateway.create("asha@example.com", { caller: "b-self-named", "x-request-id": hostile })).status, 6);
  await open();
  await until(() => document.getElementById("error-rows").textContent.includes("INVALID_FIELD"));
  assert.ok(!(await page.content()).includes("onerror"));
  assert.ok(!(await page.content()).includes("self-named"));
  await page.close();

  // If the server sent it nevertheless, it would be text.
  const reader = (await fetch(`${gateway.url}/events`)).body.pipeThrough(new TextDecoderStream()).getReader();
  let event = "";
  while (!event.endsWith("\n\n")) event += (await reader.read()).value;
  await reader.cancel();
  const poisoned = (value, key) => {
    if (typeof value === "string") return ["severity", "version"].includes(key) ? value : `${value}${hostile}`;
    if (Array.isArray(value)) return value.map((entry) => poisoned(entry));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, poisoned(entry, key)]));
  };
  const snapshot = poisoned(JSON.parse(event.match(/^data: (.*)$/m)[1]));
  const body = `data: ${JSON.stringify(snapshot)}\n\n`;
  await open({
    onRequest: (request) => {
      if (!request.url().includes("/events")) return request.continue();
      return request.respond({ contentType: "text/event-stream", body });
    },
  });
  assert.equal(await page.$$eval("img", (images) => images.length), 0);
  for (const id of ["verdict-text", "tenant-rows", "tenant-name", "error-rows", "endpoint-rows", "settings", "causes"]) {
    assert.ok((await text(id)).includes(hostile), id);
  }
});

test("the page says that the gateway is gone, and continues after its restart", async () => {
  await open();
  const live = await page.$("[aria-live=polite]");
  await gateway.kill();
  await until(() => document.getElementById("verdict-text").textContent.startsWith("The gateway does not respond"));
  assert.match(await text("age"), /^old: from \d\d:\d\d:\d\d UTC$/);
  assert.equal(await page.$eval("#verdict", (node) => node.dataset.severity), "error");
  assert.match(await live.evaluate((node) => node.textContent), /does not respond/);
  assert.match(await page.title(), /does not respond/);
  await gateway.run();
  await untilLive(page);
  assert.equal(await text("verdict-text"), "All is well");
  // Chromium logs each failed connection.
  problems = problems.filter((problem) => !/ERR_(CONNECTION_REFUSED|INCOMPLETE_CHUNKED_ENCODING|CONNECTION_RESET)/.test(problem));
});
