import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { useDemo } from "leadgate/testing";

const demo = useDemo(before, after, { secure: true });
const run = promisify(execFile);
const main = fileURLToPath(new URL("./main.js", import.meta.url));

test("the example runs against a gateway with TLS and a token", async (context) => {
  const folder = await mkdtemp(join(tmpdir(), "leadgate-"));
  context.after(() => rm(folder, { recursive: true }));
  const tokenFile = join(folder, "token");
  await writeFile(tokenFile, demo().token ?? "");
  const { stdout } = await run(process.execPath, [main, demo().address, "--ca", demo().caFile ?? "", "--token-file", tokenFile]);
  context.diagnostic(stdout);
  const leadId = /lead ([0-9a-f-]{36})/.exec(stdout)?.[1];
  assert.ok(leadId);
  assert.ok(stdout.includes(`duplicate of ${leadId}\n`));
  assert.match(stdout, /number \d+: Asha, Pune\n/);
  assert.match(stdout, /19 imported, 1 rejected\n   row 13: .*lead.email_address: must be an email address/);
  assert.match(stdout, /   ACTIVE\n6\. Revoke the share\n   REVOKED\n/);
  const [, served, refused] = /(\d+) served, (\d+) refused/.exec(stdout) ?? [];
  assert.equal(Number(served) + Number(refused), 60);
  assert.ok(Number(refused) > 0);
  assert.match(stdout, /RESOURCE_EXHAUSTED \(DEADLINE_INFEASIBLE\): .*\n   retry after \d+(\.\d+)? ms\n$/);
});

test("an error is one line on standard error", async () => {
  const token = { env: { ...process.env, LEADGATE_TOKEN: "wrong" } };
  const failed = await run(process.execPath, [main, demo().address, "--ca", demo().caFile ?? ""], token).catch((error) => error);
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /^UNAUTHENTICATED \(CALLER_UNKNOWN\): .*\n$/);
});
