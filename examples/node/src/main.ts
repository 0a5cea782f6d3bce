import { randomUUID } from "node:crypto";
import { parseArgs } from "node:util";
import { createClient, LeadgateError, ShareState, WaitFor } from "leadgate";
import { createOrFind, importContacts, searchAll, share } from "./leads.js";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    ca: { type: "string" },
    "token-file": { type: "string" },
    tenant: { type: "string" },
    insecure: { type: "boolean", default: false },
    user: { type: "string", default: "sam@simulator.example" },
  },
});
const [address] = positionals;
if (!address) {
  console.error("usage: main.js HOST:PORT [--ca FILE] [--token-file FILE] [--tenant NAME] [--insecure] [--user EMAIL]\nLEADGATE_TOKEN: the token, without --token-file");
  process.exit(2);
}
const { LEADGATE_TOKEN: token } = process.env;
const client = createClient({
  address,
  insecure: values.insecure,
  ...(values.ca && { ca: values.ca }),
  ...(values["token-file"] ? { tokenFile: values["token-file"] } : token && { token }),
  ...(values.tenant && { tenant: values.tenant }),
});

try {
  const email = `asha.${randomUUID().slice(0, 8)}@example.com`;

  console.log("1. Create a lead");
  const { leadId } = await createOrFind(client, email, "Asha");
  console.log(`   lead ${leadId}`);

  console.log("2. Create it again");
  const found = await createOrFind(client, email, "Asha");
  console.log(`   ${found.isNew ? "a new lead" : "duplicate of"} ${found.leadId}`);

  console.log("3. Upsert and read it");
  await client.leads.upsertLead({ lead: { emailAddress: email, city: "Pune" } });
  const { lead } = await client.leads.getLead({ key: { case: "leadId", value: leadId } });
  console.log(`   number ${lead?.leadNumber}: ${lead?.fields?.firstName}, ${lead?.fields?.city}`);

  console.log("4. Import a stream of contacts");
  async function* contacts() {
    for (let row = 1; row <= 20; row += 1) {
      yield { email: row === 13 ? "nobody" : `contact.${row}.${email}`, city: "Mumbai" };
    }
  }
  const { imported, rejected } = await importContacts(client, contacts());
  console.log(`   ${imported} imported, ${rejected.length} rejected`);
  rejected.forEach((row) => console.log(`   ${row}`));

  console.log(`5. Share the lead with ${values.user}`);
  const shareId = await share(client, leadId, values.user, (state) => console.log(`   ${state}`));

  console.log("6. Revoke the share");
  const revoked = await client.shares.revokeShare({ share: { case: "shareId", value: shareId }, waitFor: WaitFor.ACTIVE });
  console.log(`   ${ShareState[revoked.share?.state ?? 0]}`);

  console.log("7. More searches than the quota can serve in a second");
  const { found: served, late } = await searchAll(client, Array.from({ length: 60 }, (_, index) => `text ${index}`), 1_000);
  console.log(`   ${served} served, ${late.length} refused`);
  if (late[0]) {
    console.log(`   ${late[0].message}`);
    console.log(`   retry after ${late[0].retryAfter} ms`);
  }
} catch (error) {
  if (!(error instanceof LeadgateError)) {
    throw error;
  }
  console.error(`${error.message} (request ${error.requestId ?? "-"}, x-request-id ${error.rpcId ?? "-"})`);
  process.exitCode = 1;
} finally {
  client.close();
}
