// One call and one error through the installed package.
import assert from "node:assert/strict";
import { createClient, ErrorReason } from "leadgate";
import { startDemo } from "leadgate/testing";

const demo = await startDemo({ secure: true });
const client = createClient(demo.clientOptions);
try {
  const request = { lead: { emailAddress: "one@example.com" } };
  const { leadId } = await client.leads.createLead(request);
  await assert.rejects(client.leads.createLead(request), (error) => error.reason === ErrorReason.LEAD_DUPLICATE && error.resource.name === leadId);
  console.log("ok");
} finally {
  client.close();
  await demo.stop();
}
