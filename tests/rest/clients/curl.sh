#!/usr/bin/env bash
# curl with its options after the keys: keys in the query, as in the examples of LeadSquared.
set -euo pipefail
base=$1 access=$2 secret=$3
shift 3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# call STEP SECRET PATH-AND-QUERY OPTIONS...
call() {
    local step=$1 keys
    # The dollar sign of an access key stays as it is.
    keys="accessKey=$access&secretKey=$2"
    local url="$base/$3&$keys"
    shift 3
    printf '%s\t' "$step"
    curl --disable --silent --show-error --max-time 60 --output "$folder/body" --write-out '%{response_code}\t%{content_type}\t%header{retry-after}\t' \
        "${options[@]}" "$@" "$url"
    base64 --wrap=0 "$folder/body"
    echo
}

options=("$@")
json=(--header 'Content-Type: application/json')
lead='[{"Attribute":"FirstName","Value":"José 🙂"},{"Attribute":"EmailAddress","Value":"jose@example.com"}]'
call create "$secret" 'LeadManagement.svc/Lead.Create?' "${json[@]}" --data "$lead" | tee "$folder/created"
id=$(cut --fields 5 "$folder/created" | base64 --decode | sed 's/.*"Id":"\([^"]*\)".*/\1/')
call read "$secret" "LeadManagement.svc/Leads.GetById?id=$id"
call update "$secret" "LeadManagement.svc/Lead.Update?leadId=$id" "${json[@]}" --data '[{"Attribute":"LastName","Value":"O'\''Neil"}]'
search='{"Parameter":{"LookupName":"FirstName","LookupValue":"José 🙂","SqlOperator":"="},"Paging":{"PageIndex":1,"PageSize":10}}'
call list "$secret" 'LeadManagement.svc/Leads.Get?' "${json[@]}" --data "$search"
call duplicate "$secret" 'LeadManagement.svc/Lead.Create?' "${json[@]}" --data "$lead"
call empty "$secret" "ProspectActivity.svc/Retrieve?leadId=$id" --request POST
call 'wrong keys' wrong "LeadManagement.svc/Leads.GetById?id=$id"
call refused "$secret" "LeadManagement.svc/Leads.GetById?id=$id"
