"""Addresses, TLS and credentials, with the demo of leadgate and with plain sockets."""

import socket
import threading
import time

import grpc
import pytest

import leadgate
from leadgate.v1 import CreateLeadRequest, DescribeLeadFieldsRequest, GetQuotaRequest, LeadFields

QUOTA = GetQuotaRequest()


def get_quota(client, demo, **options):
    return client.call(demo.address, "quota", "get_quota", QUOTA, options=options, timeout=10)


def refused(client, demo, **options):
    with pytest.raises(leadgate.Error) as caught:
        get_quota(client, demo, **options)
    return caught.value


def test_tls_and_a_token(client, leadgate_secure_demo):
    demo = leadgate_secure_demo
    assert get_quota(client, demo, ca=demo.ca_file, token=demo.token).HasField("quota")
    assert get_quota(client, demo, ca=demo.ca_file, token=lambda: demo.token, tenant="demo").HasField("quota")
    error = refused(client, demo, ca=demo.ca_file, token="wrong")
    assert error.reason == leadgate.ErrorReason.CALLER_UNKNOWN
    error = refused(client, demo, ca=demo.ca_file, token=demo.token, tenant="other")
    assert error.reason == leadgate.ErrorReason.CALLER_NOT_ALLOWED


def test_a_client_certificate(client, leadgate_secure_demo):
    demo = leadgate_secure_demo
    with open(demo.cert_file, "rb") as cert, open(demo.ca_file, "rb") as ca:
        options = {"ca": ca.read(), "cert": cert.read(), "key": demo.key_file}
    assert get_quota(client, demo, **options).HasField("quota")


def test_the_authorities_of_the_system(client, leadgate_secure_demo, monkeypatch):
    demo = leadgate_secure_demo
    monkeypatch.setenv("SSL_CERT_FILE", demo.ca_file)
    assert get_quota(client, demo, token=demo.token).HasField("quota")


@pytest.mark.parametrize(("wrong", "advice"), [("ca", "`ca`"), ("name", "host of"), ("plaintext", "`insecure=True`")])
def test_a_connection_without_valid_tls_fails_at_once(client, leadgate_secure_demo, leadgate_demo, wrong, advice):
    options = {
        "ca": {"ca": None},
        "name": {"options": (("grpc.ssl_target_name_override", "other.example"),)},
        "plaintext": {},
    }
    address = leadgate_demo.address if wrong == "plaintext" else leadgate_secure_demo.address
    options = {**leadgate_secure_demo.options(), **options[wrong]}
    started = time.monotonic()
    with pytest.raises(leadgate.Error, match=advice) as caught:
        client.call(address, "leads", "create_lead", CreateLeadRequest(), options=options, timeout=20)
    assert time.monotonic() - started < 5
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.request_id


def test_pem_is_a_path_or_the_content(leadgate_secure_demo, tmp_path):
    demo = leadgate_secure_demo
    with open(demo.ca_file, encoding="utf-8") as file:
        text = file.read()
    with leadgate.Client(demo.address, ca=text, token=demo.token) as client:
        assert client.quota.get_quota(QUOTA).HasField("quota")
    for wrong in (demo.ca_file.encode(), demo.key_file, b""):
        with pytest.raises(ValueError, match="ca must be PEM with a CERTIFICATE, or the path"):
            leadgate.Client(demo.address, ca=wrong)
    with pytest.raises(FileNotFoundError):
        leadgate.Client(demo.address, ca=tmp_path / "absent")


@pytest.mark.parametrize("address", ["", "https://leadgate.internal:443", "host/path", "user@host:1", " 127.0.0.1:1"])
def test_a_wrong_address_is_an_error(address):
    with pytest.raises(ValueError, match="address must be"):
        leadgate.Client(address)


def test_a_token_that_cannot_be_sent_is_an_error_that_does_not_show_it(client, fake):
    for token in ("first\nsecond", "\u00e9"):
        with pytest.raises(ValueError, match="authorization must be printable ASCII") as caught:
            client.call(fake.address, "quota", "get_quota", QUOTA, {"insecure": True, "token": lambda: token})  # noqa: B023
        assert token not in str(caught.value)
    with pytest.raises(ValueError, match="x-leadgate-tenant must be printable"):
        client.call(fake.address, "quota", "get_quota", QUOTA, tenant="\u00e9")
    client.call(fake.address, "quota", "get_quota", QUOTA, metadata=[("X-Request-Id", "1")])
    assert [attempt.metadata["x-request-id"] for attempt in fake.received] == ["1"]


def test_a_token_file_that_changes(leadgate_secure_demo, tmp_path):
    demo = leadgate_secure_demo
    file = tmp_path / "token"
    file.write_text("wrong\n", encoding="utf-8")
    with leadgate.Client(demo.address, ca=demo.ca_file, token_file=file) as client:
        with pytest.raises(leadgate.Error) as caught:
            client.quota.get_quota(QUOTA)
        assert caught.value.reason == leadgate.ErrorReason.CALLER_UNKNOWN
        file.write_text(f"{demo.token}\n", encoding="utf-8")
        assert client.quota.get_quota(QUOTA).HasField("quota")
        # While the file is being replaced, the last token counts.
        file.write_text("", encoding="utf-8")
        assert client.quota.get_quota(QUOTA).HasField("quota")
        file.unlink()
        assert client.quota.get_quota(QUOTA).HasField("quota")
        # A stub has the same credentials with the metadata of the client.
        assert client.quota.stub.GetQuota(QUOTA, metadata=client.metadata()).HasField("quota")
    with pytest.raises(FileNotFoundError):
        leadgate.Client(demo.address, ca=demo.ca_file, token_file=file)
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(ValueError, match="token_file is empty"):
        leadgate.Client(demo.address, ca=demo.ca_file, token_file=file)


class Listener:
    """A socket that keeps what clients send."""

    def __init__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.received = b""
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._read, args=(connection,), daemon=True).start()

    def _read(self, connection):
        # The preface of a server: empty SETTINGS. Without it, a client of plaintext would send nothing.
        connection.sendall(b"\0\0\0\4\0\0\0\0\0")
        while data := connection.recv(65536):
            self.received += data

    def close(self):
        self._socket.close()


@pytest.fixture
def listener():
    listener = Listener()
    yield listener
    listener.close()


@pytest.mark.parametrize("insecure", [False, True])
def test_a_token_is_sent_over_plaintext_only_if_asked_for(client, listener, insecure):
    options = {"token": "lg_secret-of-this-test", "insecure": insecure}
    with pytest.raises(leadgate.Error):
        client.call(listener.address, "quota", "get_quota", QUOTA, options=options, timeout=1)
    assert listener.connections > 0
    assert (b"lg_secret-of-this-test" in listener.received) is insecure


@pytest.mark.parametrize(
    "options",
    [
        {"insecure": True, "ca": b"pem"},
        {"token": "a", "token_file": "b"},
        {"cert": b"pem"},
        {"key": b"pem"},
    ],
)
def test_contradictions_are_errors(options):
    with pytest.raises(ValueError, match=r"insecure is set|both set|need each other"):
        leadgate.Client("127.0.0.1:1", **options)


def test_interceptors_and_the_channel_are_reachable(leadgate_demo):
    seen = []

    class Interceptor(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation, details, request):
            seen.append(details.method)
            return continuation(details, request)

    with leadgate_demo.client(interceptors=[Interceptor()]) as client:
        client.leads.describe_lead_fields(DescribeLeadFieldsRequest())
        check = client.channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=10) == b"\x08\x01"
    assert seen == ["/leadgate.v1.LeadService/DescribeLeadFields", "/grpc.health.v1.Health/Check"]


def test_a_duplicate_names_the_other_lead(client, leadgate_secure_demo):
    demo = leadgate_secure_demo
    email = f"{client.name}@connect.example"
    request = CreateLeadRequest(lead=LeadFields(email_address=email))
    created = client.call(demo.address, "leads", "create_lead", request, options=demo.options())
    with pytest.raises(leadgate.Error) as caught:
        client.call(demo.address, "leads", "create_lead", request, options=demo.options())
    assert caught.value.reason == leadgate.ErrorReason.LEAD_DUPLICATE
    assert caught.value.resource.name == created.lead_id
    assert caught.value.resource.description == "lead.email_address"
