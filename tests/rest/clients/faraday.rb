# Ruby with Faraday, as the gem for LeadSquared uses it: a connection with a base URL, and keys as parameters of each request.
require "base64"
require "faraday"
require "json"

BASE, ACCESS, SECRET = ARGV
CONNECTION = Faraday.new(url: "#{BASE}/", request: { timeout: 60 })
LEAD = [{ "Attribute" => "FirstName", "Value" => "José 🙂" }, { "Attribute" => "EmailAddress", "Value" => "jose@example.com" }].freeze

def call(step, verb, path, query = {}, body: nil, key: SECRET)
  response = CONNECTION.run_request(verb, path, nil, nil) do |request|
    request.params.update({ "accessKey" => ACCESS, "secretKey" => key }.merge(query))
    if body
      request.headers["Content-Type"] = "application/json"
      request.body = body.to_json
    end
  end
  headers = response.headers
  puts [step, response.status, headers["content-type"], headers["retry-after"], Base64.strict_encode64(response.body)].join("\t")
  response.body
end

id = JSON.parse(call("create", :post, "LeadManagement.svc/Lead.Create", body: LEAD))["Message"]["Id"]
call("read", :get, "LeadManagement.svc/Leads.GetById", { "id" => id })
call("update", :post, "LeadManagement.svc/Lead.Update", { "leadId" => id }, body: [{ "Attribute" => "LastName", "Value" => "O'Neil" }])
search = { "LookupName" => "FirstName", "LookupValue" => "José 🙂", "SqlOperator" => "=" }
call("list", :post, "LeadManagement.svc/Leads.Get", body: { "Parameter" => search, "Paging" => { "PageIndex" => 1, "PageSize" => 10 } })
call("duplicate", :post, "LeadManagement.svc/Lead.Create", body: LEAD)
call("empty", :post, "ProspectActivity.svc/Retrieve", { "leadId" => id })
call("wrong keys", :get, "LeadManagement.svc/Leads.GetById", { "id" => id }, key: "wrong")
call("refused", :get, "LeadManagement.svc/Leads.GetById", { "id" => id })
