// The client against a gRPC server in this process, which answers as the test wants.
import assert from "node:assert/strict";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { inspect } from "node:util";
import { create, toBinary } from "@bufbuild/protobuf";
import { type ConnectRouter, ConnectError, createRouterTransport, type HandlerContext } from "@connectrpc/connect";
import { ActivityService, Code, createClient, type ClientOptions, CreateLeadRequestSchema, ErrorReason, LeadgateError, LeadService, QuotaService, ShareService, ShareState, type Timeouts, UserSchema } from "leadgate";
import { gatewayError } from "leadgate/testing";
import { startFake } from "./fake.js";

const lead = { firstName: "Asha" };

async function fake(context: TestContext, routes: (router: ConnectRouter) => void, options?: ClientOptions) {
  const running = await startFake(routes, options);
  context.after(running.close);
  return running;
}

/** Returns the LeadgateError with which a promise rejects. */
async function errorOf(promise: Promise<unknown>): Promise<LeadgateError> {
  const error = await promise.then(
    () => assert.fail("no error"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof LeadgateError, String(error));
  return error;
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) {
    all.push(item);
  }
  return all;
}

/** A server whose createLead fails with the given errors, one after another, and then succeeds. */
async function failing(context: TestContext, ...errors: ConnectError[]) {
  const calls: { requestId: string; timeoutMs: number; at: number }[] = [];
  const { client } = await fake(context, ({ rpc }) => {
    rpc(LeadService.method.createLead, ({ requestId }, handler) => {
      calls.push({ requestId, timeoutMs: handler.timeoutMs() ?? Infinity, at: performance.now() });
      const error = errors[calls.length - 1];
      if (error) {
        throw error;
      }
      return { leadId: "created" };
    });
    rpc(LeadService.method.getLead, () => {
      calls.push({ requestId: "", timeoutMs: 0, at: performance.now() });
      const error = errors[calls.length - 1];
      if (error) {
        throw error;
      }
      return { lead: { leadId: "read" } };
    });
  });
  return { client, calls };
}

test("defaults and options of a call are sent as metadata", async (context) => {
  const seen: HandlerContext[] = [];
  const { client } = await fake(
    context,
    ({ rpc }) => {
      rpc(QuotaService.method.getQuota, (_, handler) => {
        seen.push(handler);
        handler.responseTrailer.set("x-request-id", "rpc-1");
        return {};
      });
      rpc(LeadService.method.exportLeads, async function* (_, handler) {
        seen.push(handler);
        yield {};
      });
    },
    { tenant: "india", caller: "checkout", criticality: "critical", token: () => Promise.resolve("secret\n") },
  );
  let trailers: Headers | undefined;
  await client.quota.getQuota({}, { onTrailer: (received) => (trailers = received) });
  await collect(client.leads.exportLeads({}, { tenant: "brazil", caller: "reports", criticality: "sheddable", headers: { traceparent: "00-1-2-01" } }));
  const entry = (index: number, name: string) => seen[index]?.requestHeader.get(name);
  const names = ["x-leadgate-tenant", "x-leadgate-caller", "x-leadgate-criticality", "traceparent", "authorization"];
  assert.deepEqual(names.map((name) => entry(0, name)), ["india", "checkout", "critical", null, "Bearer secret"]);
  assert.deepEqual(names.map((name) => entry(1, name)), ["brazil", "reports", "sheddable", "00-1-2-01", "Bearer secret"]);
  assert.equal(trailers?.get("x-request-id"), "rpc-1");
});

test("each kind of work has a default deadline, which options override", async (context) => {
  const seen: Record<string, number | undefined> = {};
  const routes = (router: ConnectRouter) => {
    const note = (name: string) => (_: unknown, handler: HandlerContext) => {
      seen[name] = handler.timeoutMs();
      return {};
    };
    router.rpc(LeadService.method.createLead, note("create"));
    router.rpc(LeadService.method.batchCreateLeads, note("batch"));
    router.rpc(ShareService.method.shareLead, note("share"));
    router.rpc(ShareService.method.getShare, note("getShare"));
    router.rpc(LeadService.method.exportLeads, async function* (_, handler) {
      seen["export"] = handler.timeoutMs();
      yield {};
    });
    router.rpc(LeadService.method.importLeads, async function* (_, handler) {
      seen["import"] = handler.timeoutMs();
    });
    router.rpc(QuotaService.method.watchQuota, async function* (_, handler) {
      seen["watch"] = handler.timeoutMs();
      yield {};
    });
  };
  const { client, address } = await fake(context, routes);
  const between = (name: string, seconds: number) => {
    const value = seen[name] ?? Infinity;
    assert.ok(value <= seconds * 1000 && value > (seconds - 5) * 1000, `${name}: ${value}`);
  };
  await client.leads.createLead({ lead });
  await client.leads.batchCreateLeads({});
  await client.shares.shareLead({});
  await client.shares.getShare({});
  await collect(client.leads.exportLeads({}));
  await collect(client.leads.importLeads([]));
  await collect(client.quota.watchQuota({}));
  between("create", 30);
  between("batch", 120);
  between("share", 120);
  between("getShare", 30);
  between("export", 3600);
  between("import", 3600);
  assert.ok("watch" in seen && seen["watch"] === undefined);
  const other = createClient({ address, insecure: true, timeouts: { unary: 7_000, batch: undefined } as unknown as Timeouts });
  context.after(() => other.close());
  await other.leads.createLead({ lead });
  between("create", 7);
  await other.leads.batchCreateLeads({});
  between("batch", 120);
  await other.leads.createLead({ lead }, { timeoutMs: 50_000 });
  between("create", 50);
  for (const timeoutMs of [2 ** 31, 1e15, Infinity]) {
    await other.leads.createLead({ lead }, { timeoutMs }); // Longer than timers and gRPC can represent: none.
    assert.equal(seen["create"], undefined, `${timeoutMs}`);
  }
  delete seen["create"];
  for (const timeoutMs of [0, -1, NaN]) {
    assert.equal((await errorOf(other.leads.createLead({ lead }, { timeoutMs }))).code, Code.DeadlineExceeded);
  }
  assert.ok(!("create" in seen), "a call without time is not sent");
});

test("a deadline and a cancellation end a call", async (context) => {
  const { client } = await fake(context, ({ rpc }) => {
    rpc(LeadService.method.createLead, (_, handler) => new Promise((_, reject) => handler.signal.addEventListener("abort", () => reject(handler.signal.reason))));
    rpc(QuotaService.method.watchQuota, async function* (_, handler) {
      yield {};
      await new Promise((resolve) => handler.signal.addEventListener("abort", resolve));
    });
  });
  const late = await errorOf(client.leads.createLead({ lead }, { timeoutMs: 200 }));
  assert.equal(late.code, Code.DeadlineExceeded);
  assert.match(late.requestId ?? "", /^[0-9a-f]{8}-/);
  const controller = new AbortController();
  const cancelled = errorOf(client.leads.createLead({ lead }, { signal: controller.signal }));
  controller.abort();
  assert.equal((await cancelled).code, Code.Canceled);
  const watch = new AbortController();
  const error = await errorOf(
    (async () => {
      for await (const _ of client.quota.watchQuota({}, { signal: watch.signal })) {
        watch.abort();
      }
    })(),
  );
  assert.equal(error.code, Code.Canceled);
});

test("a call that is cancelled before its next attempt keeps its request id", async (context) => {
  const { client, calls } = await failing(context, gatewayError(Code.Unavailable, "SHUTTING_DOWN", { retryAfter: 20_000 }));
  const call = errorOf(client.leads.createLead({ lead }, { timeoutMs: 60_000 }));
  while (calls.length === 0) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  client.close();
  const { code, requestId } = await call;
  assert.equal(code, Code.Canceled);
  assert.equal(requestId, calls[0]?.requestId);
});

test("a token that cannot be sent is an error that does not show it", async (context) => {
  const { client } = await fake(context, ({ rpc }) => rpc(QuotaService.method.getQuota, () => ({})), { token: () => "first\nsecond" });
  const error = await errorOf(client.quota.getQuota({}));
  assert.match(error.message, /authorization must be printable ASCII/);
  assert.doesNotMatch(`${error.stack}${error.cause}`, /second/);
  assert.equal((await errorOf(client.quota.getQuota({}, { tenant: "\u00e9" }))).code, Code.InvalidArgument);
});

test("many calls may share a signal", async (context) => {
  const { client } = await fake(context, ({ rpc }) => rpc(QuotaService.method.getQuota, (_, { signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)))));
  const warnings: Error[] = [];
  const warn = (warning: Error) => warnings.push(warning);
  process.on("warning", warn);
  const controller = new AbortController();
  const calls = Array.from({ length: 20 }, () => errorOf(client.quota.getQuota({}, { signal: controller.signal })));
  await new Promise((resolve) => setTimeout(resolve, 100)); // Until a warning would have been emitted.
  controller.abort();
  assert.ok((await Promise.all(calls)).every(({ code }) => code === Code.Canceled));
  process.off("warning", warn);
  assert.deepEqual(warnings, []);
});

test("closing a client ends its calls", async (context) => {
  let calls = 0;
  const { client } = await fake(context, ({ rpc }) =>
    rpc(LeadService.method.createLead, (_, handler) => {
      calls += 1;
      client.close();
      return new Promise((_, reject) => handler.signal.addEventListener("abort", () => reject(handler.signal.reason)));
    }),
  );
  assert.equal((await errorOf(client.leads.createLead({ lead }))).code, Code.Canceled);
  assert.equal((await errorOf(client.leads.createLead({ lead }))).code, Code.Canceled);
  assert.equal(calls, 1);
});

test("leaving a stream cancels it on the server and leaves no timer behind", async (context) => {
  let ended = () => {};
  const end = new Promise<void>((resolve) => (ended = resolve));
  const { client } = await fake(context, ({ rpc }) =>
    rpc(LeadService.method.exportLeads, async function* (_, handler) {
      handler.signal.addEventListener("abort", ended);
      for (;;) {
        yield {};
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }),
  );
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = timers();
  for await (const _ of client.leads.exportLeads({})) {
    break;
  }
  await end;
  await new Promise((resolve) => setTimeout(resolve, 50)); // The last timer of the server.
  assert.equal(timers(), before);
});

test("a mutation without a request id gets a UUID version 7, and the caller's message stays as it is", async (context) => {
  const { client, calls } = await failing(context);
  const request = { lead };
  const message = create(CreateLeadRequestSchema, { lead });
  await client.leads.createLead(request);
  await client.leads.createLead(message);
  await client.leads.createLead({ lead, requestId: "mine" });
  assert.deepEqual(request, { lead: { firstName: "Asha" } });
  assert.equal(message.requestId, "");
  const ids = calls.map(({ requestId }) => requestId);
  assert.match(ids[0]!, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.ok(Math.abs(parseInt(ids[0]!.replaceAll("-", "").slice(0, 12), 16) - Date.now()) < 10_000);
  assert.notEqual(ids[0], ids[1]);
  assert.equal(ids[2], "mine");
});

test("an error is retried with the same request id after the time that it names", async (context) => {
  const wait = (retryAfter: number) => gatewayError(Code.ResourceExhausted, "QUEUE_FULL", { retryAfter, metadata: { retry_same_request_id: "true" } });
  const { client, calls } = await failing(context, wait(300), gatewayError(Code.Aborted, "OUTCOME_UNKNOWN", { retryAfter: 100, metadata: { retry_same_request_id: "true" } }));
  assert.equal((await client.leads.createLead({ lead })).leadId, "created");
  assert.equal(calls.length, 3);
  assert.equal(new Set(calls.map(({ requestId }) => requestId)).size, 1);
  const [first, second, third] = calls as [(typeof calls)[0], (typeof calls)[0], (typeof calls)[0]];
  assert.ok(second.at - first.at >= 299, `${second.at - first.at}`);
  assert.ok(third.at - second.at >= 99);
  assert.ok(first.timeoutMs - second.timeoutMs >= 299, "the deadline is that of all attempts");
});

const cases: [string, ConnectError, number][] = [
  ["not if the same request cannot help", gatewayError(Code.Aborted, "OUTCOME_UNKNOWN", { retryAfter: 10, metadata: { retry_same_request_id: "false" } }), 1],
  ["not if a write may have been executed", gatewayError(Code.Unavailable, "OWNER_MOVED", { retryAfter: 10 }), 1],
  ["if nothing was sent", gatewayError(Code.Unavailable, "SHUTTING_DOWN", { retryAfter: 0 }), 2],
  ["if the deadline allows what another deadline did not", gatewayError(Code.ResourceExhausted, "DEADLINE_INFEASIBLE", { retryAfter: 50 }), 2],
  ["not without a time", gatewayError(Code.ResourceExhausted, "RESPONSE_TOO_LARGE", { metadata: { retry_same_request_id: "true" } }), 1],
  ["not after the deadline", gatewayError(Code.ResourceExhausted, "CALLER_LIMIT", { retryAfter: 5_000 }), 1],
  ["not with other codes", gatewayError(Code.Internal, "INTERNAL", { retryAfter: 10, metadata: { retry_same_request_id: "true" } }), 1],
  ["not with errors of other domains", new ConnectError("from a proxy", Code.ResourceExhausted), 1],
  ["if a proxy lost the connection", new ConnectError("upstream connect error", Code.Unavailable), 2],
];
for (const [name, error, attempts] of cases) {
  test(`a write is retried: ${name}`, async (context) => {
    const { client, calls } = await failing(context, error);
    const start = performance.now();
    const call = client.leads.createLead({ lead }, { timeoutMs: 3_000 });
    if (attempts === 1) {
      const received = await errorOf(call);
      assert.equal(received.code, error.code);
      assert.equal(received.requestId, calls[0]?.requestId);
    } else {
      await call;
    }
    assert.equal(calls.length, attempts);
    assert.ok(performance.now() - start < 2_000);
  });
}

test("a read is retried whatever its error says about request ids", async (context) => {
  const { client, calls } = await failing(context, gatewayError(Code.Unavailable, "OWNER_MOVED", { retryAfter: 10 }));
  assert.equal((await client.leads.getLead({})).lead?.leadId, "read");
  assert.equal(calls.length, 2);
});

test("a call is retried after a lost connection, but not a mutation without a request id", async (context) => {
  const ids: string[] = [];
  let retries = 0;
  const running = await fake(context, ({ rpc }) => {
    const lose = () => {
      for (const session of running.sessions) {
        session.destroy();
      }
      return {};
    };
    rpc(ActivityService.method.postActivity, ({ requestId }) => {
      ids.push(requestId);
      return ids.length < 3 ? lose() : {};
    });
    rpc(ShareService.method.retryShare, () => {
      retries += 1;
      return lose();
    });
  });
  await running.client.activities.postActivity({ leadId: "a" });
  assert.equal(ids.length, 3);
  assert.equal(new Set(ids).size, 1);
  const error = await errorOf(running.client.shares.retryShare({ shareId: "a" }));
  assert.equal(error.code, Code.Unavailable);
  assert.equal(retries, 1);
});

test("a gateway that cannot be reached is an error before the deadline ends", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  const client = createClient({ address: `127.0.0.1:${port}`, insecure: true });
  const start = performance.now();
  const error = await errorOf(client.leads.createLead({ lead }, { timeoutMs: 1_500 }));
  assert.equal(error.code, Code.Unavailable);
  assert.match(error.message, /ECONNREFUSED/);
  assert.ok(performance.now() - start <= 1_500);
});

test("an error with an unknown reason and unknown details stays readable", async (context) => {
  const error = gatewayError(Code.ResourceExhausted, "COFFEE_EMPTY", { message: "no coffee", metadata: { cups: "0" } });
  error.details.push({ desc: UserSchema, value: { firstName: "Sam" } }, { type: "google.rpc.RetryInfo", value: new Uint8Array([255, 255]) });
  const { client } = await failing(context, error);
  const received = await errorOf(client.leads.createLead({ lead }));
  assert.equal(received.message, "RESOURCE_EXHAUSTED (COFFEE_EMPTY): no coffee");
  assert.equal(received.reason, ErrorReason.ERROR_REASON_UNSPECIFIED);
  assert.equal(received.reasonText, "COFFEE_EMPTY");
  assert.deepEqual(received.metadata, { cups: "0" });
  assert.equal(received.retryAfter, undefined);
  assert.deepEqual(received.details.map(({ type }) => type), ["google.rpc.ErrorInfo", "leadgate.v1.User", "google.rpc.RetryInfo"]);
});

test("all fields of an error are typed", async (context) => {
  const { client } = await failing(
    context,
    gatewayError(Code.InvalidArgument, "INVALID_FIELD", {
      message: "invalid request",
      metadata: { attempts: "0" },
      retryAfter: 1_250,
      violations: [{ field: "lead.email_address", description: "has no @" }],
      resource: { type: "leadgate.v1.Lead", name: "id", description: "lead.phone" },
    }),
  );
  const error = await errorOf(client.leads.createLead({ lead }));
  assert.equal(error.reason, ErrorReason.INVALID_FIELD);
  assert.equal(error.rawMessage, "invalid request");
  assert.equal(error.domain, "leadgate");
  assert.equal(error.retryAfter, 1_250);
  assert.deepEqual(error.violations, [{ field: "lead.email_address", description: "has no @" }]);
  assert.deepEqual(error.resource, { type: "leadgate.v1.Lead", name: "id", description: "lead.phone" });
});

test("a token is sent without TLS only if insecure is set", async (context) => {
  const received: Buffer[] = [];
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (data) => {
      received.push(data);
      socket.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  context.after(() => server.close());
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  const send = async (options: ClientOptions) => {
    received.length = 0;
    const client = createClient({ address, token: "lg_test_secret", ...options });
    await errorOf(client.leads.createLead({ lead }, { timeoutMs: 500 }));
    client.close();
    assert.ok(received.length > 0, "nothing was received");
    return Buffer.concat(received).subarray(0, 24).toString("latin1");
  };
  assert.match(await send({}), /^\x16\x03/, "a TLS handshake");
  assert.match(await send({ insecure: true }), /^PRI \* HTTP\/2\.0/);
  for (const wrong of [`http://${address}`, "", "host:port", "user@host:1", "host/path"]) {
    assert.throws(() => createClient({ address: wrong }), TypeError, wrong);
  }
  assert.throws(() => createClient({ address, insecure: true, ca: "pem" }), TypeError);
  assert.throws(() => createClient({ address, token: "a", tokenFile: "b" }), TypeError);
  assert.throws(() => createClient({ address, cert: "a" }), TypeError);
});

test("a token file is read again", async (context) => {
  const folder = await mkdtemp(join(tmpdir(), "leadgate-"));
  context.after(() => rm(folder, { recursive: true }));
  const tokenFile = join(folder, "token");
  const seen: (string | null)[] = [];
  const { client } = await fake(
    context,
    ({ rpc }) =>
      rpc(QuotaService.method.getQuota, (_, handler) => {
        seen.push(handler.requestHeader.get("authorization"));
        return {};
      }),
    { tokenFile },
  );
  assert.match((await errorOf(client.quota.getQuota({}))).message, /UNAUTHENTICATED: cannot read the token/);
  await writeFile(tokenFile, "\n");
  assert.match((await errorOf(client.quota.getQuota({}))).message, /UNAUTHENTICATED: the token file is empty/);
  await writeFile(tokenFile, "first\n");
  await client.quota.getQuota({});
  await writeFile(`${tokenFile}.new`, "other\n");
  await rename(`${tokenFile}.new`, tokenFile);
  await client.quota.getQuota({});
  await writeFile(tokenFile, ""); // While the file is being replaced, the last token is used.
  await client.quota.getQuota({});
  await rm(tokenFile);
  await client.quota.getQuota({});
  assert.deepEqual(seen, ["Bearer first", "Bearer other", "Bearer other", "Bearer other"]);
});

test("64-bit integers keep their digits", async (context) => {
  const { client } = await fake(context, ({ rpc }) => rpc(LeadService.method.getLead, () => ({ lead: { fields: { custom: { mx_Id: { value: { case: "integer", value: 9_007_199_254_740_993n } } } } } })));
  const { lead } = await client.leads.getLead({});
  assert.equal(lead?.fields?.custom["mx_Id"]?.value.value, 9_007_199_254_740_993n);
});

test("a service in this process needs no port", async () => {
  const transport = createRouterTransport(({ rpc }) =>
    rpc(LeadService.method.createLead, ({ requestId }) => {
      throw gatewayError(Code.AlreadyExists, "LEAD_DUPLICATE", { metadata: { requestId } });
    }),
  );
  const error = await errorOf(createClient({ transport }).leads.createLead({ lead }));
  assert.equal(error.reason, ErrorReason.LEAD_DUPLICATE);
  assert.equal(error.metadata["requestId"], error.requestId);
});

test("an export continues after the last resume token", async (context) => {
  const tokens: string[] = [];
  const running = await fake(context, ({ rpc }) =>
    rpc(LeadService.method.exportLeads, async function* ({ resumeToken, startTime }) {
      assert.equal(startTime?.seconds, 5n);
      tokens.push(resumeToken);
      for (let part = Number(resumeToken || 0) + 1; part <= 6; part += 1) {
        yield { leads: [{ leadId: `lead ${part}` }], resumeToken: String(part) };
        if (part === 2) {
          throw gatewayError(Code.Unavailable, "SHUTTING_DOWN", { retryAfter: 0 });
        }
        if (part === 4) {
          await new Promise((resolve) => setTimeout(resolve, 100)); // The part is on its way.
          for (const session of running.sessions) {
            session.destroy();
          }
          return;
        }
      }
    }),
  );
  const parts = await collect(running.client.leads.exportLeads({ startTime: { seconds: 5n } }));
  assert.deepEqual(parts.map(({ leads }) => leads[0]?.leadId), [1, 2, 3, 4, 5, 6].map((part) => `lead ${part}`));
  assert.deepEqual(tokens, ["", "2", "4"]);
});

test("a watch starts again and leaves out what it has returned", async (context) => {
  let watches = 0;
  const { client } = await fake(context, ({ rpc }) =>
    rpc(ShareService.method.watchShare, async function* () {
      watches += 1;
      yield { share: { state: ShareState.PROCESSING } };
      if (watches === 1) {
        throw gatewayError(Code.Unavailable, "SHUTTING_DOWN", { retryAfter: 0 });
      }
      yield { share: { state: ShareState.ACTIVE } };
    }),
  );
  const states = (await collect(client.shares.watchShare({ shareId: "a" }))).map(({ share }) => share?.state);
  assert.deepEqual(states, [ShareState.PROCESSING, ShareState.ACTIVE]);
  assert.equal(watches, 2);
});

test("a stream whose token has expired continues with the current one", async (context) => {
  const tokens: (string | null)[] = [];
  const { client } = await fake(
    context,
    ({ rpc }) =>
      rpc(ShareService.method.watchShare, async function* (_, handler) {
        tokens.push(handler.requestHeader.get("authorization"));
        if (tokens.length === 4) {
          throw gatewayError(Code.Unauthenticated, "CALLER_UNKNOWN");
        }
        yield { share: { shareId: `${tokens.length}` } };
        if (tokens.length !== 2) {
          throw gatewayError(Code.Unauthenticated, "CALLER_UNKNOWN");
        }
      }),
    { token: () => `token-${tokens.length + 1}` },
  );
  assert.equal((await collect(client.shares.watchShare({}))).length, 2);
  assert.deepEqual(tokens, ["Bearer token-1", "Bearer token-2"]);
  assert.equal((await errorOf(collect(client.shares.watchShare({})))).reason, ErrorReason.CALLER_UNKNOWN);
  assert.equal(tokens.length, 4);
});

test("a stream ends if it does not reconnect for the maximum time", async () => {
  const client = createClient({ address: "127.0.0.1:1", insecure: true, timeouts: { reconnect: 500 } });
  const start = performance.now();
  assert.equal((await errorOf(collect(client.quota.watchQuota({})))).code, Code.Unavailable);
  assert.ok(performance.now() - start < 1_000);
});

test("an import matches results to rows, and repeats the rows without a result", async (context) => {
  const received: [string, string][] = [];
  let streams = 0;
  const { client } = await fake(context, ({ rpc }) =>
    rpc(LeadService.method.importLeads, async function* (rows) {
      streams += 1;
      let read = 0;
      for await (const row of rows) {
        read += 1;
        assert.equal(row.operation.case, "create");
        const name = row.operation.value.lead?.firstName ?? "";
        received.push([name, row.operation.value.requestId]);
        if (streams === 1 && read === 3) {
          throw gatewayError(Code.Unavailable, "SHUTTING_DOWN", { retryAfter: 0 });
        }
        // The first stream gives no result for every second row.
        if (streams > 1 || read % 2 === 1) {
          yield { sequence: row.sequence, result: { case: "response", value: { leadId: `lead of ${name}` } } };
        }
      }
    }),
  );
  const names = ["a", "b", "c", "d", "e"];
  const rows = names.map((firstName, index) => ({ sequence: index === 4 ? 0n : BigInt(100 + index), operation: { case: "create" as const, value: { lead: { firstName } } } }));
  const results = await collect(client.leads.importLeads(rows));
  const bySequence = results.map(({ sequence, lead }) => [sequence, lead?.leadId]).sort((a, b) => Number(a[0]) - Number(b[0]));
  assert.deepEqual(bySequence, [[5n, "lead of e"], [100n, "lead of a"], [101n, "lead of b"], [102n, "lead of c"], [103n, "lead of d"]]);
  assert.equal(streams, 2);
  assert.equal(received.filter(([name]) => name === "a").length, 1);
  const ids = new Set(received.filter(([name]) => name === "b").map(([, id]) => id));
  assert.equal(ids.size, 1);
  assert.match([...ids][0]!, /-7/);
  assert.equal(rows[1]?.operation.value && "requestId" in rows[1].operation.value, false);
});

test("an import continues if the connection is lost while rows are being sent", async (context) => {
  let streams = 0;
  const running = await fake(context, ({ rpc }) =>
    rpc(LeadService.method.importLeads, async function* (rows) {
      streams += 1;
      let read = 0;
      for await (const { sequence } of rows) {
        read += 1;
        yield { sequence, result: { case: "response", value: {} } };
        if (streams === 1 && read === 100) {
          // The server reads no more, so the client waits for flow control.
          await new Promise((resolve) => setTimeout(resolve, 300));
          running.sessions.forEach((session) => session.destroy());
          return;
        }
      }
    }),
  );
  const notes = "long ".repeat(100);
  function* rows() {
    for (let row = 0; row < 3_000; row += 1) {
      yield { operation: { case: "create" as const, value: { lead: { notes } } } };
    }
  }
  const results = await collect(running.client.leads.importLeads(rows()));
  assert.equal(new Set(results.map(({ sequence }) => sequence)).size, 3_000);
  assert.equal(results.length, 3_000);
  assert.equal(streams, 2);
});

test("many rows that have to be repeated do not stop an import", async (context) => {
  const sent = new Map<string, number>();
  const { client } = await fake(context, ({ rpc }) =>
    rpc(LeadService.method.importLeads, async function* (rows) {
      for await (const { sequence, operation } of rows) {
        const id = (operation.value as { requestId: string }).requestId;
        sent.set(id, (sent.get(id) ?? 0) + 1);
        const status = gatewayError(Code.ResourceExhausted, "QUEUE_FULL", { retryAfter: 10 });
        yield { sequence, result: sent.get(id) === 1 ? { case: "error", value: statusOf(status) } : { case: "response", value: {} } };
      }
    }),
  );
  const rows = Array.from({ length: 3_000 }, () => ({ operation: { case: "create" as const, value: { lead } } }));
  const results = await collect(client.leads.importLeads(rows));
  assert.equal(results.filter(({ error }) => !error).length, 3_000);
  assert.ok([...sent.values()].every((times) => times === 2));
});

test("a row is repeated if its error says so", async (context) => {
  const ids = new Map<string, string[]>();
  const { client } = await fake(context, ({ rpc }) =>
    rpc(LeadService.method.importLeads, async function* (rows) {
      for await (const { sequence, operation } of rows) {
        const { lead, requestId = "" } = operation.value as { lead?: { firstName?: string }; requestId?: string };
        const name = lead?.firstName ?? "";
        ids.set(name, [...(ids.get(name) ?? []), requestId]);
        const again = { again: "true", never: "false" }[name];
        if (again === "false" || (again === "true" && ids.get(name)?.length === 1) || name === "always") {
          const status = gatewayError(Code.Aborted, "OUTCOME_UNKNOWN", { metadata: { retry_same_request_id: again ?? "true" }, retryAfter: 20 });
          yield { sequence, result: { case: "error", value: statusOf(status) } };
        } else {
          yield { sequence, result: { case: "response", value: {} } };
        }
      }
    }),
  );
  const rows = ["again", "never", "always", "fine"].map((firstName) => ({ operation: { case: "upsert" as const, value: { lead: { firstName } } } }));
  const results = new Map((await collect(client.leads.importLeads(rows))).map((result) => [result.sequence, result]));
  assert.equal(ids.get("again")?.length, 2);
  assert.equal(new Set(ids.get("again")).size, 1);
  assert.equal(ids.get("never")?.length, 1);
  assert.equal(ids.get("always")?.length, 8);
  assert.deepEqual([1n, 2n, 3n, 4n].map((sequence) => results.get(sequence)?.error?.reason), [undefined, ErrorReason.OUTCOME_UNKNOWN, ErrorReason.OUTCOME_UNKNOWN, undefined]);
  assert.equal(results.get(2n)?.error?.requestId, ids.get("never")?.[0]);
});

test("an import reads its source only as fast as results are read", async (context) => {
  let produced = 0;
  let closed = false;
  async function* source() {
    try {
      for (;;) {
        produced += 1;
        yield { operation: { case: "create" as const, value: { lead } } };
      }
    } finally {
      closed = true;
    }
  }
  const { client } = await fake(context, ({ rpc }) =>
    rpc(LeadService.method.importLeads, async function* (rows) {
      for await (const { sequence } of rows) {
        yield { sequence, result: { case: "response", value: {} } };
      }
    }),
  );
  let results = 0;
  for await (const _ of client.leads.importLeads(source())) {
    results += 1;
    if (results === 1) {
      let before = -1;
      while (produced !== before) {
        before = produced;
        await new Promise((resolve) => setTimeout(resolve, 200)); // Until the client reads no more rows.
      }
      assert.ok(produced <= 2_001, `${produced} rows without a result`);
    }
    if (results === 2_500) {
      assert.ok(produced <= 4_501);
      break;
    }
  }
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(closed, "the source is closed");
});

test("an import that fails names the rows without a result, and a source that fails ends the import", async (context) => {
  const { client } = await fake(context, ({ rpc }) =>
    rpc(LeadService.method.importLeads, async function* (rows) {
      for await (const _ of rows) {
        throw gatewayError(Code.PermissionDenied, "CALLER_NOT_ALLOWED");
      }
    }),
  );
  const rows = [{ operation: { case: "create" as const, value: { lead } } }];
  const error = await errorOf(collect(client.leads.importLeads(rows)));
  assert.equal(error.reason, ErrorReason.CALLER_NOT_ALLOWED);
  assert.equal(error.unfinishedRows.length, 1);
  assert.doesNotMatch(`${JSON.stringify(error)}${inspect(error)}`, /Asha|unfinishedRows/);
  assert.match((error.unfinishedRows[0]?.operation.value as { requestId: string }).requestId, /-7/);
  const broken = (async function* () {
    throw new Error("the file is broken");
  })();
  await assert.rejects(collect(client.leads.importLeads(broken)), /the file is broken/);
});

/** The error as google.rpc.Status. */
function statusOf(error: ConnectError) {
  const status = { code: error.code as number, message: error.rawMessage, details: [] as { typeUrl: string; value: Uint8Array }[] };
  for (const detail of error.details) {
    if ("desc" in detail) {
      status.details.push({ typeUrl: `type.googleapis.com/${detail.desc.typeName}`, value: toBinary(detail.desc, create(detail.desc, detail.value)) });
    }
  }
  return status;
}
