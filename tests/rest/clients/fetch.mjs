// Node.js with fetch: keys in the query, encoded by URLSearchParams.
const [base, access, secret] = process.argv.slice(2);
const lead = [{ Attribute: "FirstName", Value: "José 🙂" }, { Attribute: "EmailAddress", Value: "jose@example.com" }];

async function call(step, method, path, { key = secret, body, ...query } = {}) {
    const parameters = new URLSearchParams({ accessKey: access, secretKey: key, ...query });
    const headers = body === undefined ? {} : { "Content-Type": "application/json" };
    const response = await fetch(`${base}/${path}?${parameters}`, { method, headers, body: body && JSON.stringify(body) });
    const content = Buffer.from(await response.arrayBuffer());
    const header = (name) => response.headers.get(name) ?? "";
    console.log([step, response.status, header("content-type"), header("retry-after"), content.toString("base64")].join("\t"));
    return content;
}

const created = JSON.parse(await call("create", "POST", "LeadManagement.svc/Lead.Create", { body: lead }));
const id = created.Message.Id;
await call("read", "GET", "LeadManagement.svc/Leads.GetById", { id });
await call("update", "POST", "LeadManagement.svc/Lead.Update", { leadId: id, body: [{ Attribute: "LastName", Value: "O'Neil" }] });
const Parameter = { LookupName: "FirstName", LookupValue: "José 🙂", SqlOperator: "=" };
await call("list", "POST", "LeadManagement.svc/Leads.Get", { body: { Parameter, Paging: { PageIndex: 1, PageSize: 10 } } });
await call("duplicate", "POST", "LeadManagement.svc/Lead.Create", { body: lead });
await call("empty", "POST", "ProspectActivity.svc/Retrieve", { leadId: id });
await call("wrong keys", "GET", "LeadManagement.svc/Leads.GetById", { id, key: "wrong" });
await call("refused", "GET", "LeadManagement.svc/Leads.GetById", { id });
