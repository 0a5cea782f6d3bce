// The client against `leadgate demo --secure`: TLS, credentials, errors and streams as callers meet them.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { after, before, test } from "node:test";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Access, Code, createClient, type Client, type ClientOptions, ErrorReason, LeadgateError, ShareState, WaitFor } from "leadgate";
import { useDemo } from "leadgate/testing";

const demo = useDemo(before, after, { secure: true });
const clients: Client[] = [];
after(() => clients.forEach((client) => client.close()));

function connect(options: ClientOptions = {}): Client {
  const client = createClient({ ...demo().clientOptions, ...options });
  clients.push(client);
  return client;
}

/** The options of the demo without its token. */
function withoutToken(): ClientOptions {
  const { token: _, ...options } = demo().clientOptions;
  return options;
}

async function errorOf(promise: Promise<unknown>): Promise<LeadgateError> {
  const error = await promise.then(
    () => assert.fail("no error"),
    (error: unknown) => error,
  );
  assert.ok(error instanceof LeadgateError, String(error));
  return error;
}

test("a token and a client certificate identify the caller", async () => {
  assert.ok((await connect().quota.getQuota({})).quota);
  const { certFile, keyFile } = demo();
  const certificate = createClient({ ...withoutToken(), cert: readFileSync(certFile!), key: readFileSync(keyFile!) });
  clients.push(certificate);
  assert.ok((await certificate.quota.getQuota({})).quota);
  const error = await errorOf(connect({ token: "lg_nobody" }).quota.getQuota({}));
  assert.equal(error.code, Code.Unauthenticated);
  assert.equal(error.reason, ErrorReason.CALLER_UNKNOWN);
});

test("a connection without valid TLS is an error at once that names the option", async () => {
  const { ca: _, ...withoutCa } = demo().clientOptions;
  const plaintext = createServer((socket) => socket.on("error", () => {}).end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  await new Promise<void>((resolve) => plaintext.listen(0, "127.0.0.1", resolve));
  after(() => plaintext.close());
  const cases: [ClientOptions, RegExp][] = [
    [withoutCa, /its authority is not in `ca`/],
    [{ ...demo().clientOptions, nodeOptions: { servername: "other.example" } }, /not valid for the host of `address`/],
    [{ ...demo().clientOptions, address: `127.0.0.1:${(plaintext.address() as AddressInfo).port}` }, /`insecure: true`/],
  ];
  for (const [options, message] of cases) {
    const client = createClient(options);
    clients.push(client);
    const start = performance.now();
    assert.match((await errorOf(client.quota.getQuota({}))).message, message);
    assert.ok(performance.now() - start < 5_000);
  }
});

test("PEM is a path or the content", async () => {
  const { caFile, certFile, keyFile, clientOptions } = demo();
  const ca = readFileSync(caFile!, "utf8");
  const cert = readFileSync(certFile!);
  assert.ok((await connect({ ca }).quota.getQuota({})).quota);
  assert.ok((await connect({ ca: Buffer.from(ca), cert: certFile!, key: keyFile! }).quota.getQuota({})).quota);
  const wrong: [ClientOptions, RegExp][] = [
    [{ ca: `${caFile}.absent` }, /ENOENT/],
    [{ ca: "" }, /ENOENT/],
    [{ ca: Buffer.from(caFile!) }, /ca must be PEM, or the path of a PEM file/],
    [{ cert, key: cert }, /cert or key is invalid/],
    [{ cert: ca, key: keyFile! }, /key is not the key of cert/],
  ];
  for (const [options, message] of wrong) {
    assert.throws(() => createClient({ ...clientOptions, ...options }), message);
  }
});

test("a duplicate names the other lead and the field", async () => {
  const client = connect();
  const lead = { emailAddress: "duplicate@example.com" };
  const { leadId } = await client.leads.createLead({ lead });
  const error = await errorOf(client.leads.createLead({ lead }));
  assert.equal(error.reason, ErrorReason.LEAD_DUPLICATE);
  assert.equal(error.code, Code.AlreadyExists);
  assert.deepEqual(error.resource, { type: "leadgate.v1.Lead", name: leadId, description: "lead.email_address" });
  assert.equal(error.metadata["field"], "lead.email_address");
  assert.equal(error.metadata["exception_type"], "MXDuplicateEntryException");
  assert.ok(error.rpcId && error.requestId);
});

test("the same request id has one effect", async () => {
  const client = connect();
  const request = { lead: { firstName: "Twice" }, requestId: "01890a5d-ac96-774b-bcce-b302099a8057" };
  assert.equal((await client.leads.createLead(request)).leadId, (await client.leads.createLead(request)).leadId);
});

test("all invalid fields are reported", async () => {
  const error = await errorOf(connect().leads.createLead({ lead: { emailAddress: "nobody", phone: "abc" } }));
  assert.equal(error.reason, ErrorReason.INVALID_FIELD);
  assert.deepEqual(error.violations.map(({ field }) => field).sort(), ["lead.email_address", "lead.phone"]);
});

test("a tenant that the caller may not use is refused", async () => {
  const error = await errorOf(connect().leads.createLead({ lead: { firstName: "A" } }, { tenant: "other" }));
  assert.equal(error.reason, ErrorReason.CALLER_NOT_ALLOWED);
  assert.equal(error.metadata["rule"], "tenant");
});

test("leads are imported and exported", async () => {
  const client = connect();
  const start = timestampFromMs(Date.now() - 60_000);
  async function* rows() {
    for (let index = 0; index < 40; index += 1) {
      yield { operation: { case: "upsert" as const, value: { lead: { emailAddress: index === 20 ? "nobody" : `import.${index}@example.com` } } } };
    }
  }
  const failed: bigint[] = [];
  let succeeded = 0;
  let trailers: Headers | undefined;
  for await (const { sequence, lead, error } of client.leads.importLeads(rows(), { onTrailer: (received) => (trailers = received) })) {
    if (error) {
      assert.equal(error.violations[0]?.field, "lead.email_address");
      failed.push(sequence);
    } else {
      assert.ok(lead?.leadId);
      succeeded += 1;
    }
  }
  assert.deepEqual([failed, succeeded], [[21n], 39]);
  assert.equal(trailers?.get("x-leadgate-import-succeeded"), "39");
  const exported = new Set<string>();
  for await (const { leads } of client.leads.exportLeads({ startTime: start, readMask: { paths: ["lead_id", "fields.email_address"] } })) {
    leads.forEach(({ fields }) => exported.add(fields?.emailAddress ?? ""));
  }
  assert.ok(exported.has("import.0@example.com") && exported.has("import.39@example.com") && !exported.has("nobody"));
});

test("each request of a batch has its result", async () => {
  const { results } = await connect().leads.batchUpsertLeads({ requests: [{ lead: { emailAddress: "batch@example.com" } }, { lead: { emailAddress: "nobody" } }] });
  assert.equal(results[0]?.result.case, "response");
  assert.ok(results[1]?.result.case === "error");
  const error = LeadgateError.fromStatus(results[1].result.value);
  assert.equal(error.reason, ErrorReason.INVALID_FIELD);
  assert.match(error.violations[0]?.field ?? "", /email_address/);
});

test("a lead is shared, watched and revoked", async () => {
  const client = connect();
  const { leadId } = await client.leads.createLead({ lead: { emailAddress: "shared@example.com" } });
  const request = { lead: { case: "leadId" as const, value: leadId }, user: { case: "userEmailAddress" as const, value: "sam@simulator.example" }, access: Access.READ };
  const { share } = await client.shares.shareLead({ ...request, waitFor: WaitFor.SUBMITTED });
  const shareId = share?.shareId ?? "";
  let last: ShareState | undefined;
  for await (const { share: changed } of client.shares.watchShare({ shareId })) {
    last = changed?.state;
    if (last === ShareState.ACTIVE) {
      break;
    }
  }
  assert.equal(last, ShareState.ACTIVE);
  const again = await errorOf(client.shares.shareLead(request));
  assert.equal(again.reason, ErrorReason.SHARE_EXISTS);
  assert.equal(again.resource?.name, shareId);
  const revoked = await client.shares.revokeShare({ share: { case: "shareId", value: shareId }, waitFor: WaitFor.ACTIVE });
  assert.equal(revoked.share?.state, ShareState.REVOKED);
});

test("users and activities are read", async () => {
  const client = connect();
  const { user } = await client.users.getUser({ key: { case: "emailAddress", value: "sam@simulator.example" } });
  assert.equal(user?.role, "Sales_User");
  assert.ok((await client.activities.listActivityTypes({})).activityTypes.length > 0);
});
