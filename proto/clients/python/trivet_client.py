"""A client of Trivet that has never seen its .proto files: what it needs to know, it asks the port (gRPC reflection).

    with Client("localhost:8216") as billing:
        billing.call("trivet.billing.v1.WalletService/GetWallet", {"user_id": "ada"})

Requests and answers are dicts as protobuf's JSON has them, with the field names of the contract: 64-bit numbers are
strings, enum values are names. A refused call raises `Refused`, with the details of google.rpc.Status decoded.
"""

import threading
from collections import namedtuple
from dataclasses import dataclass, field

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

TIMEOUT_S = 10.0

# gRPC waits a second before it tries a refused connection again: too long for a server that starts in less.
OPTIONS = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]

Reply = namedtuple("Reply", "message metadata")


@dataclass
class Refused(Exception):
    """A call that was answered with an error. Decide by `reason`; `text` is for people."""

    code: str
    text: str
    reason: str = ""
    metadata: dict = field(default_factory=dict)
    violations: dict = field(default_factory=dict)
    retry_after: str = ""
    request_id: str = ""
    # Every detail as a dict, `@type` its full name.
    details: list = field(default_factory=list)
    # What the server sent beside the status.
    trailers: dict = field(default_factory=dict)

    def __str__(self):
        return f"{self.code} {self.reason}: {self.text}"

    def detail(self, name):
        """The first detail that is a message of this full name, or None."""
        return next((detail for detail in self.details if detail["@type"] == name), None)


class Client:
    """One port of Trivet."""

    def __init__(self, address, metadata=None):
        self.channel = grpc.intercept_channel(grpc.insecure_channel(address, options=OPTIONS), _Deadline())
        self.metadata = metadata or {}
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = DescriptorPool(self.database)
        # The database learns a file twice, and the pool refuses it, where two threads ask for it at once.
        self.learning = threading.Lock()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def services(self):
        """The full names of the services behind the port."""
        return sorted(self.database.get_services())

    def call(self, method, request=None, timeout=TIMEOUT_S, metadata=None):
        """The answer of `package.Service/Method`."""
        return self.send(method, request, timeout, metadata).message

    def send(self, method, request=None, timeout=TIMEOUT_S, metadata=None):
        """The answer of `package.Service/Method` with the metadata that came with it."""
        descriptor = self._method(method)
        answer, received = self.send_bytes(method, self._to_bytes(descriptor, request or {}), timeout, metadata)
        return Reply(self._to_dict(GetMessageClass(descriptor.output_type).FromString(answer)), received)

    def stream(self, method, requests, timeout=TIMEOUT_S):
        """The one answer of `package.Service/Method` to a stream of requests, taken from any iterable as they are sent."""
        descriptor = self._method(method)
        sent = (self._to_bytes(descriptor, request) for request in requests)
        metadata = tuple(self.metadata.items())
        try:
            answer = self.channel.stream_unary(f"/{method}")(sent, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise self._refused(error) from None
        return self._to_dict(GetMessageClass(descriptor.output_type).FromString(answer))

    def listen(self, method, request=None, timeout=60.0):
        """The messages of an answer that is a stream, one by one; `close()` says that nobody listens any more."""
        descriptor = self._method(method)
        metadata = tuple(self.metadata.items())
        sent = self._to_bytes(descriptor, request or {})
        answers = self.channel.unary_stream(f"/{method}")(sent, timeout=timeout, metadata=metadata)
        try:
            for answer in answers:
                yield self._to_dict(GetMessageClass(descriptor.output_type).FromString(answer))
        except grpc.RpcError as error:
            raise self._refused(error) from None
        finally:
            answers.cancel()

    def send_bytes(self, method, request, timeout=TIMEOUT_S, metadata=None):
        """The same without a look at what is sent and received."""
        sent = tuple((self.metadata | (metadata or {})).items())
        try:
            answer, call = self.channel.unary_unary(f"/{method}").with_call(request, timeout=timeout, metadata=sent)
        except grpc.RpcError as error:
            raise self._refused(error) from None
        return Reply(answer, dict(call.initial_metadata()))

    def _method(self, method):
        service, _, name = method.partition("/")
        with self.learning:
            return self.pool.FindServiceByName(service).methods_by_name[name]

    def _to_bytes(self, descriptor, request):
        message = json_format.ParseDict(request, GetMessageClass(descriptor.input_type)(), descriptor_pool=self.pool)
        return message.SerializeToString()

    def _to_dict(self, message):
        return json_format.MessageToDict(
            message,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
            descriptor_pool=self.pool,
        )

    def _refused(self, error):
        refused = Refused(error.code().name, error.details(), trailers=dict(error.trailing_metadata() or ()))
        status = rpc_status.from_call(error)
        for packed in status.details if status else ():
            name = packed.type_url.rpartition("/")[2]
            with self.learning:
                descriptor = self.pool.FindMessageTypeByName(name)
            message = GetMessageClass(descriptor).FromString(packed.value)
            refused.details.append({"@type": name, **self._to_dict(message)})
        info = refused.detail("google.rpc.ErrorInfo") or {}
        refused.reason, refused.metadata = info.get("reason", ""), info.get("metadata", {})
        bad = refused.detail("google.rpc.BadRequest") or {}
        refused.violations = {fault["field"]: fault["description"] for fault in bad.get("field_violations", [])}
        refused.retry_after = (refused.detail("google.rpc.RetryInfo") or {}).get("retry_delay", "")
        refused.request_id = (refused.detail("google.rpc.RequestInfo") or {}).get("request_id", "")
        return refused


class _Deadline(grpc.StreamStreamClientInterceptor):
    """Gives a deadline to the questions of grpcio-reflection, which sets none."""

    def intercept_stream_stream(self, continuation, details, requests):
        return continuation(_WithTimeout(details.method, details.timeout or TIMEOUT_S, details.metadata), requests)


class _WithTimeout(namedtuple("_WithTimeout", "method timeout metadata"), grpc.ClientCallDetails):
    credentials = wait_for_ready = compression = None
