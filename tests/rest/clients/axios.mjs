// axios with a base and paths that begin with a slash: with a base that ends with one, as the TypeScript SDK has it, two slashes are sent.
// Keys as `params`, which leave "$" as it is.
import axios from "axios";

const [base, access, secret] = process.argv.slice(2);
const client = axios.create({ validateStatus: () => true, responseType: "arraybuffer" });
const lead = [{ Attribute: "FirstName", Value: "José 🙂" }, { Attribute: "EmailAddress", Value: "jose@example.com" }];

async function call(step, method, path, { key = secret, data, ...query } = {}) {
    const params = { accessKey: access, secretKey: key, ...query };
    // As some integrations send it, also for a GET.
    const headers = { "Content-Type": "application/json" };
    const response = await client.request({ method, url: `${base}${path}`, params, data, headers });
    const header = (name) => response.headers[name] ?? "";
    console.log([step, response.status, header("content-type"), header("retry-after"), response.data.toString("base64")].join("\t"));
    return response.data;
}

const created = JSON.parse(await call("create", "POST", "/LeadManagement.svc/Lead.Create", { data: lead }));
const id = created.Message.Id;
await call("read", "GET", "/LeadManagement.svc/Leads.GetById", { id });
await call("update", "POST", "/LeadManagement.svc/Lead.Update", { leadId: id, data: [{ Attribute: "LastName", Value: "O'Neil" }] });
const Parameter = { LookupName: "FirstName", LookupValue: "José 🙂", SqlOperator: "=" };
await call("list", "POST", "/LeadManagement.svc/Leads.Get", { data: { Parameter, Paging: { PageIndex: 1, PageSize: 10 } } });
await call("duplicate", "POST", "/LeadManagement.svc/Lead.Create", { data: lead });
await call("empty", "POST", "/ProspectActivity.svc/Retrieve", { leadId: id });
await call("wrong keys", "GET", "/LeadManagement.svc/Leads.GetById", { id, key: "wrong" });
await call("refused", "GET", "/LeadManagement.svc/Leads.GetById", { id });
