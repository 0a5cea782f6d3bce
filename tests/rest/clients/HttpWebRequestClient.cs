// .NET with HttpWebRequest, as PowerShell 5.1 uses it: Expect: 100-continue with each body. Keys in headers.
using System;
using System.IO;
using System.Net;
using System.Text;
using System.Text.RegularExpressions;

static class HttpWebRequestClient
{
    const string Lead = "[{\"Attribute\":\"FirstName\",\"Value\":\"José 🙂\"},{\"Attribute\":\"EmailAddress\",\"Value\":\"jose@example.com\"}]";
    const string Search = "{\"Parameter\":{\"LookupName\":\"FirstName\",\"LookupValue\":\"José 🙂\",\"SqlOperator\":\"=\"},\"Paging\":{\"PageIndex\":1,\"PageSize\":10}}";
    static string address, access, secret;

    static string Call(string step, string method, string path, string key, string body)
    {
        var request = (HttpWebRequest)WebRequest.Create(address + "/" + path);
        request.Method = method;
        request.Headers.Add("x-LSQ-AccessKey", access);
        request.Headers.Add("x-LSQ-SecretKey", key);
        if (body != null)
        {
            request.ContentType = "application/json";
            var bytes = Encoding.UTF8.GetBytes(body);
            request.ContentLength = bytes.Length;
            using (var stream = request.GetRequestStream())
                stream.Write(bytes, 0, bytes.Length);
        }
        else if (method == "POST")
        {
            request.ContentLength = 0;
        }
        HttpWebResponse response;
        try
        {
            response = (HttpWebResponse)request.GetResponse();
        }
        catch (WebException error)
        {
            if (error.Response == null)
                throw;
            response = (HttpWebResponse)error.Response;
        }
        using (response)
        using (var content = new MemoryStream())
        {
            response.GetResponseStream().CopyTo(content);
            var fields = new[] { step, ((int)response.StatusCode).ToString(), response.ContentType, response.Headers["Retry-After"] ?? "", Convert.ToBase64String(content.ToArray()) };
            Console.WriteLine(string.Join("\t", fields));
            return Encoding.UTF8.GetString(content.ToArray());
        }
    }

    static void Main(string[] arguments)
    {
        address = arguments[0];
        access = arguments[1];
        secret = arguments[2];
        var created = Call("create", "POST", "LeadManagement.svc/Lead.Create", secret, Lead);
        var id = Regex.Match(created, "\"Id\":\"([^\"]+)\"").Groups[1].Value;
        Call("read", "GET", "LeadManagement.svc/Leads.GetById?id=" + id, secret, null);
        Call("update", "POST", "LeadManagement.svc/Lead.Update?leadId=" + id, secret, "[{\"Attribute\":\"LastName\",\"Value\":\"O'Neil\"}]");
        Call("list", "POST", "LeadManagement.svc/Leads.Get", secret, Search);
        Call("duplicate", "POST", "LeadManagement.svc/Lead.Create", secret, Lead);
        Call("empty", "POST", "ProspectActivity.svc/Retrieve?leadId=" + id, secret, null);
        Call("wrong keys", "GET", "LeadManagement.svc/Leads.GetById?id=" + id, "wrong", null);
        Call("refused", "GET", "LeadManagement.svc/Leads.GetById?id=" + id, secret, null);
    }
}
