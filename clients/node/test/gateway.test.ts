// The client against processes of leadgate: a killed gateway, an exhausted quota, idle connections.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test, type TestContext } from "node:test";
import type { Interceptor } from "@connectrpc/connect";
import { createClient, type ClientOptions, KEEPALIVE_MS, LeadgateError } from "leadgate";
import { type Gateway, startGateway, storedLeads } from "./gateway.js";

async function run(context: TestContext, options: Parameters<typeof startGateway>[0], client: ClientOptions = {}) {
  const gateway = await startGateway(options);
  const connected = createClient({ address: gateway.address, insecure: true, caller: "test", ...client });
  context.after(async () => {
    connected.close();
    await gateway.stop();
  });
  return { gateway, client: connected };
}

async function copies(gateway: Gateway, email: string): Promise<number> {
  return (await storedLeads(gateway.simulator)).split(`"${email}"`).length - 1;
}

test("a gateway that is killed during 20 creates leaves one lead each", async (context) => {
  const { gateway, client } = await run(context, { simulate: ["--calls", "100", "--latency", "150ms"], tenant: "[tenants.sim.limits]\ncalls = 100" });
  const emails = Array.from({ length: 20 }, (_, index) => `killed.${index}@example.com`);
  let done = 0;
  const calls = emails.map(async (emailAddress, index) => {
    await new Promise((resolve) => setTimeout(resolve, index * 25));
    const created = await client.leads.createLead({ lead: { emailAddress, firstName: `name-${index}` } });
    done += 1;
    return created;
  });
  const settled = Promise.all(calls);
  settled.catch(() => {});
  while (done < 5) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await gateway.kill();
  assert.ok(done < 20, "some calls are in progress");
  await gateway.start();
  const ids = (await settled).map(({ leadId }) => leadId);
  assert.equal(new Set(ids).size, 20);
  for (const email of emails) {
    assert.equal(await copies(gateway, email), 1, email);
  }
});

test("an import continues over a killed gateway, and each row is written once", async (context) => {
  const { gateway, client } = await run(context, { simulate: ["--calls", "100", "--bulk", "20", "--latency", "100ms"], tenant: "[tenants.sim.limits]\ncalls = 100\nbulk = 20" });
  const rows = Array.from({ length: 100 }, (_, index) => ({ operation: { case: "create" as const, value: { lead: { emailAddress: `row.${index}@example.com` } } } }));
  const sequences = new Set<bigint>();
  let killed: Promise<void> | undefined;
  for await (const { sequence, lead, error } of client.leads.importLeads(rows)) {
    assert.equal(error, undefined);
    assert.ok(lead?.leadId);
    sequences.add(sequence);
    killed ??= gateway.kill().then(gateway.start);
  }
  await killed;
  assert.equal(sequences.size, 100);
  const stored = await storedLeads(gateway.simulator);
  for (let index = 0; index < 100; index += 1) {
    assert.equal(stored.split(`"row.${index}@example.com"`).length - 1, 1, `row ${index}`);
  }
});

/** Counts the attempts of a client. */
function counter() {
  const counted = { attempts: 0 };
  const interceptor: Interceptor = (next) => (request) => {
    counted.attempts += 1;
    return next(request);
  };
  return { counted, interceptors: [interceptor] };
}

test("50 calls on an exhausted quota all end well within their deadline", async (context) => {
  const { counted, interceptors } = counter();
  // Only 10 calls may be in progress: the gateway refuses the others, and the client sends them again after the time of the error.
  const options = { simulate: ["--calls", "20"], server: "max_in_flight = 10", tenant: "[tenants.sim.limits]\ncalls = 20" };
  const { client } = await run(context, options, { interceptors });
  const { leadId } = await client.leads.createLead({ lead: { firstName: "Asha" } });
  const start = performance.now();
  const update = () => client.leads.updateLead({ leadId, lead: { city: "Pune" }, runAutomations: true }, { timeoutMs: 60_000 });
  const results = await Promise.allSettled(Array.from({ length: 50 }, update));
  const took = performance.now() - start;
  assert.deepEqual(results.filter(({ status }) => status === "rejected"), []);
  assert.ok(took < 30_000, `${took} ms`);
  assert.ok(took > 5_000, `the quota was not exhausted: ${took} ms`);
  assert.ok(counted.attempts > 51, "no call was refused");
  context.diagnostic(`${counted.attempts} attempts in ${Math.round(took)} ms`);
});

test("a call that the quota cannot serve before its deadline fails at once and says when to retry", async (context) => {
  const { client } = await run(context, { simulate: ["--calls", "5"], tenant: "[tenants.sim.limits]\ncalls = 5" });
  const create = (index: number) => client.leads.createLead({ lead: { firstName: `name-${index}` } }, { timeoutMs: 1_000 });
  const start = performance.now();
  const results = await Promise.allSettled(Array.from({ length: 20 }, (_, index) => create(index)));
  assert.ok(performance.now() - start < 2_000);
  const errors = results.flatMap((result) => (result.status === "rejected" ? [result.reason] : []));
  assert.ok(errors.length >= 10, `${errors.length} errors`);
  for (const error of errors) {
    assert.ok(error instanceof LeadgateError && (error.retryAfter ?? 0) > 500, String(error));
  }
});

for (const [name, keepaliveMs, isKept] of [
  ["keeps", 400, true],
  ["that is too frequent ends", 100, false],
] as const) {
  test(`a keep-alive ${name} a connection`, async (context) => {
    const { client } = await run(context, { server: 'keepalive_min_interval = "300ms"' }, { keepaliveMs });
    let streams = 0;
    const watch = new AbortController();
    const watched = (async () => {
      // After its first message, the stream is idle: only PINGs are sent.
      for await (const _ of client.quota.watchQuota({ interval: { seconds: 3_600n } }, { signal: watch.signal, onHeader: () => (streams += 1) }));
    })();
    await new Promise((resolve) => setTimeout(resolve, 3_000)); // Longer than both intervals.
    assert.ok((await client.quota.getQuota({})).quota);
    assert.equal(streams === 1, isKept, `${streams} streams`);
    watch.abort();
    await assert.rejects(watched, /CANCELLED/);
  });
}

test("a call after the gateway has closed an idle connection needs one attempt", async (context) => {
  const { counted, interceptors } = counter();
  const { client } = await run(context, { server: 'max_connection_idle = "500ms"' }, { interceptors });
  await client.quota.getQuota({});
  await new Promise((resolve) => setTimeout(resolve, 2_000)); // Longer than the maximum.
  await client.quota.getQuota({});
  assert.equal(counted.attempts, 2);
});

test("a watch continues when its connection reaches the maximum age", async (context) => {
  const { client } = await run(context, { server: 'max_connection_age = "500ms"\nmax_connection_age_grace = "200ms"' });
  let streams = 0;
  for await (const { quota } of client.quota.watchQuota({ interval: { nanos: 1e8 } }, { timeoutMs: 20_000, onHeader: () => (streams += 1) })) {
    assert.ok(quota);
    if (streams === 3) {
      return;
    }
  }
  assert.fail("the watch ended");
});

test("the default keep-alive fits the default of the gateway", async () => {
  const defaults = await readFile(new URL("../../../config/default.toml", import.meta.url), "utf8");
  const seconds = Number(/^keepalive_min_interval = "(\d+)s"$/m.exec(defaults)?.[1]);
  assert.ok(KEEPALIVE_MS > seconds * 1_000);
});
