// The test helper in Vitest.
import { createClient } from "leadgate";
import { useDemo } from "leadgate/testing";
import { afterAll, beforeAll, expect, test } from "vitest";

const demo = useDemo(beforeAll, afterAll);

test("a lead is created and read", async () => {
  const client = createClient(demo().clientOptions);
  const { leadId } = await client.leads.createLead({ lead: { emailAddress: "vitest@example.com" } });
  const { lead } = await client.leads.getLead({ key: { case: "leadId", value: leadId } });
  expect(lead?.fields?.emailAddress).toBe("vitest@example.com");
  client.close();
});
