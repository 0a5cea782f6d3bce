# Ruby with HTTParty, as Chatwoot uses it: URI.join of the endpoint and a path, keys in headers, a query, and JSON.
require "base64"
require "httparty"
require "json"

BASE, ACCESS, SECRET = ARGV
LEAD = [{ "Attribute" => "FirstName", "Value" => "José 🙂" }, { "Attribute" => "EmailAddress", "Value" => "jose@example.com" }].freeze

# A client of the API.
class Client
  include HTTParty

  def initialize(endpoint, secret)
    @endpoint = endpoint
    @headers = { "Content-Type" => "application/json", "x-LSQ-AccessKey" => ACCESS, "x-LSQ-SecretKey" => secret }
  end

  def call(verb, path, query, body)
    options = { query: query, headers: @headers, timeout: 60, format: :plain }
    options[:body] = body.to_json if body
    self.class.send(verb, URI.join(@endpoint, path).to_s, options)
  end
end

def call(step, verb, path, query = {}, body: nil, key: SECRET)
  response = Client.new("#{BASE}/", key).call(verb, path, query, body)
  content = response.body.to_s
  puts [step, response.code, response.headers["content-type"], response.headers["retry-after"], Base64.strict_encode64(content)].join("\t")
  content
end

id = JSON.parse(call("create", :post, "LeadManagement.svc/Lead.Create", body: LEAD))["Message"]["Id"]
call("read", :get, "LeadManagement.svc/Leads.GetById", { id: id })
call("update", :post, "LeadManagement.svc/Lead.Update", { leadId: id }, body: [{ "Attribute" => "LastName", "Value" => "O'Neil" }])
search = { "LookupName" => "FirstName", "LookupValue" => "José 🙂", "SqlOperator" => "=" }
call("list", :post, "LeadManagement.svc/Leads.Get", body: { "Parameter" => search, "Paging" => { "PageIndex" => 1, "PageSize" => 10 } })
call("duplicate", :post, "LeadManagement.svc/Lead.Create", body: LEAD)
call("empty", :post, "ProspectActivity.svc/Retrieve", { leadId: id })
call("wrong keys", :get, "LeadManagement.svc/Leads.GetById", { id: id }, key: "wrong")
call("refused", :get, "LeadManagement.svc/Leads.GetById", { id: id })
