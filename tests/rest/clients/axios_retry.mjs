// axios with axios-retry: waits as long as Retry-After of a 429 says.
import axios from "axios";
import axiosRetry from "axios-retry";

const [base, access, secret] = process.argv.slice(2);
const client = axios.create({ baseURL: base, responseType: "arraybuffer" });
axiosRetry(client, {
    retries: 10,
    retryDelay: axiosRetry.exponentialDelay,
    retryCondition: (error) => error.response?.status === 429,
});
for (let number = 0; number < 3; number++) {
    const params = { accessKey: access, secretKey: secret, key: `none ${number}` };
    const response = await client.get("/LeadManagement.svc/Leads.GetByQuickSearch", { params });
    console.log([`read ${number}`, response.status, response.headers["content-type"], "", response.data.toString("base64")].join("\t"));
}
