// Writes the screenshots of the status page for the documentation: a gateway with traffic, while another integration uses the account.

import { mkdir } from "node:fs/promises";
import { resolve } from "node:path";

import { Gateway, Simulator, launchBrowser, untilLive } from "./processes.js";

const FOLDER = resolve(import.meta.dirname, "../../docs/images");
/** The picture of the slots shows 60 s. */
const TRAFFIC = 63_000;
const SHOTS = [
  { name: "status-light.png", scheme: "light", width: 1200, height: 1010 },
  { name: "status-dark.png", scheme: "dark", width: 1200, height: 1010 },
  { name: "status-narrow.png", scheme: "light", width: 360, height: 900 },
];

const simulators = [await Simulator.start("--latency", "120ms"), await Simulator.start("--latency", "120ms")];
const gateway = await Gateway.start({ acme: simulators[0], globex: simulators[1] }, {
  LEADGATE__CALLERS__CHECKOUT__WEIGHT: "4",
  "LEADGATE__CALLERS__NIGHTLY-SYNC__MAX_CRITICALITY": "sheddable",
  LEADGATE__TENANT_DEFAULTS__LIMITS__DAILY: "100000",
});
const browser = await launchBrowser();

const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const ids = [];
for (let at = 0; at < 12; at += 1) ids.push((await gateway.create(`lead-${at}@example.com`, { caller: "checkout" })).id);

const end = Date.now() + TRAFFIC;
async function repeat(interval, call) {
  while (Date.now() < end) {
    call(Math.floor(Math.random() * ids.length)).catch(() => {});
    await pause(interval * (0.5 + Math.random()));
  }
}
const half = () => Date.now() > end - TRAFFIC / 2;
const traffic = [
  repeat(700, (at) => gateway.get(ids[at], { caller: "checkout" })),
  repeat(900, (at) => gateway.update(ids[at], `Rao ${Date.now()}`, { caller: "checkout" })),
  repeat(5000, (at) => gateway.create(`lead-${at}@example.com`, { caller: "checkout" })),
  repeat(2500, () => Promise.all(ids.map((id) => gateway.get(id, { caller: "nightly-sync" })))),
  repeat(1200, () => gateway.create(`other-${Math.random()}@example.com`, { tenant: "globex" })),
  repeat(450, () => (half() ? simulators[0].callAsOther() : Promise.resolve())),
];

// Open from the start, so that the pages have their data when the traffic ends.
const pages = await Promise.all(
  SHOTS.map(async ({ scheme, width, height }) => {
    const page = await browser.newPage();
    await page.setViewport({ width, height });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await page.goto(gateway.url);
    return page;
  }),
);
await pause(TRAFFIC - 3000);
await mkdir(FOLDER, { recursive: true });
for (const [at, page] of pages.entries()) {
  await page.bringToFront();
  await untilLive(page);
  await page.screenshot({ path: resolve(FOLDER, SHOTS[at].name) });
}
await Promise.all(traffic);
await browser.close();
await gateway.kill();
await Promise.all(simulators.map((simulator) => simulator.kill()));
