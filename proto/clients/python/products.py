"""What people do with a catalog and with what was used: they browse, ask what things cost and whether they can have them,
record what they use, and read what that comes to.

Each of these has a tenant to itself.
"""

from datetime import datetime, timedelta, timezone
from decimal import Decimal

from house import ADA, AGAIN, check, same

ACTIVE = "PRODUCT_STATUS_ACTIVE"
PER_UNIT = {"currency": "USD", "unit": "token", "model": "PRICE_MODEL_PER_UNIT", "unit_price": "0.002"}
TIERED = {
    "currency": "USD",
    "unit": "request",
    "model": "PRICE_MODEL_GRADUATED",
    "tiers": [{"up_to": "100", "unit_price": "0.05"}, {"unit_price": "0.01"}],
    "free_quantity": "10",
}


def browse(house):
    """Pattern 5: a shop front, from the tree of categories to the price of one thing for one person."""
    with check("categories are a tree"):
        house.call("CreateCategory", category_id="ai", name="AI")
        house.call("CreateCategory", category_id="text", name="Text", parent_category_id="ai")
        house.call("CreateCategory", category_id="chat", name="Chat", parent_category_id="text")
        house.refusal("CATEGORY_NOT_FOUND", "CreateCategory", category_id="x", name="X", parent_category_id="none")
        house.refusal("ID_TAKEN", "CreateCategory", category_id="ai", name="Another")
    with check("a category cannot be put below itself, however deep"):
        same(house.violations("UpdateCategory", category_id="ai", parent_category_id="chat"), {"parent_category_id"})
    with check("a product is found in its category, and in every one above it"):
        house.call("CreateProduct", product_id="gpt", name="GPT", type="api", category_id="chat")
        house.call("CreateProduct", product_id="ocr", name="OCR", type="api", category_id="ai")
        for category, found in [("ai", ["ocr", "gpt"]), ("text", ["gpt"]), ("chat", ["gpt"])]:
            listed = house.call("ListProducts", category_id=category)["products"]
            same((category, [product["product_id"] for product in listed]), (category, found))
    with check("a product is changed by its mask, once for each etag, and the change is seen at once"):
        product = house.call("GetProduct", product_id="gpt")["product"]
        changed = house.call("UpdateProduct", product_id="gpt", name="GPT 5", etag=product["etag"])["product"]
        same(changed, {"name": "GPT 5", "type": "api", "category_id": "chat", "status": ACTIVE})
        same(house.call("GetProduct", product_id="gpt"), {"product": changed})
        house.refusal("ETAG_MISMATCH", "UpdateProduct", product_id="gpt", name="GPT 6", etag=product["etag"])
        house.refusal("INVALID_UPDATE_MASK", "UpdateProduct", product_id="gpt", name="GPT 6", update_mask="*")
    with check("a product written behind is there at once, and stored once the cache is synchronized"):
        house.call("CreateProduct", product_id="new", name="New", durability="DURABILITY_WRITE_BEHIND")
        same(house.call("GetProduct", product_id="new")["product"], {"name": "New"})
        house.call("SyncCache")
        same(house.call("GetCacheStats"), {"pending_writes": "0"})
        same([product["product_id"] for product in house.call("ListProducts")["products"]], ["new", "ocr", "gpt"])
    with check("without a price a product is not for sale"):
        house.refusal("PRODUCT_NOT_PRICED", "GetProductPricing", product_id="gpt")
        house.call("EnsureAccount", **ADA)
        answer = house.call("CheckAvailability", product_id="gpt", user_id="ada")
        same(answer, {"available": False, "reason": "UNAVAILABLE_REASON_NOT_IN_PLAN"})
    with check("its price says what a quantity comes to, line by line"):
        house.call("SetPrice", product_id="gpt", price=TIERED)
        estimate = house.call("EstimateCost", product_id="gpt", quantity="210")
        same(estimate, {"amount": "6", "free_quantity": "10", "billable_quantity": "200", "cost_before": "0"})
        amounts = [line["amount"] for line in estimate["lines"]]
        same((amounts, sum(map(Decimal, amounts))), (["5", "1"], Decimal(6)))
        shown = house.call("GetProductPricing", product_id="gpt", user_id="ada", quantity="210")
        same(shown, {"amount": "6", "lines": estimate["lines"], "next_price": None})
    with check("what is free at first is available without money, and what costs from the first unit is not"):
        same(house.call("CheckAvailability", product_id="gpt", user_id="ada")["available"], True)
        house.call("SetPrice", product_id="ocr", price=PER_UNIT)
        answer = house.call("CheckAvailability", product_id="ocr", user_id="ada")
        same(answer, {"available": False, "reason": "UNAVAILABLE_REASON_INSUFFICIENT_FUNDS"})
        payment = {"request_id": "pay-1", "user_id": "ada", "amount": "10", "currency": "USD", "provider": "bank"}
        house.call("RecordPayment", **payment)
        same(house.call("CheckAvailability", product_id="ocr", user_id="ada")["available"], True)
    with check("a retired product can be read, and not be had"):
        house.call("UpdateProduct", product_id="ocr", status="PRODUCT_STATUS_RETIRED")
        answer = house.call("CheckAvailability", product_id="ocr", user_id="ada")
        same(answer, {"available": False, "reason": "UNAVAILABLE_REASON_RETIRED"})
        same(house.call("GetProduct", product_id="ocr")["product"], {"status": "PRODUCT_STATUS_RETIRED"})


def usage(house):
    """Pattern 8: metering, record by record, in batches and in streams, and the sums of it."""
    house.call("EnsureAccount", **ADA)
    house.call("CreateProduct", product_id="tokens", name="Tokens")
    house.call("SetPrice", product_id="tokens", price=PER_UNIT)
    record = {"user_id": "ada", "product_id": "tokens"}
    with check("a record of usage says what it costs, and how that comes about"):
        recorded = house.call("RecordUsage", **record, request_id="use-1", quantity="3")
        same(recorded["already_processed"], False)
        # 0.006 USD are a cent, half up.
        same(recorded["usage"], {"amount": "0.01", "currency": "USD", "billable_quantity": "3", "total_before": "0"})
        same([line["amount"] for line in recorded["usage"]["lines"]], ["0.006"])
        assert recorded["usage"]["usage_id"].startswith("usage_"), recorded
    with check("the same again is the same answer, and another under its id is REQUEST_ID_REUSED"):
        same(house.call("RecordUsage", **record, request_id="use-1", quantity="3.0"), recorded | AGAIN)
        refused = house.refusal("REQUEST_ID_REUSED", "RecordUsage", **record, request_id="use-1", quantity="4")
        same(refused.metadata, {"differs": "quantity"})
    with check("many small records cost what one large one does"):
        for number in range(2, 6):
            house.call("RecordUsage", **record, request_id=f"use-{number}", quantity="3")
        amounts = [usage["amount"] for usage in house.call("ListUsage", user_id="ada")["usages"]]
        same((amounts, sum(map(Decimal, amounts))), (["0.01", "0", "0.01", "0", "0.01"], Decimal("0.03")))
        same(house.call("EstimateCost", product_id="tokens", quantity="15")["amount"], "0.03")
        same(house.call("EstimateCost", product_id="tokens", quantity="5", user_id="ada")["total_before"], "15")
    with check("of a batch the good ones are kept, a repeat is one, and what is wrong is said of each"):
        asked = [
            record | {"request_id": "batch-1", "quantity": "100"},
            record | {"request_id": "batch-1", "quantity": "100"},
            record | {"request_id": "batch-2", "quantity": "-1"},
            record | {"request_id": "batch-3", "quantity": "1", "product_id": "none"},
        ]
        results = house.call("BatchRecordUsage", records=asked)["results"]
        same([result["already_processed"] for result in results], [False, True, False, False])
        same(results[1]["usage"], results[0]["usage"])
        reasons = [(result.get("error") or {"reason": ""})["reason"] for result in results]
        same(reasons, ["", "", "INVALID_FIELDS", "PRODUCT_NOT_FOUND"])
    with check("a stream is summed up, and says what it refused"):
        streamed = [{"record": record | {"request_id": f"stream-{number}", "quantity": "1"}} for number in range(500)]
        streamed += [streamed[7], {"record": record | {"request_id": "stream-x", "quantity": ""}}]
        answer = house.stream("StreamUsage", streamed)
        same(answer, {"accepted": "500", "duplicates": "1", "rejected": "1"})
        same(answer["errors"][0], {"index": "501", "request_id": "stream-x"})
        same(house.stream("StreamUsage", streamed[:500]), {"accepted": "0", "duplicates": "500", "rejected": "0"})
    today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    span = {
        "start_time": (today - timedelta(days=1)).isoformat(),
        "end_time": (today + timedelta(days=2)).isoformat(),
    }

    def summed(**more):
        rows = house.call("GetUsageStatistics", **span, **more)["rows"]
        return sum(int(row["records"]) for row in rows), sum(Decimal(row["quantity"]) for row in rows), rows

    with check("statistics are the sum of all of that, however they are grouped"):
        for group in ["DAY", "HOUR", "PRODUCT", "USER"]:
            records, quantity, rows = summed(group_by=f"USAGE_GROUPING_{group}")
            same((group, records, quantity), (group, 506, Decimal(615)))
            same((group, sum(Decimal(row["amount"]) for row in rows)), (group, Decimal("1.23")))
        same(summed(group_by="USAGE_GROUPING_DAY", user_id="nobody")[0], 0)
    with check("a voided record counts no more, once, and stays to be read"):
        usage_id = recorded["usage"]["usage_id"]
        voided = house.call("VoidUsage", usage_id=usage_id, reason="measured twice")["usage"]
        same(voided, {"usage_id": usage_id, "quantity": "3", "void_reason": "measured twice"})
        assert voided["void_time"], voided
        same(house.call("VoidUsage", usage_id=usage_id, reason="again")["usage"], voided)
        same(summed(group_by="USAGE_GROUPING_PRODUCT")[:2], (505, Decimal(612)))
        house.refusal("USAGE_NOT_FOUND", "VoidUsage", usage_id="usage_none", reason="there is none")
    with check("what was used long ago, or is still to come, is refused with all else that is wrong"):
        for days in [-36, 1]:
            wrong = {"event_time": (today + timedelta(days=days, hours=23)).isoformat(), "quantity": "0"}
            same(house.violations("RecordUsage", **record | wrong), {"request_id", "quantity", "event_time"})
