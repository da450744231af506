"""What an outside service does to hear Trivet's events: a durable pull consumer of its own on the stream, with nats-py.

The events come as CloudEvents 1.0. In binary mode, which is what Trivet sends unless it is told otherwise, the attributes
are headers (`ce-id`, `ce-type`, ..) and the body is a protobuf message, whose full name is the end of `ce-dataschema`; in
structured mode (`events.nats_json`) each message is one JSON object. Both may come twice: whoever must not do a thing
twice remembers the ids.
"""

import asyncio
import json
import uuid
from urllib.parse import unquote

import nats
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from house import ADA, House, check, same
from trivet_dev import TrivetDev

PATIENCE_S = 2
CHANGES = ["user.created", "user.profile_updated", "user.status_changed", "user.deleted"]


def read(pool, message):
    """The attributes and the data of a CloudEvent, in whichever mode it came; the data as protobuf's JSON has it."""
    headers = {name.lower(): value for name, value in (message.headers or {}).items()}
    if headers.get("content-type", "").startswith("application/cloudevents+json"):
        event = json.loads(message.data)
        return event, event.pop("data")
    event = {name.removeprefix("ce-"): unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    data = GetMessageClass(pool.FindMessageTypeByName(event["dataschema"].rpartition("/")[2])).FromString(message.data)
    return event, json_format.MessageToDict(data, always_print_fields_with_no_presence=True, descriptor_pool=pool)


async def hear(url, stream, subject, count):
    """The next so many messages that this consumer has not acknowledged yet."""
    connection = await nats.connect(url)
    try:
        place = await connection.jetstream().pull_subscribe(subject, durable="notifications", stream=stream)
        heard = []
        while len(heard) < count:
            for message in await place.fetch(count - len(heard), timeout=PATIENCE_S):
                heard.append(message)
                await message.ack_sync()
        return heard
    finally:
        await connection.close()


async def forget(url, stream):
    connection = await nats.connect(url)
    await connection.jetstream().delete_stream(stream)
    await connection.close()


def live(house):
    """One account from the first day to the last: an event of each type."""
    house.call("EnsureAccount", **ADA)
    house.call("UpdateAccount", user_id="ada", name="Ada L.")
    house.call("ChangeAccountStatus", user_id="ada", status="ACCOUNT_STATUS_SUSPENDED", reason="a test")
    house.call("DeleteAccount", user_id="ada", reason="a test")


def heard_by_a_stranger(binary, url, mode, *settings):
    stream = f"JOURNEY_{uuid.uuid4().hex[:12]}"
    subjects = stream.lower()
    try:
        with TrivetDev(binary, f"events.nats_url={url}", f"events.nats_stream={stream}", *settings) as dev:
            with House(dev) as house:
                live(house)
                pool = house.clients["account"].pool
                with check(f"{mode}: a stranger hears what account tells, in the order in which it happened"):
                    messages = asyncio.run(hear(url, stream, f"{subjects}.account.>", len(CHANGES)))
                    events = [read(pool, message) for message in messages]
                    same([event["type"] for event, _ in events], CHANGES)
                    same([message.subject for message in messages], [f"{subjects}.account.{type}" for type in CHANGES])
                    same([event["aggregateversion"] for event, _ in events], ["1", "2", "3", "4"])
                with check(f"{mode}: its attributes are those of CloudEvents 1.0, with the tenant and the trace"):
                    common = {"specversion": "1.0", "source": "trivet.dev/account", "subject": "ada", "tenant": "default"}
                    for (event, _), message in zip(events, messages):
                        same(event, common | {"aggregate": "user"})
                        same(message.headers["Nats-Msg-Id"], event["id"])
                        assert event["time"].endswith("Z") and event["traceparent"].startswith("00-"), event
                    same(len({event["id"] for event, _ in events}), len(CHANGES))
                with check(f"{mode}: its data is the message of the contract, and nobody's name is in it"):
                    same([data["userId"] for _, data in events], ["ada"] * len(CHANGES))
                    same(events[1][1]["changedFields"], ["name"])
                    same(events[2][1]["to"], "ACCOUNT_STATUS_SUSPENDED")
                    assert not any(b"Ada" in message.data or b"example.com" in message.data for message in messages)
        with check(f"{mode}: what it has acknowledged does not come again"):
            try:
                messages = asyncio.run(hear(url, stream, f"{subjects}.account.>", 1))
                raise AssertionError(f"it heard {messages}")
            except nats.errors.TimeoutError:
                pass
    finally:
        asyncio.run(forget(url, stream))


def events(binary, url):
    heard_by_a_stranger(binary, url, "binary mode")
    heard_by_a_stranger(binary, url, "structured mode", "events.nats_json=true")
