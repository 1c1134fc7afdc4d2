#!/usr/bin/env python3
"""Hands in what the block devices of this machine are and have done: a collector to start from.

It knows nothing of Sinter's protocol but its name: the messages are asked of the aggregator itself
(server reflection). It takes Python 3.11 or later and `pip install grpcio grpcio-reflection`.

    sinter-aggregator user create filer-1 --role collector --out filer-1
    python3 push_storage.py --contexts filer-1/contexts.toml --array filer --every 60

The aggregator's configuration names the array:

    [[storage]]
    name = "filer"
    kind = "pushed"
"""

import argparse
import pathlib
import sys
import time
import tomllib

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

SERVICE = "sinter.admin.v1.TelemetryIntakeService"
METHOD = "PushStorage"
# The name that stands in the aggregator's certificate, whatever address it is reached by.
SERVER_NAME = "sinter-aggregator"
# Linux counts sectors of this size in /proc/diskstats, whatever the device's own are.
SECTOR = 512


def read(path):
    """A file's text, or None if this kind of device does not have it."""
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return None


def look():
    """All block devices and their running totals, as the JSON form of PushStorageRequest."""
    devices, totals = [], []
    for line in pathlib.Path("/proc/diskstats").read_text().splitlines():
        fields = line.split()
        name, counts = fields[2], [int(field) for field in fields[3:]]
        block = pathlib.Path("/sys/block") / name
        if not block.is_dir():
            continue  # A partition: its device has it all.
        absent = {
            "bandwidth_bits_per_second": "the kernel does not know it",
            "connections": "a block device does not know its clients",
            "addresses": "a block device has none",
            "macs": "a block device has none",
            "status": "the kernel does not tell it",
            "free_bytes": "a block device does not know what of it is used",
            "redundancy": "a block device does not tell it",
        }
        device = {"key": name, "name": name, "routes": [str(block.resolve())], "absent": absent}
        is_disk = read(block / "queue/rotational")
        if is_disk is not None:
            device["type"] = "rotating disk" if is_disk == "1" else "block device"
        else:
            absent["type"] = "the kernel does not tell it"
        sectors = read(block / "size")
        if sectors is not None:
            device["capacityBytes"] = str(int(sectors) * SECTOR)
        state = read(block / "device/state")
        if state is not None:
            device["state"] = state
        else:
            absent["state"] = "the kernel keeps none for it"
        serial = read(block / "serial") or read(block / "wwid") or read(block / "device/wwid")
        if serial:
            device["id"] = serial
        else:
            absent["id"] = "it has no serial"
        devices.append(device)
        totals.append(
            {
                "device": name,
                "reads": str(counts[0]),
                "writes": str(counts[4]),
                "readBytes": str(counts[2] * SECTOR),
                "writtenBytes": str(counts[6] * SECTOR),
            }
        )
    return {"devices": devices, "totals": totals}


def connect(contexts):
    """A channel by the context file that came with the collector's certificate."""
    path = pathlib.Path(contexts)
    written = tomllib.loads(path.read_text())
    context = written["context"][written["current"]]
    credentials = grpc.ssl_channel_credentials(
        root_certificates=(path.parent / context["authority"]).read_bytes(),
        private_key=(path.parent / context["key"]).read_bytes(),
        certificate_chain=(path.parent / context["certificate"]).read_bytes(),
    )
    address = context["address"].removeprefix("https://")
    options = [("grpc.ssl_target_name_override", SERVER_NAME)]
    return grpc.secure_channel(address, credentials, options)


def push_of(channel):
    """The call, and its request's and answer's types, as the aggregator describes them."""
    pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
    method = pool.FindServiceByName(SERVICE).FindMethodByName(METHOD)
    request = message_factory.GetMessageClass(method.input_type)
    answer = message_factory.GetMessageClass(method.output_type)
    call = channel.unary_unary(
        f"/{SERVICE}/{METHOD}",
        request_serializer=request.SerializeToString,
        response_deserializer=answer.FromString,
    )
    return call, request


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contexts", required=True, help="the collector's contexts.toml")
    parser.add_argument("--array", required=True, help="what the configuration calls the array")
    parser.add_argument("--every", type=float, help="seconds between looks; once if not given")
    arguments = parser.parse_args()
    channel = connect(arguments.contexts)
    call, request = push_of(channel)
    while True:
        try:
            told = request(array=arguments.array)
            answer = call(json_format.ParseDict(look(), told), timeout=10)
            print(f"taken in; to be told again within {answer.away_after_seconds} s", flush=True)
        except grpc.RpcError as error:
            print(f"not taken in: {error.code().name}: {error.details()}", file=sys.stderr)
            if arguments.every is None or error.code() != grpc.StatusCode.UNAVAILABLE:
                return 1
        if arguments.every is None:
            return 0
        time.sleep(arguments.every)


if __name__ == "__main__":
    sys.exit(main())
