"""The last of the four ways in which people call account: the admin, who lists, finds and counts everybody, and sees
what they own. What an admin gives out, organizations, API keys and tenants, is in accounts_access.py.

Each part has a tenant to itself.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event

from accounts import GRACE
from house import House, at_once, check, same
from trivet_dev import TrivetDev

CROWD = 300
TIERS = [f"SUBSCRIPTION_TIER_{tier}" for tier in ["FREE", "BASIC", "PREMIUM", "ENTERPRISE"]]


def ensure(house, user_id, name, **more):
    """Makes an account of which little more than the name matters."""
    return house.call("EnsureAccount", **{"user_id": user_id, "email": f"{user_id}@crowd.example", "name": name} | more)


def listed(house, **request):
    """The ids of a whole list, in its order."""
    pages = list(house.pages("ListAccounts", page_size=50, **request))
    assert all(len(page["accounts"]) <= 50 for page in pages), [len(page["accounts"]) for page in pages]
    return [account["user_id"] for page in pages for account in page["accounts"]]


def found(house, query, **request):
    """The ids that a search finds, the best first."""
    return [summary["user_id"] for summary in house.call("SearchAccounts", query=query, **request)["summaries"]]


@contextmanager
def meanwhile(house):
    """Somebody makes accounts and renames others, without a pause. Gives a queue of the ids of those made."""
    made, end = SimpleQueue(), Event()

    def write():
        for number in itertools.count():
            if end.is_set():
                return
            ensure(house, f"late-{number}", f"Latecomer {number}")
            house.call("UpdateAccount", user_id=f"person-{number % CROWD}", name=f"Person {number % CROWD}, renamed")
            made.put(f"late-{number}")

    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(write)
        try:
            yield made
        finally:
            end.set()
            writing.result()


def the_list(house):
    """Pattern 4: whoever there was when the list was begun is in it once, whatever is written until it ends."""
    everybody = [f"person-{number}" for number in range(CROWD)]

    def arrive(number):
        ensure(house, everybody[number], f"Person {number}", subscription_tier=TIERS[number % 4])

    with check(f"{CROWD} accounts are all in the list, at most fifty to a page, each once"):
        at_once(arrive, range(CROWD))
        same(sorted(listed(house)), sorted(everybody))
    with check("while accounts are made and renamed, the list misses none of those there before, and repeats none"):
        seen, late = [], []
        with meanwhile(house) as made:
            for page in house.pages("ListAccounts", page_size=50, with_total=True):
                seen += [account["user_id"] for account in page["accounts"]]
                # So that no page is read without an account more.
                late.append(made.get(timeout=10))
                assert int(page["total_size"]) >= CROWD, page["total_size"]
        same(len(seen), len(set(seen)))
        same(set(everybody) - set(seen), set())
        assert len(late) >= CROWD // 50, late
    with check("once nobody writes, total_size is exact, on every page, and only for who asks"):
        pages = list(house.pages("ListAccounts", page_size=50, with_total=True))
        everybody = [account["user_id"] for page in pages for account in page["accounts"]]
        same({(page["total_size"], page["total_size_capped"]) for page in pages}, {(str(len(set(everybody))), False)})
        assert set(late) < set(everybody), late
        same(house.call("ListAccounts"), {"total_size": None})
    with check("the newest come first"):
        for name in ["first", "second", "third"]:
            ensure(house, name, name)
        newest = house.call("ListAccounts", page_size=3)["accounts"]
        same([account["user_id"] for account in newest], ["third", "second", "first"])
        house.call("UpdateAccount", user_id="first", name="changed last")
        same(house.call("ListAccounts", page_size=1)["accounts"][0]["user_id"], "third")
    with check("without a status it holds those who are ACTIVE, and each other status has a list of its own"):
        for user_id in ["person-7", "person-8"]:
            change = {"status": "ACCOUNT_STATUS_SUSPENDED", "reason": "under review"}
            house.call("ChangeAccountStatus", user_id=user_id, **change)
        house.call("DeleteAccount", user_id="person-9")
        house.call("EraseAccount", user_id="person-10")
        active = set(everybody + ["first", "second", "third"]) - {f"person-{number}" for number in range(7, 11)}
        same(set(listed(house)), active)
        for status, who in [
            ("ACTIVE", active),
            ("SUSPENDED", {"person-7", "person-8"}),
            ("DELETED", {"person-9"}),
            ("ERASED", {"person-10"}),
        ]:
            narrow = {"status": f"ACCOUNT_STATUS_{status}"}
            same((status, set(listed(house, **narrow))), (status, who))
            total = house.call("ListAccounts", **narrow, with_total=True, page_size=1)["total_size"]
            same((status, total), (status, str(len(who))))
    with check("a tier narrows it, together with a status and a text"):
        premium = [f"person-{number}" for number in range(2, CROWD, 4) if number != 10]
        narrow = {"subscription_tier": TIERS[2], "query": "person"}
        same(sorted(listed(house, **narrow)), sorted(premium))
        same(house.call("ListAccounts", **narrow, with_total=True)["total_size"], str(len(premium)))
        same(listed(house, subscription_tier=TIERS[0], status="ACCOUNT_STATUS_SUSPENDED"), ["person-8"])
    with check("a text is found in name and address, whatever its case and accents; % and _ mean themselves"):
        ensure(house, "cotton", "100% Cotton")
        ensure(house, "snake", "Sneaky", email="snake_case@example.com")
        ensure(house, "jose", "José Álvarez")
        for query, who in [
            ("%", ["cotton"]),
            ("_", ["snake"]),
            ("0%", ["cotton"]),
            ("e_c", ["snake"]),
            ("0_", []),
            ("%a%", []),
            ("JOSE", ["jose"]),
            ("álvaREZ", ["jose"]),
            ("é Á", ["jose"]),
            ("SNAKE_CASE@", ["snake"]),
            ("\\", []),
            ("'", []),
            ('"', []),
            ("nobody at all", []),
        ]:
            same((query, listed(house, query=query)), (query, who))
    with check("a page token is good for its own filters alone, while page_size and with_total may change"):
        token = house.call("ListAccounts", page_size=2)["next_page_token"]
        for other in [{"query": "person"}, {"status": "ACCOUNT_STATUS_DELETED"}, {"subscription_tier": TIERS[0]}]:
            house.refusal("INVALID_PAGE_TOKEN", "ListAccounts", **other, page_token=token)
        house.refusal("INVALID_PAGE_TOKEN", "ListAccountHistory", user_id="jose", page_token=token)
        two, rest = (house.call("ListAccounts", page_size=size)["accounts"] for size in [2, 7])
        same(two + house.call("ListAccounts", page_size=5, page_token=token, with_total=True)["accounts"], rest)
    with check("a size above 1,000 is cut; a negative one, and a text of more than 100 characters, are refused"):
        assert house.call("ListAccounts", page_size=1_001)["accounts"]
        same(house.violations("ListAccounts", page_size=-1, query="x" * 101), {"page_size", "query"})
        assert house.call("ListAccounts", query="é" * 100)["accounts"] == []


def search(house):
    """Pattern 4: finding somebody while the admin still types."""
    names = ["Joanna Doe", "Ann Abel", "Ann", "Annabel", "Susann", "Hannah", "ANN"]
    for number, name in enumerate(names):
        ensure(house, f"u{number}", name, email=f"{number}@example.com")
    with check("first those who are called so, then those whose name begins so, then those where it stands anywhere"):
        best = found(house, "ann")
        same([set(best[:2]), set(best[2:4]), set(best[4:])], [{"u2", "u6"}, {"u1", "u3"}, {"u0", "u4", "u5"}])
    with check("beginnings come in the order of the alphabet, all others the newest first"):
        same(found(house, "ann"), ["u6", "u2", "u1", "u3", "u5", "u4", "u0"])
    with check("an e-mail address is found as a name is: whole, by its beginning, by any part"):
        for number, address in enumerate(["max@example.com", "max@example.com.au", "climax@example.com"]):
            ensure(house, f"m{number}", f"M{number}", email=address)
        same(found(house, "MAX@example.com"), ["m0", "m1", "m2"])
        same(found(house, "ax@example.com"), ["m2", "m1", "m0"])
    with check("case and accents do not count, in what is typed and in what is found"):
        ensure(house, "jose", "José Álvarez")
        ensure(house, "jane", "Jane Josephs")
        for typed in ["jose alvarez", "JOSÉ ÁLVAREZ", "José álvarez", "  jose alvarez "]:
            same((typed, found(house, typed)), (typed, ["jose"]))
        same([set(found(house, typed)) for typed in ["jose", "JOSÉ", "Jósë"]], [{"jose", "jane"}] * 3)
    with check("nor do they in an e-mail address, wherever the text stands in it"):
        ensure(house, "zoe2", "Zed", email="zoë@example.com.au")
        ensure(house, "zoe1", "Zed", email="zoë@example.com")
        ensure(house, "zoe3", "Zed", email="thezoe@example.com")
        for typed in ["zoe@example.com", "ZOË@example.com"]:
            same((typed, found(house, typed)), (typed, ["zoe1", "zoe2", "zoe3"]))
    with check("% and _ mean themselves"):
        ensure(house, "percent", "50% Off")
        ensure(house, "under", "a_b")
        for typed, who in [("%", ["percent"]), ("0%", ["percent"]), ("%%", []), ("_", ["under"]), ("A_B", ["under"])]:
            same((typed, found(house, typed)), (typed, who))
    with check("a summary says who it is and how they stand"):
        summary = house.call("SearchAccounts", query="José Álvarez")["summaries"][0]
        standing = {"status": "ACCOUNT_STATUS_ACTIVE", "subscription_tier": TIERS[0]}
        same(summary, {"user_id": "jose", "email": "jose@crowd.example", "name": "José Álvarez"} | standing)
    with check("who is suspended or deleted is found on demand, in the same order, and who is erased never"):
        house.call("ChangeAccountStatus", user_id="u6", status="ACCOUNT_STATUS_SUSPENDED", reason="under review")
        house.call("DeleteAccount", user_id="u5")
        house.call("ChangeAccountStatus", user_id="u4", status="ACCOUNT_STATUS_SUSPENDED", reason="under review")
        house.call("EraseAccount", user_id="u1")
        same(found(house, "ann"), ["u2", "u3", "u0"])
        same(found(house, "ann", include_inactive=True), ["u6", "u2", "u3", "u5", "u4", "u0"])
    with check("limit 0 means 20, above 100 means 100, and the best are not cut off"):
        at_once(lambda number: ensure(house, f"p{number}", f"Pat {number}"), range(120))
        ensure(house, "pat", "Pat")
        same([len(found(house, "pat", limit=limit)) for limit in [0, 1, 21, 100, 1_000]], [20, 1, 21, 100, 100])
        same([found(house, "pat", limit=limit)[0] for limit in [0, 1, 1_000]], ["pat"] * 3)
    with check("a query of 1 to 100 characters is asked for"):
        for query in ["", "  ", "x" * 101]:
            same(house.violations("SearchAccounts", query=query, limit=-1), {"query", "limit"})
        same(found(house, "x" * 100), [])


def statistics(house):
    """Pattern 4: the numbers on the first page."""

    def numbers():
        stats = house.call("GetAccountStats")
        by_status = {count["status"]: count["accounts"] for count in stats["by_status"]}
        by_tier = {count["subscription_tier"]: count["accounts"] for count in stats["by_tier"]}
        registered = stats["registered_last_7_days"], stats["registered_last_30_days"]
        return by_status, by_tier, registered

    def expected(statuses, tiers, registered):
        by_status = [f"ACCOUNT_STATUS_{status}" for status in ["ACTIVE", "SUSPENDED", "DELETED", "ERASED"]]
        return dict(zip(by_status, statuses.split())), dict(zip(TIERS, tiers.split())), (registered, registered)

    with check("a tenant without accounts has every number, and all are 0"):
        same(numbers(), expected("0 0 0 0", "0 0 0 0", "0"))
    with check("accounts are counted by status, and by tier while they are ACTIVE or SUSPENDED"):
        at_once(lambda number: ensure(house, f"u{number}", "Somebody", subscription_tier=TIERS[number % 3]), range(10))
        same(numbers(), expected("10 0 0 0", "4 3 3 0", "10"))
        house.call("ChangeAccountStatus", user_id="u0", status="ACCOUNT_STATUS_SUSPENDED", reason="under review")
        house.call("DeleteAccount", user_id="u1")
        house.call("DeleteAccount", user_id="u2")
        house.call("EraseAccount", user_id="u2")
        same(numbers(), expected("7 1 1 1", "4 2 2 0", "10"))
    with check("a restored account counts where it did before, and a login does not count at all"):
        house.call("RestoreAccount", user_id="u1")
        ensure(house, "u3", "Somebody")
        same(numbers(), expected("8 1 0 1", "4 3 2 0", "10"))


def full_view(house):
    """Pattern 4: one account with all that the house knows of it."""
    account = house.call("EnsureAccount", **GRACE)["account"]
    me = {"user_id": GRACE["user_id"]}

    def full(**more):
        return house.call("GetAccount", **me, view="ACCOUNT_VIEW_FULL", **more)["account"]

    with check("view FULL adds what billing and product know; before the first payment that is 0 and nothing"):
        seen = full()
        same(seen["credits"], {"currency": "USDC", "balance": "0", "available": "0"})
        same(seen, account | {"subscriptions": [], "unavailable_parts": []})
        assert seen["credits"]["as_of_time"], seen
    with check("after a payment it shows what there is to spend, and billing says the same"):
        house.call("RecordPayment", **me, request_id="pay-1", amount="12.50", provider="bank")
        house.call("Deduct", **me, request_id="order-1", amount="0.01")
        same(full()["credits"], {"currency": "USDC", "balance": "12.49", "available": "12.49"})
        same(house.call("GetWallet", **me)["wallet"], {"balance": "12.49", "available": "12.49"})
    with check("each currency is asked for by its code"):
        house.call("RecordPayment", **me, request_id="pay-2", amount="7", currency="EUR", provider="bank")
        same([full(currency=code)["credits"]["balance"] for code in ["EUR", "USDC", "JPY"]], ["7", "12.49", "0"])
        same(full(currency="EUR")["credits"]["currency"], "EUR")
        same(house.violations("GetAccount", **me, view="ACCOUNT_VIEW_FULL", currency="eur"), {"currency"})
    with check("it is found by its address, too, and stands in no other view"):
        by_address = house.call("GetAccount", email=GRACE["email"].upper(), view="ACCOUNT_VIEW_FULL")["account"]
        same(by_address["credits"], {"balance": "12.49"})
        for view in ["ACCOUNT_VIEW_UNSPECIFIED", "ACCOUNT_VIEW_BASIC"]:
            same(house.call("GetAccount", **me, view=view)["account"], account | {"credits": None})
    with check("a deleted account still shows what it owns"):
        house.call("DeleteAccount", **me)
        same(full()["credits"], {"balance": "12.49"})


def without_billing(binary):
    """Pattern 4 on a bad day: billing is not where it should be."""
    with TrivetDev(binary, "billing.address=127.0.0.1:1") as dev, House(dev) as house:
        account = house.call("EnsureAccount", **GRACE)["account"]
        with check("what cannot be had in time is left out of view FULL and named, and the call succeeds"):
            seen = house.call("GetAccount", user_id=GRACE["user_id"], view="ACCOUNT_VIEW_FULL")["account"]
            same(seen, account | {"credits": None, "subscriptions": [], "unavailable_parts": ["credits"]})
        with check("a view that asks nobody misses nothing"):
            same(house.call("GetAccount", user_id=GRACE["user_id"])["account"], account)
