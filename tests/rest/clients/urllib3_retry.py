"""Python with urllib3 and its Retry: waits as long as Retry-After of a 429 says."""

import base64
import sys

import urllib3

BASE, ACCESS, SECRET = sys.argv[1:]
retry = urllib3.Retry(total=10, status_forcelist=[429], allowed_methods=None, respect_retry_after_header=True, backoff_factor=0)
pool = urllib3.PoolManager(retries=retry)
for number in range(3):
    fields = {"accessKey": ACCESS, "secretKey": SECRET, "key": f"none {number}"}
    response = pool.request("GET", f"{BASE}/LeadManagement.svc/Leads.GetByQuickSearch", fields=fields, timeout=60)
    body = base64.b64encode(response.data).decode()
    print(f"read {number}", response.status, response.headers.get("Content-Type", ""), "", body, sep="\t")
