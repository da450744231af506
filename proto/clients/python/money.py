"""What people do with money: they charge for each call and retry what they did not hear of, from many places at once; hold
and refund; watch that all is well; and have the books proved.

Each of these has a tenant to itself.
"""

from decimal import Decimal

from house import ADA, AGAIN, at_once, check, eventually, same
from trivet_client import Refused

FUNDS = {"request_id": "fund", "user_id": "ada", "amount": "10", "provider": "stripe"}


def charge_with_retry(house):
    """Pattern 9: a charge for each call of an API, sent again until it is answered."""
    house.call("EnsureAccount", **ADA)
    house.call("RecordPayment", **FUNDS)
    order = {"request_id": "call-1", "user_id": "ada", "api_id": "chat", "endpoint_id": "complete", "amount": "0.25"}

    def charge(order, impatient):
        """Sends an order until it is answered. The first tries have no time to be."""
        for timeout in [*impatient, 10.0]:
            client, method = house.rpcs["Deduct"]
            try:
                return client.call(method, order, timeout=timeout)
            except Refused as refused:
                if refused.code not in ("DEADLINE_EXCEEDED", "UNAVAILABLE", "CANCELLED"):
                    raise
        raise AssertionError("it was never answered")

    with check("a charge that is sent again and again takes the money once"):
        charge(order, impatient=[0.0001, 0.001, 0.002, 0.004, 0.008])
        same(house.balance("ada"), "9.75")
        again = charge(order, impatient=[])
        same(again, AGAIN)
        same(again["deduction"], order | {"balance_after": "9.75", "wallet_version": "2"})
    with check("to give up for good is a call, too"):
        house.call("VoidRequest", request_id="call-2", reason="the user left")
        house.refusal("REQUEST_VOIDED", "Deduct", **order | {"request_id": "call-2"})
    with check("a wallet that is empty says so, and is charged once there is more"):
        house.refusal("INSUFFICIENT_FUNDS", "Deduct", **order | {"request_id": "call-3", "amount": "50"})
        house.call("RecordPayment", **FUNDS | {"request_id": "top-up", "amount": "50"})
        house.refusal("INSUFFICIENT_FUNDS", "Deduct", **order | {"request_id": "call-3", "amount": "50"})
        house.call("Deduct", **order | {"request_id": "call-4", "amount": "50"})
        same(house.balance("ada"), "9.75")
    with check("what was charged is listed by API and by user"):
        listed = house.call("ListDeductions", api_id="chat", user_id="ada", with_total=True)
        same(listed["total_size"], "2")
        same([deduction["request_id"] for deduction in listed["deductions"]], ["call-4", "call-1"])


def from_everywhere(house):
    """Pattern 10: the same request from many places at once, and many requests at one wallet."""
    house.call("EnsureAccount", **ADA)
    house.call("RecordPayment", **FUNDS)
    with check("sixteen who send the same request get the same answer, and one of them took the money"):
        order = {"request_id": "once", "user_id": "ada", "amount": "1"}
        answers = at_once(lambda _: house.call("Deduct", **order), range(16))
        same(len([answer for answer in answers if not answer["already_processed"]]), 1)
        same([answer["deduction"] for answer in answers], [answers[0]["deduction"]] * 16)
        same(house.balance("ada"), "9")
    with check("of forty who want 0.5 each from 9, eighteen get it, and the answers tell the wallet's history"):

        def want(number):
            try:
                return house.call("Deduct", request_id=f"want-{number}", user_id="ada", amount="0.5")["deduction"]
            except Refused as refused:
                same(refused.reason, "INSUFFICIENT_FUNDS")

        served = [deduction for deduction in at_once(want, range(40)) if deduction]
        served.sort(key=lambda deduction: int(deduction["wallet_version"]))
        same([int(deduction["wallet_version"]) for deduction in served], list(range(3, 21)))
        same([Decimal(deduction["balance_after"]) for deduction in served], [9 - Decimal(n) / 2 for n in range(1, 19)])
    with check("a batch answers in its order, and an atomic one takes all or nothing"):
        house.call("RecordPayment", **FUNDS | {"request_id": "more"})
        orders = [{"request_id": f"batch-{n}", "user_id": "ada", "amount": amount} for n, amount in enumerate("163")]
        too_many = orders + [orders[0] | {"request_id": "x", "amount": "9"}]
        refused = house.refusal("INSUFFICIENT_FUNDS", "BatchDeduct", deductions=too_many, atomic=True)
        same(refused.metadata["index"], "3")
        same(house.balance("ada"), "10")
        results = house.call("BatchDeduct", deductions=orders, atomic=True)["results"]
        same([result["deduction"]["balance_after"] for result in results], ["9", "3", "0"])
        results = house.call("BatchDeduct", deductions=[orders[0], orders[1] | {"request_id": "y"}])["results"]
        same((results[0]["already_processed"], results[1]["error"]["reason"]), (True, "INSUFFICIENT_FUNDS"))


def holds_and_refunds(house):
    """Pattern 11: money set aside for work that is under way, and money given back."""
    house.call("EnsureAccount", **ADA)
    house.call("RecordPayment", **FUNDS)
    with check("what is held cannot be spent, and what is not captured is free again"):
        hold = house.call("PlaceHold", request_id="h-1", user_id="ada", amount="6")["hold"]
        same(hold, {"state": "HOLD_STATE_OPEN", "amount": "6", "captured_amount": "0"})
        same(house.call("GetWallet", user_id="ada")["wallet"], {"balance": "10", "held": "6", "available": "4"})
        house.refusal("INSUFFICIENT_FUNDS", "Deduct", request_id="d-1", user_id="ada", amount="5")
        taken = house.call("CaptureHold", request_id="c-1", hold_id=hold["hold_id"], amount="2")
        same(taken["hold"], {"state": "HOLD_STATE_CAPTURED", "captured_amount": "2"})
        same(house.call("GetWallet", user_id="ada")["wallet"], {"balance": "8", "held": "0", "available": "8"})
        house.refusal("HOLD_NOT_OPEN", "ReleaseHold", request_id="r-1", hold_id=hold["hold_id"])
    with check("no more is given back than was taken"):
        back = {"deduction_request_id": "c-1", "reason": "it was bad"}
        same(house.call("Refund", request_id="b-1", amount="0.5", **back)["refund"]["balance_after"], "8.5")
        house.refusal("REFUND_EXCEEDS_DEDUCTION", "Refund", request_id="b-2", amount="1.51", **back)
        same(house.call("Refund", request_id="b-3", **back)["refund"]["amount"], "1.5")
        same(house.balance("ada"), "10")
    with check("a frozen wallet takes and gives nothing"):
        same(house.call("FreezeWallet", user_id="ada")["wallet"]["state"], "WALLET_STATE_FROZEN")
        house.refusal("WALLET_FROZEN", "Deduct", request_id="d-2", user_id="ada", amount="1")
        house.call("RecordPayment", **FUNDS | {"request_id": "gift", "amount": "1"})
        house.call("UnfreezeWallet", user_id="ada")
        house.call("Deduct", request_id="d-3", user_id="ada", amount="1")


def all_is_well(house):
    """Pattern 12: whether billing can be charged, and whether its books are right."""
    house.call("EnsureAccount", **ADA)
    house.call("RecordPayment", **FUNDS)
    client, _ = house.rpcs["Deduct"]
    with check("billing says how it is, part by part"):
        status = client.call("trivet.mesh.v1.StatusService/GetStatus")
        parts = {part["name"]: part["status"] for part in status["checks"]}
        same(parts, {"api": "STATUS_OK", "database": "STATUS_OK", "events": "STATUS_OK", "account": "STATUS_OK"})
        assert "ledger" in parts, parts
    with check("who watches a wallet sees it change"):
        watch = house.listen("WatchWallet", user_id="ada")
        same(next(watch)["wallet"], {"balance": "10", "sequence": "1"})
        house.call("Deduct", request_id="d-1", user_id="ada", api_id="chat", amount="4")
        seen = next(watch)
        same((seen["wallet"]["balance"], seen["transaction"]["amount"]), ("6", "-4"))
        watch.close()
    with check("a statement adds up"):
        statement = house.call("GetStatement", user_id="ada")
        same(statement, {"opening_balance": "0", "closing_balance": "6"})
        same(sum(Decimal(line["amount"]) for line in statement["lines"]), 6)
    with check("the ledger verifies, and its accounts add up to nothing"):
        *_, last = house.listen("VerifyLedger")
        same(last["verdict"], {"ok": True, "wallets": "1", "transactions": "2", "findings": "0"})
        (usdc,) = house.call("GetTrialBalance")["balances"]
        same(usdc, {"currency": "USDC", "sum": "0", "transactions": "2"})
        accounts = {account["account"]: account["balance"] for account in usdc["accounts"]}
        same(accounts, {"LEDGER_ACCOUNT_WALLETS": "6", "LEDGER_ACCOUNT_REVENUE": "4", "LEDGER_ACCOUNT_PAYMENTS": "-10"})
    with check("an export goes on where it broke off"):
        first, second = house.listen("ExportLedger")
        same(next(house.listen("ExportLedger", resume_token=first["resume_token"])), second)
        same(second["transaction"]["transaction"]["request_id"], "d-1")


def owed(house):
    """Pattern 13: what is subscribed to and used is owed, and paid from the wallet."""
    house.call("EnsureAccount", **ADA)
    prices = [{"billing_cycle": "BILLING_CYCLE_MONTHLY", "amount": "10"}]
    house.call("CreatePlan", plan_id="pro", name="Pro", tier="PLAN_TIER_BASIC", currency="USD", prices=prices)
    wish = {"request_id": "s-1", "user_id": "ada", "plan_id": "pro", "billing_cycle": "BILLING_CYCLE_MONTHLY"}
    sub = house.call("CreateSubscription", **wish)["subscription"]["subscription_id"]

    def charges():
        listed = house.call("ListCharges", user_id="ada")["charges"]
        return [(charge["amount"], charge["state"].removeprefix("CHARGE_STATE_")) for charge in listed]

    with check("what is subscribed to is owed, and a payment makes it active"):
        eventually("the charge is there", lambda: charges() == [("10", "OPEN")])
        house.call("RecordPayment", **FUNDS | {"currency": "USD", "amount": "12"})
        same(charges(), [("10", "PAID")])
        found = lambda: house.call("GetSubscription", subscription_id=sub)["subscription"]["status"]
        eventually("the subscription is active", lambda: found() == "SUBSCRIPTION_STATUS_ACTIVE")
    with check("what is used is owed, and given back when it is voided"):
        house.call("CreateProduct", product_id="tokens", name="Tokens")
        price = {"currency": "USD", "unit": "token", "model": "PRICE_MODEL_PER_UNIT", "unit_price": "0.01"}
        house.call("SetPrice", product_id="tokens", price=price)
        usage = house.call("RecordUsage", request_id="u-1", user_id="ada", product_id="tokens", quantity="150")["usage"]
        eventually("it is paid", lambda: charges()[0] == ("1.5", "PAID"))
        house.call("VoidUsage", usage_id=usage["usage_id"], reason="a mistake")
        eventually("it is given back", lambda: charges()[0] == ("-1.5", "PAID"))
        same(house.call("GetWallet", user_id="ada", currency="USD")["wallet"]["balance"], "2")
    with check("a charge that is paid is refunded, not voided"):
        paid = house.call("ListCharges", subscription_id=sub)["charges"][0]["charge_id"]
        house.refusal("CHARGE_PAID", "VoidCharge", charge_id=paid)
        same(house.call("Refund", request_id="b-1", charge_id=paid)["refund"], {"amount": "10", "balance_after": "12"})
