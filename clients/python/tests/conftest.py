import pytest
from fake import Aio, Fake, Sync


@pytest.fixture
def fake():
    server = Fake()
    yield server
    server.stop()


@pytest.fixture(params=[Sync(), Aio()], ids=lambda client: client.name)
def client(request):
    return request.param
