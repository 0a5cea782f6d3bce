// Forms that call the REST listener from a browser: real pages on origins of their own, and the browser's rules of CORS.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { Gateway, Simulator, TIMEOUT, launchBrowser } from "./processes.js";

const ACCESS = "lgr_form_0123456789abcdef";
/** Of a caller that gets refusals. */
const LIMITED = "lgr_limited_0123456789abcdef";
const SECRET = "a-secret-of-43-characters-012345678901234567";
const CAPTURE = "LeadManagement.svc/Lead.Capture";

let folder;
let simulator;
let gateway;
let address;
let browser;
let listed;
let other;

/** Serves a page on an origin of its own. */
async function serve() {
  const server = http.createServer((_, response) => response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html>"));
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return { server, origin: `http://127.0.0.1:${server.address().port}` };
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "leadgate-form-"));
  [listed, other] = [await serve(), await serve()];
  const hash = createHash("sha256").update(SECRET).digest("hex");
  const file = join(folder, "leadgate.toml");
  await writeFile(
    file,
    `[rest]
listen = "127.0.0.1:0"
cors_origins = ["${listed.origin}"]
[callers.form]
tenants = ["acme"]
allow = ["REST:${CAPTURE}"]
rest_keys = [{ access_key = "${ACCESS}", secret_key = "sha256:${hash}" }]
[callers.limited]
tenants = ["acme"]
allow = ["REST:${CAPTURE}"]
calls_per_window = 1
rest_max_wait = "0s"
rest_keys = [{ access_key = "${LIMITED}", secret_key = "sha256:${hash}" }]
`,
  );
  simulator = await Simulator.start();
  gateway = await Gateway.start({ acme: simulator }, {}, "--config", file);
  address = (await gateway.process.find(/"message":"serving".*"rest":"([^"]+)"/))[1];
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await gateway?.kill();
  await simulator?.kill();
  for (const page of [listed, other]) page?.server.close();
  if (folder) await rm(folder, { recursive: true });
});

/** Sends a request from a page. Returns what the page can read, or the error of the browser. */
async function send(page, path, { query = {}, ...options } = {}) {
  const url = `http://${address}/v2/${path}?${new URLSearchParams(query)}`;
  const tab = await browser.newPage();
  try {
    await tab.goto(page.origin, { timeout: TIMEOUT });
    const run = async (url, options) => {
      try {
        const response = await fetch(url, options);
        const header = (name) => response.headers.get(name);
        const seen = { reason: header("x-leadgate-reason"), id: header("x-request-id"), after: header("retry-after") };
        return { status: response.status, body: await response.text(), ...seen };
      } catch (error) {
        return { error: error.message };
      }
    };
    return await tab.evaluate(run, url, options);
  } finally {
    await tab.close();
  }
}

/** A form that is sent. */
function form(email, headers = {}) {
  const body = JSON.stringify([{ Attribute: "EmailAddress", Value: email }]);
  return { method: "POST", headers: { "Content-Type": "application/json", ...headers }, body };
}

/** The email addresses of all leads. */
async function emails() {
  const leads = await (await fetch(`${simulator.url}/_simulator/leads`)).json();
  return leads.map((lead) => lead.EmailAddress);
}

const KEYS = { accessKey: ACCESS, secretKey: SECRET };

test("a page of a listed origin sends a form with keys in the query or in headers", async () => {
  const created = await send(listed, CAPTURE, { query: KEYS, ...form("asha@example.com") });
  assert.deepEqual([created.status, created.reason, JSON.parse(created.body).Status], [200, null, "Success"]);
  assert.match(created.id, /^[0-9a-f-]{36}$/);
  const headers = { "x-LSQ-AccessKey": ACCESS, "x-LSQ-SecretKey": SECRET, "Cache-Control": "no-cache" };
  const second = await send(listed, CAPTURE, form("ben@example.com", headers));
  assert.equal(second.status, 200, JSON.stringify(second));
  const seen = await emails();
  assert.ok(seen.includes("asha@example.com") && seen.includes("ben@example.com"), `${seen}`);
});

test("a page of a listed origin reads a refusal", async () => {
  const query = { ...KEYS, accessKey: LIMITED };
  let refused;
  // At most one in each window is not refused.
  for (let number = 0; refused?.reason !== "CALLER_LIMIT" && number < 20; number++) {
    refused = await send(listed, CAPTURE, { query, ...form(`limited${number}@example.com`) });
  }
  assert.deepEqual([refused.status, refused.reason, JSON.parse(refused.body).ExceptionType], [429, "CALLER_LIMIT", "MXAPIRateLimitExceededException"]);
  assert.match(refused.after, /^\d+$/);
});

test("a page of a listed origin reads errors", async () => {
  const wrong = await send(listed, CAPTURE, { query: { ...KEYS, secretKey: "wrong" }, ...form("eve@example.com") });
  assert.deepEqual([wrong.status, wrong.reason], [401, "CALLER_UNKNOWN"]);
  const denied = await send(listed, "LeadManagement.svc/Leads.GetById", { query: { ...KEYS, id: "x" } });
  assert.deepEqual([denied.status, denied.reason], [403, "CALLER_NOT_ALLOWED"]);
  // The browser asks first, and is not allowed to send these.
  for (const options of [{ ...form("eve@example.com"), credentials: "include" }, form("eve@example.com", { Authorization: "Bearer x" }), { ...form("eve@example.com"), method: "PUT" }]) {
    assert.match((await send(listed, CAPTURE, { query: KEYS, ...options })).error ?? "", /Failed to fetch/);
  }
  assert.ok(!(await emails()).includes("eve@example.com"));
});

test("a page of another origin can execute nothing and read nothing", async () => {
  const text = { ...form("eve@example.com"), headers: { "Content-Type": "text/plain" } };
  // The second and third are sent without a question before.
  for (const options of [form("eve@example.com"), text, { ...text, mode: "no-cors" }]) {
    const { status, body, error } = await send(other, CAPTURE, { query: KEYS, ...options });
    assert.ok(options.mode ? status === 0 && body === "" : /Failed to fetch/.test(error), JSON.stringify({ status, body, error }));
  }
  assert.ok(!(await emails()).includes("eve@example.com"));
});
