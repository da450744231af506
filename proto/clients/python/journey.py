"""Plays every promise of the contract that a foreign client can see against a real `trivet dev`.

python journey.py --trivet ../../../target/release/trivet
"""

import argparse
import sys
import tempfile
import urllib.request
from decimal import Decimal

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from accounts import accounts, erased, login, profile, settings, suspended_and_deleted
from accounts_access import api_keys, organizations, two_tenants
from accounts_admin import full_view, search, statistics, the_list, without_billing
from events import events
from house import ADA, AGAIN, ORDER, PAYMENT, SERVICES, TOO_MUCH, House, check, code_of, failed, passed, same
from money import all_is_well, charge_with_retry, from_everywhere, holds_and_refunds, owed
from products import browse, usage
from restart import after_the_restart, before_the_restart, goes, goes_though_watched
from subscriptions import change_plan, subscribe
from trivet_client import Refused
from trivet_dev import TrivetDev, end_in_time

# Each is nearly a number.
BAD_AMOUNTS = """1e3 +1 -1 0 0.0 1,5 . 1. .5 1.2.3 0x1 NaN 1_0 ١ 0.00000001 922337203685.4775808""".split()
BAD_AMOUNTS += ["", " ", " 1", "1 ", "1\0", "9" * 10_000]

# What people do with account, each in a tenant of its own.
PATTERNS = [login, profile, settings, the_list, search, suspended_and_deleted, erased, statistics, full_view]
PATTERNS += [organizations, api_keys, two_tenants]
# And with product.
PATTERNS += [browse, subscribe, change_plan, usage]
# And with billing.
PATTERNS += [charge_with_retry, from_everywhere, holds_and_refunds, all_is_well, owed]

ServingStatus = health_pb2.HealthCheckResponse.ServingStatus


def health(house):
    for port in house.dev.ports:
        with grpc.insecure_channel(house.dev.address(port)) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            names = ["", "readiness", "liveness", *SERVICES.get(port, sum(SERVICES.values(), []))]
            for name in names:
                with check(f"the {port} port: {name or 'the process as a whole'} is SERVING"):
                    answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
                    same(ServingStatus.Name(answer.status), "SERVING")
            with check(f"the {port} port: List has them all, and no others"):
                listed = stub.List(health_pb2.HealthListRequest(), timeout=5).statuses
                said = {(name, ServingStatus.Name(answer.status)) for name, answer in listed.items()}
                same(said, {(name, "SERVING") for name in names})
            unknown = health_pb2.HealthCheckRequest(service="nobody")
            with check(f"the {port} port: the health of an unknown service is NOT_FOUND"):
                same(code_of(stub.Check, unknown, timeout=5), "NOT_FOUND")
            with check(f"the {port} port: a Watch of an unknown service says SERVICE_UNKNOWN and stays open"):
                watch = stub.Watch(unknown, timeout=1)
                same(ServingStatus.Name(next(watch).status), "SERVICE_UNKNOWN")
                # The deadline is ours: within it the server said no more, and did not end it.
                same(code_of(next, watch, "the end"), "DEADLINE_EXCEEDED")
    for page in ["livez", "readyz", "startupz", "metrics"]:
        with check(f"the admin port has a page /{page}"):
            with urllib.request.urlopen(f"http://{house.dev.address('admin')}/{page}", timeout=5) as answer:
                same(answer.status, 200)
                assert answer.read()


def reflection(house):
    for name, client in house.clients.items():
        with check(f"reflection v1alpha lists the services of {name}"):
            same([service for service in client.services() if service.startswith("trivet.")], SERVICES[name])
        with check(f"reflection v1 lists the services of {name}"):
            # The messages of v1 are those of v1alpha, byte for byte; grpcio-reflection has the older names alone.
            ask = client.channel.stream_stream(
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )
            answer = next(ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5))
            listed = {service.name for service in answer.list_services_response.service}
            assert listed >= {"grpc.health.v1.Health", *SERVICES[name]}, listed
        with check(f"reflection knows the error details on the port of {name}"):
            for detail in "ErrorInfo BadRequest PreconditionFailure ResourceInfo RetryInfo RequestInfo".split():
                client.pool.FindMessageTypeByName(f"google.rpc.{detail}")


def money(house):
    with check("there is no wallet before the first payment"):
        house.refusal("WALLET_NOT_FOUND", "GetWallet", user_id="ada")
        house.refusal("WALLET_NOT_FOUND", "ListTransactions", user_id="ada")
    with check("a payment to somebody without an account is refused"):
        house.refusal("ACCOUNT_NOT_FOUND", "RecordPayment", **PAYMENT | {"request_id": "pay-x", "user_id": "nobody"})
    with check("validate_only computes a payment and makes no wallet"):
        tried = house.call("RecordPayment", **PAYMENT, validate_only=True)["payment"]
        same(tried, {"transaction_id": "", "balance_after": "10", "create_time": None})
        house.refusal("WALLET_NOT_FOUND", "GetWallet", user_id="ada")
    with check("a payment of 10 USDC makes the wallet"):
        paid = house.call("RecordPayment", **PAYMENT)
        same(paid["already_processed"], False)
        same(paid["payment"], PAYMENT | {"currency": "USDC", "balance_after": "10", "wallet_version": "1"})
        assert paid["payment"]["transaction_id"].startswith("txn_"), paid
        wallet = house.call("GetWallet", user_id="ada")["wallet"]
        same(wallet, {"balance": "10", "held": "0", "available": "10", "sequence": "1", "state": "WALLET_STATE_ACTIVE"})
    with check("the same payment again has the same answer, and brings nothing"):
        same(house.call("RecordPayment", **PAYMENT), paid | AGAIN)
        same(house.balance("ada"), "10")
    with check("validate_only computes a deduction, takes nothing, and leaves the id free"):
        tried = house.call("Deduct", **ORDER | {"amount": "1"}, validate_only=True)["deduction"]
        same(tried, {"transaction_id": "", "balance_after": "9", "create_time": None})
        same(house.balance("ada"), "10")
    with check("a deduction of 0.01 takes 0.01"):
        taken = house.call("Deduct", **ORDER)
        same(taken["already_processed"], False)
        same(taken["deduction"], ORDER | {"balance_after": "9.99", "wallet_version": "2", "refunded_amount": "0"})
        same(taken["deduction"]["settlement"], {"state": "SETTLEMENT_STATE_NOT_REQUIRED", "stellar_tx_hash": ""})
        assert taken["deduction"]["transaction_id"].startswith("txn_"), taken
        same(house.balance("ada"), "9.99")
    with check("the same request again has the same answer, and takes nothing"):
        same(house.call("Deduct", **ORDER), taken | AGAIN)
        same(house.balance("ada"), "9.99")
    with check('"0.010" under the same id is the same request'):
        same(house.call("Deduct", **ORDER | {"amount": "0.010", "currency": "USDC"}), taken | AGAIN)
    with check("another amount under the same id is REQUEST_ID_REUSED, and says so"):
        same(house.refusal("REQUEST_ID_REUSED", "Deduct", **ORDER | {"amount": "0.02"}).metadata, {"differs": "amount"})
    with check("so is another rpc"):
        house.refusal("REQUEST_ID_REUSED", "RecordPayment", **PAYMENT | {"request_id": "order-1"})
    with check("more than there is, is INSUFFICIENT_FUNDS with the numbers"):
        refused = house.refusal("INSUFFICIENT_FUNDS", "Deduct", **TOO_MUCH)
        same(refused.metadata, {"balance": "9.99", "available": "9.99", "required": "100"})
        violation = refused.detail("google.rpc.PreconditionFailure")["violations"][0]
        same(violation, {"type": "INSUFFICIENT_FUNDS", "description": refused.text})
    with check("that refusal is kept: after a top-up the same request has the same answer"):
        house.call("RecordPayment", **PAYMENT | {"request_id": "pay-2", "amount": "200"})
        again = house.refusal("INSUFFICIENT_FUNDS", "Deduct", **TOO_MUCH)
        same((again.text, again.metadata), (refused.text, refused.metadata))
        same(house.balance("ada"), "209.99")
    with check("under a fresh id it is a fresh attempt"):
        fresh = house.call("Deduct", **TOO_MUCH | {"request_id": "order-3"})["deduction"]
        same(fresh, {"balance_after": "109.99", "wallet_version": "4"})
    with check("a deduction is found by its request id, a refused one is not"):
        same(house.call("GetDeduction", request_id="order-1"), {"deduction": taken["deduction"]})
        house.refusal("DEDUCTION_NOT_FOUND", "GetDeduction", request_id="order-2")
    with check("a wallet in another currency is another wallet"):
        house.refusal("WALLET_NOT_FOUND", "Deduct", **ORDER | {"request_id": "order-4", "currency": "EUR"})


def voiding(house):
    with check("an id that was never seen can be voided"):
        void = house.call("VoidRequest", request_id="given-up", reason="the caller lost patience")
        same(void, {"request_id": "given-up", "already_processed": False})
        assert void["void_time"], void
    with check("voiding it again changes nothing"):
        same(house.call("VoidRequest", request_id="given-up"), void | AGAIN)
    with check("whatever comes under a voided id is REQUEST_VOIDED"):
        house.refusal("REQUEST_VOIDED", "Deduct", **ORDER | {"request_id": "given-up"})
        house.refusal("REQUEST_VOIDED", "RecordPayment", **PAYMENT | {"request_id": "given-up"})
        same(house.balance("ada"), "109.99")
    with check("an id that was refused can be voided"):
        same(house.call("VoidRequest", request_id="order-2"), {"already_processed": False})
        house.refusal("REQUEST_VOIDED", "Deduct", **TOO_MUCH)
    with check("an id under which money moved is ALREADY_APPLIED, with the deduction"):
        refused = house.refusal("ALREADY_APPLIED", "VoidRequest", request_id="order-1")
        same(refused.detail("trivet.billing.v1.Deduction") or {}, ORDER | {"balance_after": "9.99"})
    with check("so is one under which money came in"):
        house.refusal("ALREADY_APPLIED", "VoidRequest", request_id="pay-1")


def history(house):
    with check("the transactions, one by one to the end, tell the whole story of the wallet"):
        rows = []
        for page in house.pages("ListTransactions", user_id="ada", page_size=1, with_total=True):
            same(page, {"currency": "USDC", "total_size": "4"})
            assert len(page["transactions"]) <= 1, page
            rows += page["transactions"]
        same([row["wallet_version"] for row in rows], ["4", "3", "2", "1"])
        same([row["request_id"] for row in rows], ["order-3", "pay-2", "order-1", "pay-1"])
        same([row["amount"] for row in rows], ["-100", "200", "-0.01", "10"])
        same(rows[2], {"kind": "TRANSACTION_KIND_DEDUCTION", "api_id": "chat", "provider": ""})
        same(rows[3], {"kind": "TRANSACTION_KIND_PAYMENT", "provider": "stripe", "provider_reference": "pi_1"})
        balance = Decimal(0)
        for row in reversed(rows):
            balance += Decimal(row["amount"])
            same((Decimal(row["balance_after"]), Decimal(row["available_after"])), (balance, balance))
        same(house.balance("ada"), str(balance))
    with check("one long page has the same, and counts only for who asks"):
        whole = house.call("ListTransactions", user_id="ada")
        same(whole, {"transactions": rows, "next_page_token": "", "total_size": None})
    with check("a page token is good for its own wallet alone"):
        token = house.call("ListTransactions", user_id="ada", page_size=1)["next_page_token"]
        house.call("EnsureAccount", user_id="bob", email="bob@example.com", name="Bob")
        house.call("RecordPayment", **PAYMENT | {"request_id": "pay-bob", "user_id": "bob"})
        for user, wrong in [("bob", token), ("ada", token[:-1]), ("ada", "x")]:
            house.refusal("INVALID_PAGE_TOKEN", "ListTransactions", user_id=user, page_token=wrong)


def catalog(house):
    chat = {"name": "Chat API", "type": "api", "category_id": "ai", "metadata": {"tags": ["llm", None], "size": 3}}
    with check("a product stands in a category that there is, or in none"):
        house.refusal("CATEGORY_NOT_FOUND", "CreateProduct", **chat)
        house.call("CreateCategory", category_id="ai", name="AI")
    with check("a product is made once, whatever its metadata"):
        made = house.call("CreateProduct", **chat, request_id="chat")
        product = made["product"]
        same(made["already_processed"], False)
        same(product, chat | {"status": "PRODUCT_STATUS_ACTIVE", "delete_time": None})
        product_id = product["product_id"]
        assert product_id.startswith("prod_") and len(product_id) == 31 and product["etag"], product
        same(house.call("CreateProduct", **chat, request_id="chat"), made | AGAIN)
    with check("another product under its request id is REQUEST_ID_REUSED"):
        refused = house.refusal("REQUEST_ID_REUSED", "CreateProduct", **chat | {"name": "Talk API"}, request_id="chat")
        same(refused.metadata, {"differs": "name"})
    with check("a product may have an id that the caller chose, once"):
        lamp = house.call("CreateProduct", product_id="lamp", name="Lamp, 100%")["product"]
        same(lamp, {"product_id": "lamp", "type": "physical"})
        house.refusal("ID_TAKEN", "CreateProduct", product_id="lamp", name="Another")
    with check("a product is found, alone and in a batch"):
        same(house.call("GetProduct", product_id=product_id), {"product": product})
        batch = house.call("BatchGetProducts", product_ids=["lamp", "none", product_id])
        same(batch, {"products": [lamp, product], "missing_product_ids": ["none"]})
    with check("the list has all of them, newest first, one by one to the end"):
        listed = []
        for page in house.pages("ListProducts", page_size=1, with_total=True):
            same(page["total_size"], "2")
            listed += page["products"]
        same(listed, [lamp, product])
    with check("filters narrow the list"):
        for found, narrow in [
            ([product], {"type": "api"}),
            ([product], {"category_id": "ai"}),
            ([], {"category_id": "ai", "type": "physical"}),
            ([], {"status": "PRODUCT_STATUS_RETIRED"}),
            ([lamp], {"query": "LAMP"}),
            ([lamp], {"query": "%"}),
            ([], {"query": "_"}),
        ]:
            same((narrow, house.call("ListProducts", **narrow)["products"]), (narrow, found))
    with check("a page token is good for its own filters alone"):
        token = house.call("ListProducts", page_size=1)["next_page_token"]
        house.refusal("INVALID_PAGE_TOKEN", "ListProducts", page_token=token, type="api")
    with check("a product is available to ada, who has an account and some money, once it has a price"):
        price = {"unit": "token", "model": "PRICE_MODEL_PER_UNIT", "unit_price": "0.000001"}
        house.call("SetPrice", product_id=product_id, price=price)
        answer = house.call("CheckAvailability", product_id=product_id, user_id="ada")
        same(answer, {"available": True, "reason": "UNAVAILABLE_REASON_UNSPECIFIED"})
    with check("it is not available to somebody without: ACCOUNT_INACTIVE"):
        answer = house.call("CheckAvailability", product_id=product_id, user_id="nobody")
        same(answer, {"available": False, "reason": "UNAVAILABLE_REASON_ACCOUNT_INACTIVE"})
    with check("a product that does not exist is not available, and that is no error"):
        answer = house.call("CheckAvailability", product_id="none", user_id="ada")
        same(answer, {"available": False, "reason": "UNAVAILABLE_REASON_NOT_FOUND"})
    with check("a deleted product is gone for good, and its id with it"):
        deleted = house.call("DeleteProduct", product_id="lamp")["product"]
        same(deleted, {"product_id": "lamp", "name": "Lamp, 100%"})
        assert deleted["delete_time"], deleted
        house.refusal("PRODUCT_NOT_FOUND", "GetProduct", product_id="lamp")
        house.refusal("PRODUCT_NOT_FOUND", "DeleteProduct", product_id="lamp")
        house.refusal("ID_TAKEN", "CreateProduct", product_id="lamp", name="Lamp")
        same(house.call("ListProducts")["products"], [product])
        same(house.call("BatchGetProducts", product_ids=["lamp"]), {"products": [], "missing_product_ids": ["lamp"]})
        answer = house.call("CheckAvailability", product_id="lamp", user_id="ada")
        same(answer, {"available": False, "reason": "UNAVAILABLE_REASON_NOT_FOUND"})


def tenants(house):
    mine = house.call("ListProducts")["products"][0]["product_id"]
    with House(house.dev, tenant="other") as other:
        with check("another tenant sees none of the accounts"):
            other.refusal("ACCOUNT_NOT_FOUND", "GetAccount", user_id="ada")
            other.refusal("ACCOUNT_NOT_FOUND", "GetAccount", email=ADA["email"])
            other.refusal("ACCOUNT_NOT_FOUND", "UpdateAccount", user_id="ada", name="Stolen")
            same(other.call("BatchGetAccounts", user_ids=["ada"]), {"accounts": [], "missing_user_ids": ["ada"]})
        with check("another tenant sees none of the products"):
            other.refusal("PRODUCT_NOT_FOUND", "GetProduct", product_id=mine)
            other.refusal("PRODUCT_NOT_FOUND", "DeleteProduct", product_id=mine)
            same(other.call("ListProducts", with_total=True), {"products": [], "total_size": "0"})
            same(other.call("BatchGetProducts", product_ids=[mine]), {"products": [], "missing_product_ids": [mine]})
            answer = other.call("CheckAvailability", product_id=mine, user_id="ada")
            same(answer["reason"], "UNAVAILABLE_REASON_NOT_FOUND")
        with check("another tenant sees none of the money"):
            other.refusal("WALLET_NOT_FOUND", "GetWallet", user_id="ada")
            other.refusal("WALLET_NOT_FOUND", "ListTransactions", user_id="ada")
            other.refusal("WALLET_NOT_FOUND", "Deduct", **ORDER | {"amount": "1"})
            other.refusal("DEDUCTION_NOT_FOUND", "GetDeduction", request_id="order-3")
        with check("the tenant goes along when one service asks another"):
            other.refusal("ACCOUNT_NOT_FOUND", "RecordPayment", **PAYMENT | {"request_id": "pay-early"})
        with check("ids, addresses and request ids of one tenant are free in another"):
            same(other.call("EnsureAccount", **ADA)["created"], True)
            paid = other.call("RecordPayment", **PAYMENT | {"amount": "5"})
            same((paid["already_processed"], paid["payment"]["balance_after"]), (False, "5"))
            same(other.call("VoidRequest", request_id="order-3"), {"already_processed": False})
            same(house.call("GetDeduction", request_id="order-3")["deduction"]["amount"], "100")
            same((house.balance("ada"), other.balance("ada")), ("109.99", "5"))
        with check("a page token of one tenant is not good in another"):
            token = house.call("ListTransactions", user_id="ada", page_size=1)["next_page_token"]
            other.refusal("INVALID_PAGE_TOKEN", "ListTransactions", user_id="ada", page_token=token)
    with check("a tenant is named like any other id"):
        with House(house.dev, tenant="a b") as nobody:
            same(nobody.violations("GetWallet", user_id="ada"), {"x-trivet-tenant"})


def bad_input(house):
    with check("all that is wrong with a request is said at once"):
        wrong = {"request_id": "a b", "api_id": "é", "amount": "-1"}
        same(house.violations("Deduct", **wrong), {"request_id", "user_id", "api_id", "amount"})
        same(house.violations("RecordPayment", amount="0"), {"request_id", "user_id", "amount", "provider"})
        same(house.violations("EnsureAccount", email="nowhere", name=" "), {"user_id", "email", "name"})
        wrong = {"request_id": "é", "product_id": "é", "type": "API", "category_id": "a b"}
        same(house.violations("CreateProduct", **wrong), {*wrong, "name"})
        same(house.violations("CheckAvailability"), {"product_id", "user_id"})
    with check("no bad amount is taken for a good one"):
        for amount in BAD_AMOUNTS:
            for rpc, request in [("Deduct", ORDER), ("RecordPayment", PAYMENT)]:
                fields = house.violations(rpc, **request | {"request_id": "bad-amount", "amount": amount})
                same((amount[:30], fields), (amount[:30], {"amount"}))
    with check("an amount has the digits of its currency"):
        for amount, currency in [("1.5", "JPY"), ("1.500", "USD"), ("1.0", "JPY")]:
            same(house.violations("Deduct", **ORDER | {"amount": amount, "currency": currency}), {"amount"})
    with check("a currency that nobody knows is refused"):
        for currency in ["usd", "XYZZY", "BTC", " USDC", "\0"]:
            assert "currency" in house.violations("Deduct", **ORDER | {"currency": currency}), currency
            same(house.violations("GetWallet", user_id="ada", currency=currency), {"currency"})
    with check("text that is longer than its field, or has control characters in it, is refused"):
        for name in ["a\0b", "a\nb", "é" * 201]:
            same(house.violations("EnsureAccount", **ADA | {"user_id": "zoe", "name": name}), {"name"})
        same(house.violations("VoidRequest", request_id="x", reason="r" * 501), {"reason"})
        same(house.violations("CreateProduct", name="x", description="d\0"), {"description"})
        same(house.violations("CreateProduct", name="x", metadata={"x": "y" * 16_384}), {"metadata"})
    with check("metadata of 30 levels is taken and can be read again, and more is refused"):
        with House(house.dev, tenant="deep") as deep:
            for levels in [8, 30, 31, 32]:
                metadata = {}
                for _ in range(levels - 1):
                    metadata = {"deeper": metadata}
                if levels <= 30:
                    deep.call("CreateProduct", name="Deep", metadata=metadata)
                else:
                    same(deep.violations("CreateProduct", name="Deep", metadata=metadata), {"metadata"})
                deep.call("ListProducts")
    with check("an id of 128 characters is good, and one of 129 is not"):
        house.refusal("ACCOUNT_NOT_FOUND", "GetAccount", user_id="x" * 128)
        same(house.violations("GetAccount", user_id="x" * 129), {"user_id"})
        assert house.violations("GetAccount")
    with check("a batch has 1 to 1,000 ids"):
        for ids in [[], ["x"] * 1_001]:
            same(house.violations("BatchGetAccounts", user_ids=ids), {"user_ids"})
            same(house.violations("BatchGetProducts", product_ids=ids), {"product_ids"})
    with check("a page of negative size is refused, and one that is too large is cut"):
        same(house.violations("ListProducts", page_size=-1), {"page_size"})
        house.call("ListProducts", page_size=2**31 - 1)
    with check("none of that left a trace"):
        house.refusal("DEDUCTION_NOT_FOUND", "GetDeduction", request_id="bad-amount")
        house.refusal("ACCOUNT_NOT_FOUND", "GetAccount", user_id="zoe")
        same(house.balance("ada"), "109.99")


def wire(house):
    billing, get_wallet = house.rpcs["GetWallet"]

    def refused(method, request):
        try:
            raise AssertionError(f"it was answered: {billing.send_bytes(method, request)}")
        except Refused as refused:
            return refused.code, refused.reason

    with check("bytes that are no message are INVALID_FIELDS"):
        for request in [b"\xff\xff\xff", b"\x0a\x01\xff"]:
            same(refused(get_wallet, request), ("INVALID_ARGUMENT", "INVALID_FIELDS"))
    with check("a message of up to 256 KiB is read, and one of more is TOO_LARGE"):
        same(house.violations("GetWallet", user_id="x" * 250_000), {"user_id"})
        same(refused(get_wallet, b"x" * 300_000), ("RESOURCE_EXHAUSTED", "TOO_LARGE"))
    with check("an rpc that is not there is METHOD_NOT_FOUND, whether or not its service is"):
        for method in ["trivet.billing.v1.WalletService/Steal", "trivet.billing.v1.Nothing/Steal", "nothing"]:
            same((method, *refused(method, b"")), (method, "UNIMPLEMENTED", "METHOD_NOT_FOUND"))
    with check("a field that the server does not know is ignored"):
        assert b"109.99" in billing.send_bytes(get_wallet, b"\x0a\x03ada" + b"\xfa\x07\x03new").message
    with check("x-request-id comes back, with an answer and with a refusal"):
        mine = {"x-request-id": "journey-1"}
        same(billing.send(get_wallet, {"user_id": "ada"}, metadata=mine).metadata, mine)
        try:
            billing.call(get_wallet, {"user_id": "nobody"}, metadata=mine)
        except Refused as refusal:
            same((refusal.request_id, refusal.trailers.get("x-request-id")), ("journey-1", "journey-1"))
    with check("without a good one there is one of ours, another for each call"):
        sent = [{}, {}, {"x-request-id": "a b"}, {"x-request-id": "x" * 129}]
        ids = {billing.send(get_wallet, {"user_id": "ada"}, metadata=each).metadata["x-request-id"] for each in sent}
        assert len(ids) == 4 and not ids & {"a b", "x" * 129}, ids


def play(binary, nats_url):
    with TrivetDev(binary) as dev, House(dev) as house:
        for chapter in [health, reflection, accounts, money, voiding, history, catalog, tenants, bad_input, wire]:
            chapter(house)
        for pattern in PATTERNS:
            with House(dev, tenant=pattern.__name__) as own:
                pattern(own)
    without_billing(binary)
    if nats_url:
        events(binary, nats_url)
    else:
        print("left out on NATS: --nats is not given", flush=True)
    with tempfile.TemporaryDirectory(prefix="trivet-data-") as data:
        kept = {}
        # `dev` goes at once unless told that somebody has to hear of it first.
        with TrivetDev(binary, "server.announce_ms=1000", data=data) as dev, House(dev) as house:
            before_the_restart(house, kept)
            goes(house, kept)
        with TrivetDev(binary, data=data) as dev, House(dev) as house:
            after_the_restart(house, kept)
            goes_though_watched(house)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--trivet", required=True, metavar="BINARY", help="the binary to play against")
    arguments.add_argument("--nats", metavar="URL", help="a NATS with JetStream, to hear events from")
    asked = arguments.parse_args()
    end_in_time(300)
    with check("the whole journey was made"):
        play(asked.trivet, asked.nats)
    for sentence in failed:
        print(f"failed: {sentence}")
    print(f"{len(passed)} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
