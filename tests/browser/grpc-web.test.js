// Pages that call RPCs from a browser: a generated client with gRPC-Web, real processes, real origins.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";

import { build } from "esbuild";

import { Gateway, Simulator, TIMEOUT, launchBrowser } from "./processes.js";

const ROOT = resolve(import.meta.dirname, "../..");
const BUF = process.env.BUF ?? join(ROOT, ".venv/bin/buf");
const MODULES = join(import.meta.dirname, "node_modules");

/** What the page offers to the tests. */
const PAGE = `
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ErrorInfoSchema } from "./google/rpc/error_details_pb.js";
import { LeadService } from "./leadgate/v1/lead_pb.js";
import { QuotaService } from "./leadgate/v1/quota_pb.js";

const clients = (baseUrl, headers) => {
  const add = (next) => (request) => {
    for (const [name, value] of Object.entries(headers)) request.header.set(name, value);
    return next(request);
  };
  const transport = createGrpcWebTransport({ baseUrl, interceptors: [add], defaultTimeoutMs: 10_000 });
  return { leads: createClient(LeadService, transport), quota: createClient(QuotaService, transport) };
};

/** Returns the result of an RPC, or its error with the reason in its details. */
const settled = async (rpc) => {
  try {
    return { result: await rpc() };
  } catch (error) {
    const { code, rawMessage, metadata } = ConnectError.from(error);
    const [info] = ConnectError.from(error).findDetails(ErrorInfoSchema);
    return { code: Code[code], text: rawMessage, reason: info?.reason, requestId: metadata.get("x-request-id") };
  }
};

globalThis.createLead = (url, headers, email) =>
  settled(async () => (await clients(url, headers).leads.createLead({ lead: { firstName: "Asha", emailAddress: email } })).leadId);
globalThis.exportLeads = (url, headers) =>
  settled(async () => {
    const emails = [];
    for await (const { leads } of clients(url, headers).leads.exportLeads({ startTime: { seconds: 1_000_000_000n } })) emails.push(...leads.map(({ fields }) => fields?.emailAddress));
    return emails;
  });
globalThis.watchQuota = (url, headers, count) =>
  settled(async () => {
    let seen = 0;
    for await (const { quota } of clients(url, headers).quota.watchQuota({ interval: { seconds: 0n, nanos: 200_000_000 } })) {
      if (quota) seen += 1;
      if (seen === count) break;
    }
    return seen;
  });
`;

let folder;
let script;
let simulator;
let gateway;
let browser;
let listed;
let other;

/** Serves a page with the script on an origin of its own. */
async function serve() {
  const server = http.createServer((request, response) => {
    const [type, text] = request.url === "/page.js" ? ["text/javascript", script] : ["text/html", "<!doctype html><script src=/page.js></script>"];
    response.writeHead(200, { "content-type": type }).end(text);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return { server, origin: `http://127.0.0.1:${server.address().port}` };
}

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "leadgate-web-"));
  const plugin = { local: join(MODULES, ".bin/protoc-gen-es"), out: folder, opt: ["target=js"], include_imports: true };
  const template = JSON.stringify({ version: "v2", plugins: [plugin] });
  const paths = ["--path", "proto/leadgate", "--path", "third_party/googleapis/google/rpc"];
  execFileSync(BUF, ["generate", "--template", template, ...paths], { cwd: ROOT, stdio: "inherit" });
  const stdin = { contents: PAGE, resolveDir: folder, sourcefile: "page.js" };
  const built = await build({ stdin, bundle: true, write: false, format: "iife", nodePaths: [MODULES] });
  script = built.outputFiles[0].text;

  listed = await serve();
  other = await serve();
  simulator = await Simulator.start();
  gateway = await Gateway.start({ acme: simulator }, { LEADGATE__SERVER__CORS_ORIGINS: JSON.stringify([listed.origin]) });
  browser = await launchBrowser();
});

after(async () => {
  await browser?.close();
  await gateway?.kill();
  await simulator?.kill();
  for (const page of [listed, other]) page?.server.close();
  if (folder) await rm(folder, { recursive: true });
});

/** Calls a function of the page of that origin. */
async function call(page, name, ...args) {
  const tab = await browser.newPage();
  try {
    await tab.goto(page.origin, { timeout: TIMEOUT });
    return await tab.evaluate((name, args) => globalThis[name](...args), name, [`http://${gateway.address}`, ...args]);
  } finally {
    await tab.close();
  }
}

const HEADERS = { "x-leadgate-tenant": "acme", "x-leadgate-caller": "intranet", "x-leadgate-criticality": "critical" };

test("a page of a listed origin creates a lead and reads the details of an error", async () => {
  const { result } = await call(listed, "createLead", HEADERS, "asha@example.com");
  assert.match(result, /^[0-9a-f-]{36}$/);
  const duplicate = await call(listed, "createLead", { ...HEADERS, authorization: "Bearer x", "x-request-id": "page-1" }, "asha@example.com");
  assert.deepEqual([duplicate.code, duplicate.reason, duplicate.requestId], ["AlreadyExists", "LEAD_DUPLICATE", "page-1"]);
});

test("a page reads streams of responses", async () => {
  const { result: id } = await call(listed, "createLead", HEADERS, "ben@example.com");
  assert.ok(id);
  const { result: emails } = await call(listed, "exportLeads", HEADERS);
  assert.ok(emails.includes("ben@example.com"), `${emails}`);
  assert.deepEqual(await call(listed, "watchQuota", HEADERS, 3), { result: 3 });
});

test("a page of another origin can execute nothing and read nothing", async () => {
  const refused = await call(other, "createLead", HEADERS, "eve@example.com");
  assert.equal(refused.result, undefined);
  assert.match(refused.text, /Failed to fetch/);
  // What browsers send without a preflight request.
  const tab = await browser.newPage();
  await tab.goto(other.origin, { timeout: TIMEOUT });
  const url = `http://${gateway.address}/leadgate.v1.LeadService/CreateLead`;
  await tab.evaluate((url) => fetch(url, { method: "POST", mode: "no-cors", body: new Uint8Array(5) }).catch(() => {}), url);
  await tab.close();
  const { result: emails } = await call(listed, "exportLeads", HEADERS);
  assert.ok(!emails.includes("eve@example.com"), `${emails}`);
  await gateway.process.find(/its origin is not in server.cors_origins/);
});
