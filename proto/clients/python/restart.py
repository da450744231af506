"""The part of the journey on which the house goes away, and comes back with everything that was in it."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from house import ADA, AGAIN, ORDER, PAYMENT, TOO_MUCH, check, same

ACME = {"request_id": "acme", "organization_id": "acme", "name": "Acme", "owner_user_id": "ada"}
KEY = {"request_id": "key", "display_name": "CI", "scopes": ["account.read"]}

ServingStatus = health_pb2.HealthCheckResponse.ServingStatus


def before_the_restart(house, kept):
    """Makes one of everything; what must be there after the restart goes into `kept`."""
    with check("a house with a data directory works like one in memory"):
        house.call("EnsureAccount", **ADA)
        house.call("UpdatePreferences", user_id="ada", preferences={"timezone": "Europe/London"})
        kept["account"] = house.call("GetAccount", user_id="ada")
        kept["changes"] = house.call("ListAccountHistory", user_id="ada")
        kept["organization"] = house.call("CreateOrganization", **ACME)
        kept["key"] = house.call("CreateApiKey", **KEY)
        kept["product"] = house.call("CreateProduct", request_id="lamp", product_id="lamp", name="Lamp")
        house.call("CreateProduct", product_id="vase", name="Vase")
        house.call("DeleteProduct", product_id="vase")
        kept["payment"] = house.call("RecordPayment", **PAYMENT)
        kept["deduction"] = house.call("Deduct", **ORDER)
        kept["refusal"] = house.refusal("INSUFFICIENT_FUNDS", "Deduct", **TOO_MUCH).text
        kept["void"] = house.call("VoidRequest", request_id="given-up")
        kept["wallet"] = house.call("GetWallet", user_id="ada")
        kept["page"] = house.call("ListTransactions", user_id="ada", page_size=1)
        kept["history"] = house.call("ListTransactions", user_id="ada")


def goes(house, kept):
    with check("told to go, it says at once that it is not ready, and still takes calls"):
        with grpc.insecure_channel(house.dev.address("billing")) as channel:
            readiness = health_pb2.HealthCheckRequest(service="readiness")
            watch = health_pb2_grpc.HealthStub(channel).Watch(readiness, timeout=10)
            same(ServingStatus.Name(next(watch).status), "SERVING")
            house.dev.terminate()
            same(ServingStatus.Name(next(watch).status), "NOT_SERVING")
            same(house.call("GetWallet", user_id="ada"), kept["wallet"])
    with check("it goes in time, with exit code 0"):
        same(house.dev.wait(), 0)


def after_the_restart(house, kept):
    with check("after the restart the account is still there, with its settings and its history"):
        same(house.call("GetAccount", user_id="ada"), kept["account"])
        same(kept["account"]["account"]["preferences"], {"timezone": "Europe/London"})
        same(house.call("ListAccountHistory", user_id="ada"), kept["changes"])
        same(house.call("SearchAccounts", query="lovelace")["summaries"][0], {"user_id": "ada"})
        same(house.call("ListAccounts", with_total=True), {"total_size": "1"})
    with check("after the restart the organization still has its owner, and the key still lets in"):
        same(house.call("CreateOrganization", **ACME), kept["organization"] | AGAIN)
        same(house.call("CheckMembership", organization_id="acme", user_id="ada")["is_member"], True)
        same(house.call("CreateApiKey", **KEY), kept["key"] | AGAIN | {"secret": ""})
        whose = house.call("AuthenticateApiKey", secret=kept["key"]["secret"])
        same(whose, {"tenant_id": "default", "key_id": kept["key"]["key"]["key_id"]})
    with check("after the restart the product is still there, and the deleted one is still gone"):
        same(house.call("GetProduct", product_id="lamp")["product"], kept["product"]["product"])
        house.refusal("PRODUCT_NOT_FOUND", "GetProduct", product_id="vase")
    with check("after the restart the wallet and its transactions are still there"):
        same(house.call("GetWallet", user_id="ada"), kept["wallet"])
        same(house.call("ListTransactions", user_id="ada"), kept["history"])
    with check("after the restart a page token from before still leads on"):
        rest = house.call("ListTransactions", user_id="ada", page_token=kept["page"]["next_page_token"])
        same(kept["page"]["transactions"] + rest["transactions"], kept["history"]["transactions"])
    with check("after the restart every request id still has its answer"):
        same(house.call("CreateProduct", request_id="lamp", product_id="lamp", name="Lamp"), kept["product"] | AGAIN)
        same(house.call("RecordPayment", **PAYMENT), kept["payment"] | AGAIN)
        same(house.call("Deduct", **ORDER), kept["deduction"] | AGAIN)
        same(house.call("VoidRequest", request_id="given-up"), kept["void"] | AGAIN)
    with check("after the restart a refusal is still kept, whatever has come in since"):
        house.call("RecordPayment", **PAYMENT | {"request_id": "pay-2", "amount": "200"})
        same(house.refusal("INSUFFICIENT_FUNDS", "Deduct", **TOO_MUCH).text, kept["refusal"])
    with check("after the restart the wallet counts on from where it was"):
        fresh = house.call("Deduct", **ORDER | {"request_id": "order-3"})["deduction"]
        same(fresh, {"balance_after": "209.98", "wallet_version": "4"})


def goes_though_watched(house):
    """Whoever watches health never hangs up, and must not hold up the end."""
    channels = [grpc.insecure_channel(address) for address in map(house.dev.address, house.dev.ports)]
    with check("it goes in time though somebody watches every port, with exit code 0"):
        request = health_pb2.HealthCheckRequest(service="liveness")
        watches = [health_pb2_grpc.HealthStub(channel).Watch(request, timeout=60) for channel in channels]
        for watch in watches:
            same(ServingStatus.Name(next(watch).status), "SERVING")
        house.dev.terminate()
        same(house.dev.wait(), 0)
    for channel in channels:
        channel.close()
