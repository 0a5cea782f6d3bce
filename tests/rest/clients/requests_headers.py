"""Python with requests: keys in headers."""

import base64

import re
import sys

import requests

BASE, ACCESS, SECRET = sys.argv[1:]
LEAD = [{"Attribute": "FirstName", "Value": "José 🙂"}, {"Attribute": "EmailAddress", "Value": "jose@example.com"}]
session = requests.Session()


def show(step, response):
    """Prints one response."""
    kind, after = response.headers.get("Content-Type", ""), response.headers.get("Retry-After", "")
    print(step, response.status_code, kind, after, base64.b64encode(response.content).decode(), sep="\t")
    return response


def call(step, method, path, secret=SECRET, **more):
    """Sends one request."""
    keys = {"x-LSQ-AccessKey": ACCESS, "x-LSQ-SecretKey": secret}
    return show(step, session.request(method, f"{BASE}/{path}", headers=keys, timeout=60, **more))


created = call("create", "POST", "LeadManagement.svc/Lead.Create", json=LEAD)
lead = re.search(r'"Id":"([^"]+)"', created.text).group(1)
call("read", "GET", "LeadManagement.svc/Leads.GetById", params={"id": lead})
call("update", "POST", "LeadManagement.svc/Lead.Update", params={"leadId": lead}, json=[{"Attribute": "LastName", "Value": "O'Neil"}])
search = {
    "Parameter": {"LookupName": "FirstName", "LookupValue": "José 🙂", "SqlOperator": "="},
    "Paging": {"PageIndex": 1, "PageSize": 10},
}
call("list", "POST", "LeadManagement.svc/Leads.Get", json=search)
call("duplicate", "POST", "LeadManagement.svc/Lead.Create", json=LEAD)
call("empty", "POST", "ProspectActivity.svc/Retrieve", params={"leadId": lead})
call("wrong keys", "GET", "LeadManagement.svc/Leads.GetById", secret="wrong", params={"id": lead})
call("refused", "GET", "LeadManagement.svc/Leads.GetById", params={"id": lead})
