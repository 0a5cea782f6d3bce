// Go with net/http: keys in the query, one connection, and a body without a known length, which is sent in chunks.
package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
)

const lead = `[{"Attribute":"FirstName","Value":"José 🙂"},{"Attribute":"EmailAddress","Value":"jose@example.com"}]`

var base, access, secret = os.Args[1], os.Args[2], os.Args[3]

func call(step, method, path, key string, query url.Values, body io.Reader) string {
	query.Set("accessKey", access)
	query.Set("secretKey", key)
	request, err := http.NewRequest(method, base+"/"+path+"?"+query.Encode(), body)
	if err != nil {
		panic(err)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		panic(err)
	}
	header := response.Header.Get
	encoded := base64.StdEncoding.EncodeToString(content)
	fmt.Printf("%s\t%d\t%s\t%s\t%s\n", step, response.StatusCode, header("Content-Type"), header("Retry-After"), encoded)
	return string(content)
}

func main() {
	created := call("create", "POST", "LeadManagement.svc/Lead.Create", secret, url.Values{}, strings.NewReader(lead))
	id := regexp.MustCompile(`"Id":"([^"]+)"`).FindStringSubmatch(created)[1]
	byID := func() url.Values { return url.Values{"id": {id}} }
	byLead := func() url.Values { return url.Values{"leadId": {id}} }
	call("read", "GET", "LeadManagement.svc/Leads.GetById", secret, byID(), nil)
	chunked := io.MultiReader(strings.NewReader(`[{"Attribute":"LastName",`), strings.NewReader(`"Value":"O'Neil"}]`))
	call("update", "POST", "LeadManagement.svc/Lead.Update", secret, byLead(), chunked)
	search := `{"Parameter":{"LookupName":"FirstName","LookupValue":"José 🙂","SqlOperator":"="},"Paging":{"PageIndex":1,"PageSize":10}}`
	call("list", "POST", "LeadManagement.svc/Leads.Get", secret, url.Values{}, strings.NewReader(search))
	call("duplicate", "POST", "LeadManagement.svc/Lead.Create", secret, url.Values{}, strings.NewReader(lead))
	call("empty", "POST", "ProspectActivity.svc/Retrieve", secret, byLead(), nil)
	call("wrong keys", "GET", "LeadManagement.svc/Leads.GetById", "wrong", byID(), nil)
	call("refused", "GET", "LeadManagement.svc/Leads.GetById", secret, byID(), nil)
}
