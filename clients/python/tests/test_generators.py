"""Other generators and other copies of the contract. Runs with tests/newest.txt only."""

import asyncio
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool

import leadgate
from leadgate.v1 import lead_pb2

ROOT = pathlib.Path(__file__).resolve().parents[3]
PROTOS = sorted(path.relative_to(ROOT / "proto") for path in (ROOT / "proto").rglob("*.proto"))


def protoc(*arguments):
    include = ("-I", ROOT / "proto", "-I", ROOT / "third_party" / "googleapis")
    path = os.pathsep.join((str(pathlib.Path(sys.executable).parent), os.environ["PATH"]))
    command = [sys.executable, "-m", "grpc_tools.protoc", *include, *arguments, *PROTOS]
    subprocess.run(list(map(str, command)), check=True, env={**os.environ, "PATH": path})


def load(name, file):
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_another_copy_of_the_contract_in_the_same_process_is_no_conflict(tmp_path):
    protoc(f"--python_out={tmp_path}")
    copy = load("other_lead_pb2", tmp_path / "leadgate" / "v1" / "lead_pb2.py")
    assert copy.LeadFields(city="Pune").SerializeToString() == lead_pb2.LeadFields(city="Pune").SerializeToString()
    for name in ("google/rpc/status.proto", "google/api/annotations.proto"):
        assert descriptor_pool.Default().FindFileByName(name).name == name


def test_the_package_has_no_files_of_google():
    folder = pathlib.Path(leadgate.__file__).parent
    assert [path for path in folder.rglob("*") if "google" in path.relative_to(folder).parts] == []


def test_betterproto2_generates_a_client(tmp_path, leadgate_demo):
    folder = tmp_path / "betterproto"
    folder.mkdir()
    protoc(f"--python_betterproto2_out={folder}", "--python_betterproto2_opt=client_generation=async")
    sys.path.insert(0, str(tmp_path))
    try:
        import betterproto.leadgate.v1 as generated  # noqa: PLC0415
    finally:
        sys.path.remove(str(tmp_path))
    from grpclib import GRPCError  # noqa: PLC0415
    from grpclib.client import Channel  # noqa: PLC0415

    async def run():
        host, port = leadgate_demo.address.rsplit(":", 1)
        channel = Channel(host, int(port))
        try:
            stub = generated.LeadServiceStub(channel)
            lead = generated.LeadFields(email_address="asha@betterproto.example", city="Pune")
            created = await stub.create_lead(generated.CreateLeadRequest(lead=lead), timeout=20)
            read = await stub.get_lead(generated.GetLeadRequest(lead_id=created.lead_id), timeout=20)
            assert (read.lead.lead_id, read.lead.fields.city) == (created.lead_id, "Pune")
            with pytest.raises(GRPCError):
                await stub.create_lead(generated.CreateLeadRequest(lead=lead), timeout=20)
        finally:
            channel.close()

    asyncio.run(run())
