"""Starts `trivet dev` as a child process, waits until it takes calls, and is sure to end it."""

import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from trivet_client import OPTIONS

SERVING = health_pb2.HealthCheckResponse.SERVING
DEFAULT_PORTS = {"admin": 8200, "account": 8202, "product": 8215, "billing": 8216}
START_S = 30
# Longer than a drain: calls under way are given 20 s.
STOP_S = 40


class TrivetDev:
    """One running `trivet dev`; leave its `with` block and it is gone."""

    def __init__(self, binary, *settings, ports=None, data=None):
        self.ports = ports or _free_ports()
        taken = [port for port in self.ports.values() if not _is_free(port)]
        if taken:
            # Else we would go on to talk to whoever has it.
            raise RuntimeError(f"port {taken[0]} is taken; end what listens there")
        # A test must not inherit the settings of whoever runs it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("TRIVET_", "OTEL_"))}
        command = [os.path.abspath(binary), "dev"]
        if data:
            command += ["--data", data]
        if self.ports != DEFAULT_PORTS:
            settings += (f"server.admin_port={self.ports['admin']}",)
            settings += tuple(f"{name}.port={port}" for name, port in self.ports.items() if name != "admin")
        for setting in settings:
            command += ["--set", setting]
        self.log = tempfile.NamedTemporaryFile("w+", prefix="trivet-", suffix=".log", errors="replace")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, env=environment
        )

    def __enter__(self):
        try:
            for port in self.ports.values():
                self._wait_until_serving(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def address(self, name):
        return f"127.0.0.1:{self.ports[name]}"

    def terminate(self):
        """Asks it to go, as a platform does."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self):
        """Waits until it is gone, and gives its exit code."""
        return self.process.wait(timeout=STOP_S)

    def logged(self, lines=20):
        """The last lines of what it printed."""
        with open(self.log.name, errors="replace") as log:
            return "".join(log.readlines()[-lines:])

    def _wait_until_serving(self, port):
        give_up = time.monotonic() + START_S
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while time.monotonic() < give_up:
                if self.process.poll() is not None:
                    raise RuntimeError(f"trivet dev ended with {self.process.returncode}:\n{self.logged()}")
                # A second at a time, to notice a process that is gone.
                watch = health.Watch(health_pb2.HealthCheckRequest(service="readiness"), timeout=1, wait_for_ready=True)
                try:
                    if any(answer.status == SERVING for answer in watch):
                        return
                except grpc.RpcError as error:
                    if error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                        raise
        raise RuntimeError(f"port {port} was not ready within {START_S} s:\n{self.logged()}")


def _free_ports():
    """A port for each listener, from below those that systems give to outgoing connections: nobody else takes one
    between this look and the moment it is bound."""
    candidates = filter(_is_free, random.sample(range(20_000, 30_000), 100))
    return {name: next(candidates) for name in DEFAULT_PORTS}


def _is_free(port):
    try:
        socket.create_server(("127.0.0.1", port)).close()
        return True
    except OSError:
        return False


def end_in_time(seconds):
    """Makes SIGTERM, and an alarm after so many seconds, unwind the stack: then children are ended on the way."""

    def leave(number, _):
        sys.exit(f"ended by {signal.Signals(number).name}")

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGALRM, leave)
    signal.alarm(seconds)
