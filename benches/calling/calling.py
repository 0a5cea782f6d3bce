#!/usr/bin/env python3
"""calling.py [--write FOLDER]

What the deadline and the retries of a caller cost, when it sends more calls at once than the quota allows. Prints a table; with --write it writes
FOLDER/calling.md from calling.md beside this file. `make bench-calling` runs it. LEADGATE_BIN names the binary.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "clients/python/src"))

import grpc  # noqa: E402
from google.rpc import error_details_pb2, status_pb2  # noqa: E402
from leadgate.v1 import lead_pb2, lead_pb2_grpc  # noqa: E402

# The simulated account allows 25 calls in 5 s, and creates are not merged: the calls need at least 35 s.
CALLS = 200
# After this time a caller gives up.
PATIENCE = 180
RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "5s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED"],
}


class Result:
    def __init__(self):
        self.rejected = 0
        self.failed = 0
        self.created = 0


def retry_info(error):
    """The time in RetryInfo, in seconds."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.RetryInfo()
                if detail.Unpack(info):
                    return info.retry_delay.ToTimedelta().total_seconds()
    return None


async def create(stub, number, deadline, pause, result):
    """Creates a lead. `pause` returns how long to wait after an error of an attempt, or None to give up."""
    request = lead_pb2.CreateLeadRequest(request_id=str(uuid.uuid4()))
    request.lead.first_name = f"Lead {number}"
    started = time.monotonic()
    for attempt in range(10_000):
        try:
            await stub.CreateLead(request, timeout=deadline)
            result.created += 1
            return
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
                result.rejected += 1
            wait = pause(error, attempt)
        if wait is None or time.monotonic() - started + wait > PATIENCE:
            break
        await asyncio.sleep(wait)
    result.failed += 1


def never(error, attempt):
    return None


def backoff(error, attempt):
    return min(0.1 * 2**attempt, 5) * random.uniform(0.8, 1.2)


def as_retry_info(error, attempt):
    return 0 if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED else retry_info(error)


STRATEGIES = [
    ("60 s", "none", 60, never, None),
    ("60 s", "`retryPolicy` of gRPC with `RESOURCE_EXHAUSTED`", 60, never, RETRY_POLICY),
    ("5 s", "after the time in `RetryInfo`", 5, as_retry_info, None),
    ("5 s", "after 0.1 s, then twice as long each time, at most 5 s", 5, backoff, None),
    ("5 s", "`retryPolicy` of gRPC with `RESOURCE_EXHAUSTED`", 5, never, RETRY_POLICY),
]


async def measure(address, deadline, pause, policy):
    options = [("grpc.enable_retries", 1 if policy else 0)]
    if policy:
        config = {"methodConfig": [{"name": [{"service": "leadgate.v1.LeadService"}], "retryPolicy": policy}]}
        options.append(("grpc.service_config", json.dumps(config)))
    result = Result()
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = lead_pb2_grpc.LeadServiceStub(channel)
        started = time.monotonic()
        await asyncio.gather(*(create(stub, number, deadline, pause, result) for number in range(CALLS)))
        return result, time.monotonic() - started


def with_gateway(deadline, pause, policy):
    binary = os.environ.get("LEADGATE_BIN", "target/dist/leadgate")
    demo = subprocess.Popen([binary, "demo", "--quiet"], stdout=subprocess.PIPE, text=True)
    try:
        address = json.loads(demo.stdout.readline())["address"]
        return asyncio.run(measure(address, deadline, pause, policy))
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.wait()


def machine():
    models = [line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    return f"{models[0] if models else 'unknown processor'}, {os.cpu_count()} cores"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", metavar="FOLDER", type=Path)
    folder = parser.parse_args().write
    rows = ["| deadline | retries of the caller | created | not created | rejected attempts | time |", "|---|---|---|---|---|---|"]
    for name, retries, deadline, pause, policy in STRATEGIES:
        result, took = with_gateway(deadline, pause, policy)
        rows.append(f"| {name} | {retries} | {result.created} | {result.failed} | {result.rejected} | {took:.0f} s |")
        print(rows[-1], flush=True)
    table = "\n".join(rows)
    print(table)
    if folder:
        text = (HERE / "calling.md").read_text().replace("{table}", table).replace("{machine}", machine())
        (folder / "calling.md").write_text(text)


if __name__ == "__main__":
    main()
