#!/usr/bin/env python3
"""The same requests to two equal accounts, to one directly and to the other through leadgate: the responses are the same bytes."""

import json
import unittest

from world import ACCESS_KEY, SECRET, SECRET_KEY, Listener, StoppedSimulator, access_key, keys, send

JSON = [("Content-Type", "application/json")]
LEADS = "/v2/LeadManagement.svc/"
ACTIVITIES = "/v2/ProspectActivity.svc/"
USERS = "/v2/UserManagement.svc/"
SHARING = "/v2/EntityAccess.svc/"
SAM = "a0000000-0000-4000-8000-000000000002"


def attributes(**values):
    """Returns a lead as attributes and values."""
    return [{"Attribute": name, "Value": value} for name, value in values.items()]


class Twins(unittest.TestCase):
    """Two simulators with the same state, one of them behind a gateway."""

    # The callers of the gateway, and further settings.
    callers = {"legacy": ""}
    more = ""

    @classmethod
    def setUpClass(cls):
        cls.direct = StoppedSimulator()
        cls.addClassCleanup(cls.direct.close)
        cls.behind = StoppedSimulator()
        cls.addClassCleanup(cls.behind.close)
        more = cls.more.replace("UPSTREAM", cls.behind.url)
        cls.gateway = Listener(cls.behind, callers=cls.callers, more=more)
        cls.addClassCleanup(cls.gateway.close)

    def setUp(self):
        for simulator in (self.direct, self.behind):
            simulator.reset()

    def patch(self, **options):
        """Changes options of both simulators."""
        for simulator in (self.direct, self.behind):
            simulator.control("PATCH", "options", options)

    def inject(self, **fault):
        """Injects a fault into both simulators."""
        for simulator in (self.direct, self.behind):
            simulator.inject(**fault)

    def both(self, method, target, body=None, headers=JSON, caller="legacy", direct_target=None, own=None):
        """Sends a request to both sides, and returns both responses. `own` is the reason if the second is one of leadgate."""
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body, ensure_ascii=False).encode()
        # The host is in one response.
        direct = send(
            self.direct.address,
            method,
            direct_target or target,
            [*keys(ACCESS_KEY, SECRET_KEY), *headers],
            body,
            host=self.behind.address,
        )
        through = self.gateway.call(method, target, body, headers, caller)
        self.assertEqual(through.header("x-leadgate-reason"), own, f"{target}: {through}")
        return direct, through

    def same(self, method, target, body=None, headers=JSON, **more):
        """Checks that both sides respond with the same, and returns the response."""
        direct, through = self.both(method, target, body, headers, **more)
        self.assertEqual(direct.same(), through.same(), f"{method} {target} {body}")
        return direct

    def result(self, *arguments, **more):
        """The same for a call that succeeds. Returns the decoded body."""
        response = self.same(*arguments, **more)
        self.assertEqual(response.status, 200, response)
        return json.loads(response.body)


class Endpoints(Twins):
    """Every endpoint of the simulator."""

    def call_every_endpoint(self):
        """Calls every endpoint successfully, and compares."""
        self.patch(delete_enabled=True)
        created = self.result("POST", LEADS + "Lead.Create", attributes(FirstName="José", Phone="+91-9845098450", mx_City="पुणे"))
        lead = created["Message"]["Id"]
        upsert = attributes(EmailAddress="ann@example.com", FirstName="Ann", SearchBy="EmailAddress")
        other = self.result("POST", LEADS + "Lead.CreateOrUpdate", upsert)["Message"]["Id"]
        self.result(
            "POST",
            LEADS + "Lead.Capture?LeadUpdateBehavior=UpdateOnlyEmptyFields",
            attributes(EmailAddress="ann@example.com", LastName="Z"),
        )
        self.result("POST", f"{LEADS}Lead.Update?leadId={lead}&postUpdatedLead=true", attributes(LastName='O\'Neil "x" <b> 🙂'))
        rows = self.result("POST", LEADS + "Lead/Bulk/Create", [attributes(FirstName="B1"), attributes(EmailAddress="ann@example.com")])
        third = rows[0]["LeadId"]
        self.result("POST", LEADS + "Lead/Bulk/CreateOrUpdate", [attributes(EmailAddress="c@example.com"), attributes(mx_None="x")])
        self.result("POST", LEADS + "Lead/Bulk/Update", {"LeadIds": [lead, "x"], "LeadFields": {"Attribute": "mx_City", "Value": "Pune"}})
        update = {"Fields": [{"Attribute": "ProspectId", "Value": other}, {"Attribute": "mx_City", "Value": "Delhi"}]}
        unknown = {"Fields": [{"Attribute": "ProspectId", "Value": "x"}, {"Attribute": "mx_City", "Value": "Delhi"}]}
        body = {"SearchByKey": "ProspectId", "LeadPropertiesList": [update, unknown]}
        self.result("POST", LEADS + "Lead/Bulk/UpdateV2", body)
        self.assertIn("José".encode(), self.same("GET", f"{LEADS}Leads.GetById?id={lead}").body)
        self.result("GET", LEADS + "Leads.GetByEmailaddress?emailaddress=ann%40example.com")
        self.result("GET", LEADS + "RetrieveLeadByPhoneNumber?phone=%2B919845098450")
        self.result("GET", LEADS + "Leads.GetByQuickSearch?key=Jos%C3%A9")
        columns = {"Include_CSV": "ProspectID,FirstName,CreatedOn"}
        self.result("POST", LEADS + "Leads/Retrieve/ByIds", {"SearchParameters": {"LeadIds": [other, lead]}, "Columns": columns})
        search = {"Parameter": {"LookupName": "FirstName", "LookupValue": "Ann", "SqlOperator": "="}, "Columns": columns}
        self.result("POST", LEADS + "Leads.Get", search)
        span = {"FromDate": "2026-01-31 00:00:00", "ToDate": "2026-02-01 00:00:00"}
        self.result("POST", LEADS + "Leads.RecentlyModified", {"Parameter": span, "Columns": columns})
        self.result("GET", LEADS + "LeadsMetaData.Get")
        self.result("POST", f"{LEADS}Lead.Merge?masterId={lead}&childId={third}")
        self.result("GET", f"{LEADS}Lead/Delete/ById?leadId={other}")
        self.result("GET", USERS + "Users.Get")
        self.result("GET", f"{USERS}User/Retrieve/ByUserId?userId={SAM}")
        self.same("GET", USERS + "User/Retrieve/ByEmailAddress?emailAddress=nobody%40example.com")
        self.result("GET", "/v2/Authentication.svc/UserByAccessKey.Get")
        condition = {"LookupName": "StatusCode", "Operator": "eq", "LookupValue": "0", "ConditionOperator": None}
        groups = [{"Condition": [condition], "GroupOperator": None}]
        self.same("POST", USERS + "User/AdvancedSearch", {"Columns": {"Include_CSV": "UserId"}, "GroupConditions": groups})
        activity = {"RelatedProspectId": lead, "ActivityEvent": 201, "Fields": [{"SchemaName": "Owner", "Value": SAM}]}
        activity_id = self.result("POST", ACTIVITIES + "Create", activity)["Message"]["Id"]
        self.result("POST", ACTIVITIES + "Bulk/CustomActivity/Add/ByLeadId", [activity, {"RelatedProspectId": "x", "ActivityEvent": 201}])
        changed = {"ProspectActivityId": activity_id, "ActivityEvent": 201, "ActivityNote": "Grüße"}
        self.result("POST", ACTIVITIES + "CustomActivity/Update", changed)
        # Without a body.
        self.result("POST", f"{ACTIVITIES}Retrieve?leadId={lead}", headers=[])
        self.result("GET", f"{ACTIVITIES}GetActivityDetails?activityId={activity_id}")
        self.result("POST", ACTIVITIES + "CustomActivity/RetrieveByActivityEvent", {"Parameter": {**span, "ActivityEvent": 201}})
        self.result("POST", ACTIVITIES + "RetrieveRecentlyModified", {"Parameter": span})
        self.result("GET", ACTIVITIES + "ActivityTypes.Get")
        self.same("GET", ACTIVITIES + "CustomActivity/GetActivitySetting?code=201")
        item = {
            "UserId": SAM,
            "Entity": 1,
            "EntityType": 3,
            "EntityId": "1",
            "ContextEntity": 1,
            "ContextEntityId": activity_id,
            "AccessType": 2,
        }
        self.same("POST", SHARING + "Share", [{**item, "EntityId": "none"}])
        number = json.loads(self.same("GET", f"{LEADS}Leads.GetById?id={lead}").body)[0]["ProspectAutoId"]
        shared = self.result("POST", SHARING + "Share", [{**item, "EntityId": number}])["Message"]["Id"]
        for _ in range(2):
            self.result("GET", f"{SHARING}Status/Get?id={shared}")
        revoked = self.same("POST", SHARING + "Revoke", [{**item, "EntityId": number}])
        self.assertEqual(revoked.status, 200)

    def test_every_endpoint_responds_with_the_same_bytes(self):
        self.call_every_endpoint()
        # The simulator has counted them: an endpoint that is missing above is a failure.
        called = set(self.direct.control("GET", "stats")["endpoints"])
        self.assertEqual(self.direct.endpoints() - called, set())
        self.assertGreater(len(called), 30)
        for state in ("leads", "activities", "shares", "share-requests"):
            self.assertEqual(self.direct.control("GET", state), self.behind.control("GET", state), state)

    def test_every_endpoint_has_the_same_errors(self):
        self.call_every_endpoint()
        endpoints = self.direct.endpoints()
        paths = {call["path"] for call in self.direct.control("GET", "calls") if call["endpoint"] in endpoints}
        self.assertEqual(len(paths), len(endpoints))
        for path in sorted(paths):
            for method in ("GET", "POST", "PUT", "DELETE"):
                self.same(method, path, body=None, headers=[])
            for body in (b"", b"{", b"[]", b"{}", b"null", b"[1]", b"\xff\xfe", b'\xef\xbb\xbf{"a": 1}', b"a=1&b=2"):
                self.same("POST", path, body)
        self.assertEqual(self.direct.control("GET", "leads"), self.behind.control("GET", "leads"))

    def test_errors_are_responses(self):
        created = attributes(FirstName="Ann", EmailAddress="ann@example.com")
        self.result("POST", LEADS + "Lead.Create", created)
        for method, target, body, status in [
            ("POST", LEADS + "Lead.Create", created, 500),
            ("POST", LEADS + "Lead.Capture", attributes(ProspectID="x", SearchBy="nothing"), 200),
            ("POST", LEADS + "Lead.Create", attributes(mx_None="x"), 500),
            ("POST", LEADS + "Lead.Update?leadId=unknown", attributes(FirstName="x"), 500),
            ("POST", LEADS + "Lead.Update", attributes(FirstName="x"), 500),
            ("POST", LEADS + "Lead.Update?leadId=", attributes(FirstName="x"), 500),
            ("POST", LEADS + "Lead.Create", b'[{"Attribute":"FirstName","Value":"x",}]', 400),
            ("GET", LEADS + "Leads.GetById?id=unknown", None, 200),
            ("GET", LEADS + "Leads.GetById", None, 500),
            ("GET", LEADS + "Lead.Destroy", None, 404),
            ("GET", "/v2/None.svc/Nothing", None, 404),
            ("POST", "/v2/Telephony.svc/LogCall", {"SourceNumber": "1"}, 404),
            ("GET", "/v2/Leads/NotContacted/7", None, 404),
            ("GET", LEADS + "Lead.Create", None, 405),
            ("POST", LEADS + "Leads.GetById?id=x", {}, 405),
        ]:
            response = self.same(method, target, body)
            self.assertEqual(response.status, status, f"{method} {target}: {response}")
        self.patch(bad_body_in_envelope=False, logical_error_status=200, capture_error_status=500, duplicate_message="database")
        for target in ("Lead.Create", "Lead.CreateOrUpdate", "Lead.Capture"):
            self.same("POST", LEADS + target, created)
            self.same("POST", LEADS + target, b"nonsense")

    def test_content_types_of_requests_are_sent_as_they_are(self):
        lead = json.dumps(attributes(FirstName="Ann")).encode()
        for headers in (
            JSON,
            [("Content-Type", "application/json; charset=utf-8")],
            [("content-type", "APPLICATION/JSON")],
            [("Content-Type", "text/plain")],
            [("Content-Type", "application/x-www-form-urlencoded")],
            [*JSON, ("Accept", "text/plain"), ("Accept-Encoding", "deflate, gzip, br, zstd"), ("Cache-Control", "no-cache")],
            [*JSON, ("Authorization", "Bearer x"), ("Cookie", "a=b"), ("X-Forwarded-For", "1.2.3.4"), ("Referer", "http://a.example")],
        ):
            self.same("POST", LEADS + "Lead.Create", lead, headers)
        # A body without a type is JSON.
        direct = self.same("POST", LEADS + "Lead.Create", b"", [])
        self.assertEqual(direct.status, 400)
        self.assertEqual(self.gateway.call("POST", LEADS + "Lead.Create", lead).status, 200)

    def test_faults_of_leadsquared_are_responses(self):
        get = LEADS + "Leads.GetByQuickSearch?key=Ann"
        create = json.dumps(attributes(FirstName="Ann")).encode()
        self.same("POST", LEADS + "Lead.Create", create)
        record = [{"break-record": {"at": 0, "how": how}} for how in ("raw-newline", "invalid-utf8", "raw-quote", "lone-surrogate", "cut")]
        answer = {"status": 200, "body": '\ufeff[{"FirstName": "José"}]', "content_type": "application/json; charset=utf-8"}
        text = "API calls exceeded the limit of 25 in 5 second(s)"
        for what in [
            "html502",
            "empty500",
            "empty503",
            "garbage-json",
            {"retry-after": {"status": 503, "value": "1"}},
            *record,
            {"answer": answer},
            # Only JSON of a certain form is a refusal.
            {"answer": {"status": 403, "body": text, "content_type": "text/plain"}},
            {"answer": {"status": 200, "body": f'[{{"Notes": "{text}"}}]'}},
            {"answer": {"status": 200, "body": "", "content_type": "application/json"}},
            {"answer": {"status": 201, "body": "x" * 300_000, "content_type": "text/csv"}},
            {"answer": {"status": 204, "body": "", "content_type": "text/plain"}},
            {"answer": {"status": 400, "body": "\u0000\u0001", "content_type": "application/octet-stream"}},
            {"answer": {"status": 599, "body": "<html>", "content_type": "text/html"}},
        ]:
            self.inject(on="*", what=what, times=2)
            self.same("GET", get)
            self.same("POST", LEADS + "Lead.Create", create)
        self.assertEqual(self.behind.control("GET", "stats")["faults"], self.direct.control("GET", "stats")["faults"])

    def test_every_spelling_of_a_path_and_of_keys_is_the_same_request(self):
        lead = self.result("POST", LEADS + "Lead.Create", attributes(FirstName="Ann"))["Message"]["Id"]
        canonical = f"{LEADS}Leads.GetById?id={lead}"
        for path in (
            "/LeadManagement.svc/Leads.GetById",
            "//v2/LeadManagement.svc/Leads.GetById",
            "/v2//LeadManagement.svc/Leads.GetById",
            "/v2/LeadManagement.svc//Leads.GetById",
            "//LeadManagement.svc///Leads.GetById",
        ):
            self.assertEqual(self.same("GET", f"{path}?id={lead}", direct_target=canonical).status, 200)
        # The case and a slash at the end are those of the client.
        for path in (
            "/v2/leadmanagement.svc/leads.getbyid",
            "/v2/LeadManagement.svc/Leads.GetById/",
            "/V2/LeadManagement.svc/Leads.GetById",
        ):
            self.assertEqual(self.same("GET", f"{path}?id={lead}").status, 404)
        real = ACCESS_KEY.replace("$", "%24")
        direct = send(self.direct.address, "GET", f"{canonical}&accessKey={real}&secretKey={SECRET_KEY}")
        for query in (
            "accessKey={access}&secretKey={secret}&id={id}",
            "id={id}&accesskey={access}&SECRETKEY={secret}",
            "accessKey={access}&id={id}&secretKey={secret}",
            "access%4bey={access}&secret%4Bey={secret}&id={id}",
            "accessKey=wrong&secretKey=wrong&accessKey={access}&secretKey={secret}&id={id}",
        ):
            query = query.format(access=access_key("legacy"), secret=SECRET, id=lead)
            through = send(self.gateway.rest, "GET", f"{LEADS}Leads.GetById?{query}")
            self.assertEqual(direct.same(), through.same(), query)


class Refusals(Twins):
    """The dialects in which LeadSquared refuses calls. Each test has an account of its own, because leadgate learns from refusals."""

    statuses = (429, 403, 200)
    settings = {f"d{status}": f'rest_max_wait = "0s"\nrest_refusal_status = {status}' for status in statuses}
    settings |= {"daily": 'rest_max_wait = "0s"', "keys": "", "once": "", "telephony": ""}
    callers = {"legacy": "", **{name: f'tenants = ["{name}"]\n{more}\n' for name, more in settings.items()}}
    more = "".join(
        f'[tenants.{name}]\nbase_url = "UPSTREAM"\naccess_key = "{ACCESS_KEY}"\nsecret_key = "{SECRET_KEY}"\n' for name in settings
    )
    target = LEADS + "Leads.GetByQuickSearch?key=x"

    def test_a_refusal_has_the_bytes_of_leadsquared_in_each_dialect(self):
        for status in self.statuses:
            with self.subTest(status):
                self.patch(limits={"refusal": str(status), "retry_after": True, "calls": 25})
                self.inject(on="Leads.GetByQuickSearch", what="refuse", times=1000)
                direct, through = self.both("GET", self.target, caller=f"d{status}", own="DEADLINE_INFEASIBLE")
                self.assertEqual(direct.same(), through.same())
                self.assertEqual(through.status, status)
                self.assertIn(int(through.header("retry-after")), range(1, 61))

    def test_email_and_telephony_are_not_sent_again(self):
        self.patch(limits={"calls": 1, "per": "1h", "count_unknown_paths": True})
        responses = [self.both("POST", "/v2/Telephony.svc/LogCall", {"SourceNumber": "1"}, caller="telephony") for _ in range(2)]
        self.assertEqual([direct.same() for direct, _ in responses], [through.same() for _, through in responses])
        self.assertEqual([direct.status for direct, _ in responses], [404, 429])
        calls = [call for call in self.behind.control("GET", "calls") if call["path"] == "/v2/Telephony.svc/LogCall"]
        self.assertEqual(len(calls), 2)

    def test_the_refusal_of_the_day_is_one_of_leadgate(self):
        # LeadSquared's own text is not documented.
        self.inject(on="Leads.GetByQuickSearch", what="refuse-daily", times=1000)
        direct, through = self.both("GET", self.target, caller="daily", own="DAILY_BUDGET_EXHAUSTED")
        self.assertEqual(direct.same()[:-1], through.same()[:-1])
        error = json.loads(through.body)
        self.assertEqual(error["ExceptionType"], json.loads(direct.body)["ExceptionType"])
        self.assertRegex(error["ExceptionMessage"], r"^API calls exceeded the limit of \d+ in 86400 second\(s\)$")

    def test_what_leadsquared_says_about_the_keys_is_passed_on(self):
        self.inject(on="Leads.GetByQuickSearch", what="unauthorized", times=1000)
        self.assertEqual(self.same("GET", self.target, caller="keys").status, 401)

    def test_a_client_does_not_see_a_refusal_that_ends_in_time(self):
        self.behind.inject(on="Leads.GetByQuickSearch", what="refuse")
        self.patch(limits={"per": "100ms", "calls": 10000})
        self.result("GET", self.target, caller="once")
        calls = [call for call in self.behind.control("GET", "calls") if "QuickSearch" in call["path"]]
        self.assertEqual([call["status"] for call in calls], [429, 200])


if __name__ == "__main__":
    unittest.main()
