<?php
// PHP with curl, as many integrations use it: keys in the query as they are, CUSTOMREQUEST with empty POSTFIELDS for a GET, any encoding.
[, $base, $access, $secret] = $argv;
const LEAD = '[{"Attribute":"FirstName","Value":"José 🙂"},{"Attribute":"EmailAddress","Value":"jose@example.com"}]';

function call($step, $method, $path, $key = null, $body = '')
{
    global $base, $access, $secret;
    $after = '';
    $curl = curl_init();
    curl_setopt_array($curl, [
        CURLOPT_URL => $base . '/' . $path . '&accessKey=' . $access . '&secretKey=' . ($key ?? $secret),
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_ENCODING => '',
        CURLOPT_TIMEOUT => 60,
        CURLOPT_HTTP_VERSION => CURL_HTTP_VERSION_1_1,
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_POSTFIELDS => $body,
        // With a body, curl then waits for "100 Continue".
        CURLOPT_HTTPHEADER => array_merge(['Content-Type: application/json', 'cache-control: no-cache'], $body ? ['Expect: 100-continue'] : []),
        CURLOPT_HEADERFUNCTION => function ($curl, $line) use (&$after) {
            if (preg_match('/^retry-after: (.*)\r\n$/i', $line, $found)) {
                $after = $found[1];
            }
            return strlen($line);
        },
    ]);
    $content = curl_exec($curl);
    if ($content === false) {
        fwrite(STDERR, curl_error($curl));
        exit(1);
    }
    $status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
    $type = curl_getinfo($curl, CURLINFO_CONTENT_TYPE);
    echo implode("\t", [$step, $status, $type, $after, base64_encode($content)]), "\n";
    return $content;
}

$created = json_decode(call('create', 'POST', 'LeadManagement.svc/Lead.Create?', null, LEAD));
$id = $created->Message->Id;
call('read', 'GET', "LeadManagement.svc/Leads.GetById?id=$id");
call('update', 'POST', "LeadManagement.svc/Lead.Update?leadId=$id", null, '[{"Attribute":"LastName","Value":"O\'Neil"}]');
$search = '{"Parameter":{"LookupName":"FirstName","LookupValue":"José 🙂","SqlOperator":"="},"Paging":{"PageIndex":1,"PageSize":10}}';
call('list', 'POST', 'LeadManagement.svc/Leads.Get?', null, $search);
call('duplicate', 'POST', 'LeadManagement.svc/Lead.Create?', null, LEAD);
call('empty', 'POST', "ProspectActivity.svc/Retrieve?leadId=$id");
call('wrong keys', 'GET', "LeadManagement.svc/Leads.GetById?id=$id", 'wrong');
call('refused', 'GET', "LeadManagement.svc/Leads.GetById?id=$id");
