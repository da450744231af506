"""What people do with plans: they compare them, subscribe for nothing, on trial or for money, go over to another one after
a look at what that costs, and leave.

Each of these has a tenant to itself.
"""

from house import ADA, AGAIN, check, eventually, same

MONTHLY, YEARLY = "BILLING_CYCLE_MONTHLY", "BILLING_CYCLE_YEARLY"
FREE = {"plan_id": "free", "name": "Free", "tier": "PLAN_TIER_FREE", "currency": "USD"}
BASIC = {"plan_id": "basic", "name": "Basic", "tier": "PLAN_TIER_BASIC", "currency": "USD", "trial_days": 14}
MONEY = {"request_id": "money", "user_id": "ada", "currency": "USD", "amount": "1000", "provider": "bank"}
PRO = {"plan_id": "pro", "name": "Pro", "tier": "PLAN_TIER_PREMIUM", "currency": "USD"}


def priced(plan, month, year=None):
    prices = [{"billing_cycle": MONTHLY, "amount": month}]
    return plan | {"prices": prices + ([{"billing_cycle": YEARLY, "amount": year}] if year else [])}


def on_sale(house):
    """Three plans, the dearer with more of it."""
    house.call("EnsureAccount", **ADA)
    house.call("CreateProduct", product_id="tokens", name="Tokens")
    included = {"product_id": "tokens", "quantity": "100", "overage": "OVERAGE_BLOCK"}
    house.call("CreatePlan", **priced(FREE, "0"), included_usage=[included])
    house.call("CreatePlan", **priced(BASIC, "10", "100"), features={"support": "e-mail"})
    house.call("CreatePlan", **priced(PRO, "30", "300"), features={"support": "telephone", "sso": "yes"})


def state(house, subscription_id):
    found = house.call("GetSubscription", subscription_id=subscription_id)["subscription"]
    return found["status"].removeprefix("SUBSCRIPTION_STATUS_")


def subscribe(house):
    """Pattern 6: from the table of plans to a subscription, and what it gives."""
    on_sale(house)
    ask = {"user_id": "ada", "billing_cycle": MONTHLY}
    with check("plans can be laid side by side"):
        table = house.call("ComparePlans", plan_ids=["free", "basic", "pro"])
        rows = {(row["kind"], row["name"]): row["cells"] for row in table["rows"]}
        same(rows[("COMPARISON_KIND_PRICE", "MONTHLY")], ["0 USD", "10 USD", "30 USD"])
        same(rows[("COMPARISON_KIND_INCLUDED_USAGE", "tokens")], ["100 BLOCK", "", ""])
        same(rows[("COMPARISON_KIND_FEATURE", "support")], ["", "e-mail", "telephone"])
    with check("validate_only says what it would cost, and leaves the id free"):
        tried = house.call("CreateSubscription", **ask, request_id="sub-1", plan_id="pro", validate_only=True)
        same(tried["subscription"], {"subscription_id": "", "amount": "30", "currency": "USD"})
    with check("a plan that costs nothing is ACTIVE at once"):
        free = house.call("CreateSubscription", **ask, request_id="sub-1", plan_id="free")
        same(free["subscription"], {"status": "SUBSCRIPTION_STATUS_ACTIVE", "plan_version": "1", "seats": 1})
        same(house.call("CreateSubscription", **ask, request_id="sub-1", plan_id="free"), free | AGAIN)
        house.refusal("ALREADY_SUBSCRIBED", "CreateSubscription", **ask, request_id="sub-2", plan_id="free")
    with check("what a plan includes can be used, and not more where it says so"):
        same(house.call("CheckAvailability", product_id="tokens", user_id="ada")["available"], True)
        used = {"user_id": "ada", "product_id": "tokens"}
        whole = house.call("RecordUsage", **used, request_id="use-1", quantity="100")["usage"]
        same(whole, {"included_quantity": "100", "billable_quantity": "0", "amount": "0", "price_id": ""})
        same(whole["subscription_id"], free["subscription"]["subscription_id"])
        house.refusal("QUOTA_EXHAUSTED", "RecordUsage", **used, request_id="use-2", quantity="0.00000001")
        answer = house.call("CheckAvailability", product_id="tokens", user_id="ada")
        same(answer, {"available": False, "reason": "UNAVAILABLE_REASON_QUOTA_EXHAUSTED"})
    with check("a trial is TRIALING, and is had once"):
        trial = house.call("CreateSubscription", **ask, request_id="sub-3", plan_id="basic", use_trial=True)
        trial = trial["subscription"]
        same(trial, {"status": "SUBSCRIPTION_STATUS_TRIALING", "trial_end_time": trial["period_end_time"]})
        house.call("CancelSubscription", subscription_id=trial["subscription_id"], immediately=True)
        same(state(house, trial["subscription_id"]), "CANCELED")
        again = ask | {"plan_id": "basic", "use_trial": True}
        house.refusal("TRIAL_USED", "CreateSubscription", **again, request_id="sub-4")
    with check("a paid plan is INCOMPLETE until it is paid"):
        paid = house.call("CreateSubscription", **ask, request_id="sub-5", plan_id="pro")["subscription"]
        same(paid, {"status": "SUBSCRIPTION_STATUS_INCOMPLETE", "amount": "30"})
        house.call("RecordPayment", **MONEY | {"amount": "30"})
        eventually("it is paid", lambda: state(house, paid["subscription_id"]) == "ACTIVE")
        step = {"subscription_id": paid["subscription_id"], "reason": "as told"}
        refused = house.refusal(
            "ILLEGAL_TRANSITION", "UpdateSubscriptionStatus", **step, status="SUBSCRIPTION_STATUS_TRIALING"
        )
        same(refused.metadata, {"from": "ACTIVE", "to": "TRIALING"})
    with check("who has no account, is no member, or asks for what is not sold, is refused"):
        nobody = ask | {"user_id": "bob", "plan_id": "pro"}
        house.refusal("ACCOUNT_NOT_FOUND", "CreateSubscription", **nobody, request_id="s-1")
        house.refusal("PLAN_NOT_FOUND", "CreateSubscription", **ask, request_id="s-2", plan_id="none")
        house.call("EnsureAccount", user_id="eve", email="eve@example.com", name="Eve")
        house.call("CreateOrganization", organization_id="lab", name="Lab", owner_user_id="eve")
        stranger = ask | {"organization_id": "lab", "plan_id": "pro"}
        house.refusal("NOT_A_MEMBER", "CreateSubscription", **stranger, request_id="s-3")
        wrong = {"request_id": "s-4", "user_id": "ada", "plan_id": "free", "billing_cycle": YEARLY, "seats": -1}
        assert "seats" in house.violations("CreateSubscription", **wrong)
        house.call("ArchivePlan", plan_id="basic")
        house.refusal("PLAN_NOT_AVAILABLE", "CreateSubscription", **ask, request_id="s-5", plan_id="basic")
    with check("subscriptions are listed, and counted for who asks how they do"):
        listed = house.call("ListSubscriptions", user_id="ada", with_total=True)
        same(listed["total_size"], "3")
        span = {"start_time": "2020-01-01T00:00:00Z", "end_time": "2100-01-01T00:00:00Z"}
        numbers = house.call("GetSubscriptionAnalytics", **span)
        same(numbers, {"created": "3", "ended": "1", "living_at_start": "0", "churn_rate": ""})
        same(numbers["monthly_recurring_revenue"], [{"currency": "USD", "amount": "30"}])


def change_plan(house):
    """Pattern 7: another plan, after a look at what that costs; second thoughts; and the end."""
    on_sale(house)
    made = {"request_id": "sub", "user_id": "ada", "plan_id": "basic", "billing_cycle": MONTHLY}
    sub = house.call("CreateSubscription", **made)["subscription"]["subscription_id"]
    with check("what is not paid cannot be changed"):
        house.refusal("SUBSCRIPTION_NOT_ACTIVE", "ChangePlan", request_id="c-0", subscription_id=sub, plan_id="pro")
    step = {"subscription_id": sub, "status": "SUBSCRIPTION_STATUS_ACTIVE", "reason": "paid"}
    house.call("RecordPayment", **MONEY)
    eventually("it is paid", lambda: state(house, sub) == "ACTIVE")
    with check("a preview of an upgrade is what it then costs"):
        change = {"request_id": "c-1", "subscription_id": sub, "plan_id": "pro"}
        preview = house.call("ChangePlan", **change, validate_only=True)
        assert preview["proration_time"] and preview["amount"] != "0", preview
        same(house.call("GetSubscription", subscription_id=sub)["subscription"]["plan_id"], "basic")
        changed = house.call("ChangePlan", **change, proration_time=preview["proration_time"])
        same((changed["amount"], changed["already_processed"]), (preview["amount"], False))
        same(changed["subscription"], {"plan_id": "pro", "amount": "30", "scheduled_change": None})
        again = house.call("ChangePlan", **change, proration_time=preview["proration_time"])
        same(again, changed | AGAIN)
    with check("a downgrade waits for the end of the period, and can be taken back"):
        later = house.call("ChangePlan", request_id="c-2", subscription_id=sub, plan_id="basic")
        same((later["amount"], later["subscription"]["plan_id"]), ("0", "pro"))
        same(later["subscription"]["scheduled_change"], {"plan_id": "basic", "amount": "10"})
        kept = house.call("WithdrawScheduledChange", subscription_id=sub)["subscription"]
        same(kept, {"plan_id": "pro", "scheduled_change": None})
    with check("a subscriber keeps the version of a plan that they subscribed to"):
        prices = [{"billing_cycle": MONTHLY, "amount": "50"}]
        same(house.call("UpdatePlan", plan_id="pro", prices=prices, currency="USD")["plan"]["version"], "2")
        found = house.call("GetSubscription", subscription_id=sub)["subscription"]
        same(found, {"plan_version": "1", "amount": "30"})
        same(house.call("GetPlan", plan_id="pro", version=1)["plan"]["prices"][0]["amount"], "30")
    with check("it can be paused and go on"):
        same(house.call("PauseSubscription", subscription_id=sub)["subscription"]["status"], "SUBSCRIPTION_STATUS_PAUSED")
        house.call("ResumeSubscription", subscription_id=sub)
        same(state(house, sub), "ACTIVE")
    with check("it can be ended with its period, and that be taken back"):
        ending = house.call("CancelSubscription", subscription_id=sub, reason="too dear")["subscription"]
        same(ending, {"status": "SUBSCRIPTION_STATUS_ACTIVE", "cancel_at_period_end": True})
        same(house.call("WithdrawScheduledChange", subscription_id=sub)["subscription"]["cancel_at_period_end"], False)
    with check("once it is canceled, that is final"):
        house.call("CancelSubscription", subscription_id=sub, immediately=True, reason="moved", feedback="It was good.")
        same(state(house, sub), "CANCELED")
        house.refusal("ILLEGAL_TRANSITION", "UpdateSubscriptionStatus", **step)
        house.refusal("ILLEGAL_TRANSITION", "ResumeSubscription", subscription_id=sub)
    with check("its history has every step, without a gap"):
        entries = []
        for page in house.pages("ListSubscriptionHistory", subscription_id=sub, page_size=2, with_total=True):
            entries += page["entries"]
        same([entry["version"] for entry in entries], [str(number) for number in range(len(entries), 0, -1)])
        same((entries[0]["to"], entries[0]["reason"]), ("SUBSCRIPTION_STATUS_CANCELED", "moved"))
        same(entries[-1]["action"], "SUBSCRIPTION_ACTION_CREATED")
