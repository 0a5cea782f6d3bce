// What the service does with leads. It knows nothing about the command line.
import { Access, type Client, ErrorReason, LeadgateError, ShareState, WaitFor } from "leadgate";

/** Creates a lead, or returns the id of the lead that has the email address already. */
export async function createOrFind(client: Client, emailAddress: string, firstName: string): Promise<{ leadId: string; isNew: boolean }> {
  try {
    const { leadId } = await client.leads.createLead({ lead: { emailAddress, firstName } });
    return { leadId, isNew: true };
  } catch (error) {
    if (error instanceof LeadgateError && error.reason === ErrorReason.LEAD_DUPLICATE && error.resource?.name) {
      return { leadId: error.resource.name, isNew: false };
    }
    throw error;
  }
}

/** Imports contacts from any source, such as a file that is read line by line. Returns the rows that were rejected. */
export async function importContacts(client: Client, contacts: AsyncIterable<{ email: string; city: string }>): Promise<{ imported: number; rejected: string[] }> {
  async function* rows() {
    for await (const { email, city } of contacts) {
      yield { operation: { case: "upsert" as const, value: { lead: { emailAddress: email, city } } } };
    }
  }
  let imported = 0;
  const rejected: string[] = [];
  for await (const { sequence, error } of client.leads.importLeads(rows())) {
    if (error) {
      rejected.push(`row ${sequence}: ${error.violations.map(({ field, description }) => `${field}: ${description}`).join(", ") || error.message}`);
    } else {
      imported += 1;
    }
  }
  return { imported, rejected };
}

/** Shares a lead with a user for half an hour. Returns the id of the share when the user has access. */
export async function share(client: Client, leadId: string, userEmailAddress: string, onChange: (state: string) => void): Promise<string> {
  const { share: requested } = await client.shares.shareLead({
    lead: { case: "leadId", value: leadId },
    user: { case: "userEmailAddress", value: userEmailAddress },
    access: Access.READ,
    duration: { seconds: 1800n },
    waitFor: WaitFor.NONE,
  });
  const shareId = requested?.shareId ?? "";
  for await (const { share: changed } of client.shares.watchShare({ shareId })) {
    const state = changed?.state ?? ShareState.UNSPECIFIED;
    onChange(ShareState[state]);
    if (state === ShareState.ACTIVE) {
      return shareId;
    }
    if (changed?.failure) {
      throw LeadgateError.fromStatus(changed.failure);
    }
  }
  throw new Error(`the share ${shareId} has ended`);
}

/** Searches for several texts at once, and counts the searches that the quota cannot serve before a deadline. */
export async function searchAll(client: Client, texts: string[], timeoutMs: number): Promise<{ found: number; late: LeadgateError[] }> {
  const results = await Promise.allSettled(texts.map((query) => client.leads.quickSearchLeads({ query }, { timeoutMs })));
  const late: LeadgateError[] = [];
  for (const result of results) {
    if (result.status === "rejected") {
      if (!(result.reason instanceof LeadgateError && result.reason.reason === ErrorReason.DEADLINE_INFEASIBLE)) {
        throw result.reason;
      }
      late.push(result.reason);
    }
  }
  return { found: texts.length - late.length, late };
}
