"""What an admin of account gives out: places in organizations, API keys, and tenants.

Each part has a tenant to itself.
"""

import json
import re
import time
import zlib
from datetime import datetime, timedelta, timezone

from accounts import ALAN, GRACE
from accounts_admin import ensure
from house import AGAIN, PAYMENT, House, at_once, check, same
from trivet_client import Refused

# The digits of base32 as Crockford has them.
DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def soon(seconds, look):
    """Looks again and again until something is there to see; gives up in time."""
    give_up = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < give_up, f"it did not come to be within {seconds} s"
        time.sleep(0.05)
    return seen


def organizations(house):
    """Pattern 4: who belongs together, and as what."""
    for user_id in ["ada", "bob", "cyd", "dan", "eve"]:
        ensure(house, user_id, user_id.title())
    acme = {"organization_id": "acme"}

    def add(user_id, role):
        answer = house.call("AddMember", **acme, user_id=user_id, role=f"ORGANIZATION_ROLE_{role}")
        return answer["member"]

    def role(user_id):
        answer = house.call("CheckMembership", **acme, user_id=user_id)
        same(answer["is_member"], answer["role"] != "ORGANIZATION_ROLE_UNSPECIFIED")
        return answer["role"].removeprefix("ORGANIZATION_ROLE_")

    def members():
        pages = list(house.pages("ListMembers", **acme, page_size=2, with_total=True))
        listed = [member for page in pages for member in page["members"]]
        same({page["total_size"] for page in pages}, {str(len(listed))})
        return [member["user_id"] for member in listed]

    with check("an organization is made with its owner, once for its request id"):
        request = acme | {"request_id": "make-acme", "name": " Acme Ltd ", "owner_user_id": "ada"}
        made = house.call("CreateOrganization", **request)
        organization = made["organization"]
        same((made["already_processed"], organization["name"]), (False, "Acme Ltd"))
        assert organization["etag"] and organization["create_time"] == organization["update_time"], organization
        same(house.call("CreateOrganization", **request | {"name": "Acme Ltd"}), made | AGAIN)
        same(house.call("GetOrganization", **acme), {"organization": organization})
        same((role("ada"), members()), ("OWNER", ["ada"]))
    with check("another under that request id is REQUEST_ID_REUSED, and another of that id is ID_TAKEN"):
        refused = house.refusal("REQUEST_ID_REUSED", "CreateOrganization", **request | {"owner_user_id": "bob"})
        same(refused.metadata, {"differs": "owner_user_id"})
        house.refusal("ID_TAKEN", "CreateOrganization", **request | {"request_id": "make-acme-too"})
        house.refusal("ID_TAKEN", "CreateOrganization", **request | {"request_id": ""})
    with check("of twenty who make one organization at once, one does"):
        guild = {"organization_id": "guild", "name": "Guild", "owner_user_id": "eve", "request_id": "make-guild"}
        answers = at_once(lambda _: house.call("CreateOrganization", **guild), range(20))
        same(sorted(answer["already_processed"] for answer in answers), [False] + [True] * 19)
    with check("an owner has an account"):
        nobodys = {"organization_id": "nobodys", "name": "Nobody's"}
        house.refusal("ACCOUNT_NOT_FOUND", "CreateOrganization", **nobodys, owner_user_id="nobody")
        house.refusal("ORGANIZATION_NOT_FOUND", "GetOrganization", organization_id="nobodys")
        same(house.violations("CreateOrganization", name=" "), {"organization_id", "name", "owner_user_id"})
    with check("members are added in a role, and listed in the order in which they joined"):
        same(add("dan", "MEMBER"), acme | {"user_id": "dan", "role": "ORGANIZATION_ROLE_MEMBER"})
        add("bob", "ADMIN")
        add("cyd", "MEMBER")
        same(members(), ["ada", "dan", "bob", "cyd"])
        same([role(user_id) for user_id in ["ada", "dan", "bob", "cyd"]], ["OWNER", "MEMBER", "ADMIN", "MEMBER"])
        changed = house.call("GetOrganization", **acme)["organization"]
        same(changed, {"name": "Acme Ltd", "create_time": organization["create_time"]})
        assert not {changed["etag"], changed["update_time"]} & set(organization.values()), changed
    with check("a member who is added again changes role and keeps the place; the same role again changes nothing"):
        joined = add("dan", "MEMBER")
        same(house.call("GetOrganization", **acme)["organization"], changed)
        promoted = add("dan", "ADMIN")
        same(promoted, {"role": "ORGANIZATION_ROLE_ADMIN", "create_time": joined["create_time"]})
        same((role("dan"), members()), ("ADMIN", ["ada", "dan", "bob", "cyd"]))
    with check("who is no member, or nobody at all, is not one, and that is an answer"):
        same([role("eve"), role("nobody")], ["UNSPECIFIED"] * 2)
        house.refusal("ORGANIZATION_NOT_FOUND", "CheckMembership", organization_id="nothing", user_id="ada")
    with check("the last owner neither leaves nor becomes less: LAST_OWNER"):
        house.refusal("LAST_OWNER", "RemoveMember", **acme, user_id="ada")
        house.refusal("LAST_OWNER", "AddMember", **acme, user_id="ada", role="ORGANIZATION_ROLE_ADMIN")
        same(add("ada", "OWNER")["role"], "ORGANIZATION_ROLE_OWNER")
        same(role("ada"), "OWNER")
    with check("of two owners who leave at once, one stays"):
        add("bob", "OWNER")

        def leave(user_id):
            try:
                return house.call("RemoveMember", **acme, user_id=user_id)["removed"]
            except Refused as refused:
                return refused.reason

        same(sorted(map(str, at_once(leave, ["ada", "bob"]))), ["LAST_OWNER", "True"])
        same(sorted([role("ada"), role("bob")]), ["OWNER", "UNSPECIFIED"])
    with check("who leaves is gone; leaving again changes nothing and says so"):
        same(house.call("RemoveMember", **acme, user_id="dan"), {"removed": True})
        left = house.call("GetOrganization", **acme)
        same(house.call("RemoveMember", **acme, user_id="dan"), {"removed": False})
        same(house.call("RemoveMember", **acme, user_id="nobody"), {"removed": False})
        same((role("dan"), house.call("GetOrganization", **acme)), ("UNSPECIFIED", left))
        assert "dan" not in members()
    with check("a deleted account is a member of nothing until it is restored, and cannot be added"):
        house.call("DeleteAccount", user_id="cyd")
        same((role("cyd"), "cyd" in members()), ("UNSPECIFIED", False))
        same(house.call("ListOrganizations", user_id="cyd")["organizations"], [])
        house.refusal("ACCOUNT_DELETED", "AddMember", **acme, user_id="cyd", role="ORGANIZATION_ROLE_MEMBER")
        house.refusal("ACCOUNT_DELETED", "CreateOrganization", **nobodys, owner_user_id="cyd")
        house.call("RestoreAccount", user_id="cyd")
        same((role("cyd"), "cyd" in members()), ("MEMBER", True))
        house.call("EraseAccount", user_id="dan")
        house.refusal("ACCOUNT_ERASED", "AddMember", **acme, user_id="dan", role="ORGANIZATION_ROLE_MEMBER")
    with check("who is added needs an account, an organization and a role"):
        house.refusal("ACCOUNT_NOT_FOUND", "AddMember", **acme, user_id="nobody", role="ORGANIZATION_ROLE_MEMBER")
        wrong = {"organization_id": "nothing", "user_id": "eve"}
        house.refusal("ORGANIZATION_NOT_FOUND", "AddMember", **wrong, role="ORGANIZATION_ROLE_MEMBER")
        house.refusal("ORGANIZATION_NOT_FOUND", "RemoveMember", **wrong)
        house.refusal("ORGANIZATION_NOT_FOUND", "ListMembers", organization_id="nothing")
        same(house.violations("AddMember"), {"organization_id", "user_id", "role"})
    with check("organizations are listed newest first: all, and those of one member"):
        for number in range(3):
            new = {"organization_id": f"org-{number}", "name": "Org", "owner_user_id": "cyd"}
            house.call("CreateOrganization", **new)

        def listed(**request):
            pages = house.pages("ListOrganizations", page_size=2, with_total=True, **request)
            found = [(page["total_size"], each["organization_id"]) for page in pages for each in page["organizations"]]
            same({total for total, _ in found}, {str(len(found))})
            return [organization_id for _, organization_id in found]

        same(listed(), ["org-2", "org-1", "org-0", "guild", "acme"])
        same(listed(user_id="cyd"), ["org-2", "org-1", "org-0", "acme"])
        token = house.call("ListOrganizations", page_size=1)["next_page_token"]
        house.refusal("INVALID_PAGE_TOKEN", "ListOrganizations", page_token=token, user_id="cyd")


def checksum(text):
    """The last seven characters of a secret, from all those before."""
    number = zlib.crc32(text.encode())
    return "".join(DIGITS[number >> 5 * place & 31] for place in reversed(range(7)))


def api_keys(house):
    """Pattern 4: a program gets a key, calls with it, and loses it."""
    order = {"request_id": "ci", "display_name": " CI ", "scopes": ["billing.write", "account.read", "billing.write"]}

    def holder(secret):
        return house.call("AuthenticateApiKey", secret=secret)

    def cause(secret):
        refused = house.refusal("CREDENTIALS_INVALID", "AuthenticateApiKey", secret=secret)
        assert not secret.strip() or secret.strip() not in f"{refused.text} {refused.details}", "it repeats the secret"
        return refused.metadata["cause"]

    def is_refused(secret):
        """Why, or None while it is not."""
        try:
            holder(secret)
            return None
        except Refused:
            return cause(secret)

    def keys():
        return house.call("ListApiKeys")["keys"]

    with check("a tenant that was never created gets no key; created, it does, under the same request id"):
        house.refusal("TENANT_NOT_FOUND", "CreateApiKey", **order)
        house.call("CreateTenant", tenant_id=house.tenant, name="Keys")
        made = house.call("CreateApiKey", **order)
        key, secret = made["key"], made["secret"]
        same(made["already_processed"], False)
        same(key, {"display_name": "CI", "expire_time": None, "last_used_time": None, "revoke_time": None})
        same(sorted(key["scopes"]), ["account.read", "billing.write"])
    with check("a secret has 89 characters: the key's id, 256 bits, and a checksum that anybody can compute"):
        assert re.fullmatch(f"tvt_[{DIGITS}]{{85}}", secret), len(secret)
        same(f"key_{secret[4:30]}", key["key_id"])
        same(secret[-7:], checksum(secret[:-7]))
    with check("it is told once: the same request again has the same answer without it, and no list has it"):
        same(house.call("CreateApiKey", **order | {"display_name": "CI"}), made | AGAIN | {"secret": ""})
        same(keys(), [key])
        assert secret[30:82] not in json.dumps(keys())
    with check("another key under that request id is REQUEST_ID_REUSED"):
        refused = house.refusal("REQUEST_ID_REUSED", "CreateApiKey", **order | {"scopes": ["billing.read"]})
        same(refused.metadata, {"differs": "scopes"})
    with check("who comes with the secret is known, whichever tenant asks"):
        whose = {"tenant_id": house.tenant, "key_id": key["key_id"], "scopes": key["scopes"]}
        same(holder(secret), whose)
        with House(house.dev, tenant="never-created") as stranger:
            same(stranger.call("AuthenticateApiKey", secret=secret), whose)
    with check("a slip anywhere is MALFORMED: a wrong character, one too few, one too many, two exchanged"):
        for place, character in enumerate(secret):
            other = DIGITS[(DIGITS.find(character) + 1) % 32]
            same((place, cause(secret[:place] + other + secret[place + 1 :])), (place, "MALFORMED"))
        swaps = [place for place in range(88) if secret[place] != secret[place + 1]]
        for place in swaps[::8]:
            swapped = secret[:place] + secret[place + 1] + secret[place] + secret[place + 2 :]
            same((place, cause(swapped)), (place, "MALFORMED"))
        for slip in [secret[:-1], secret[1:], secret + "0", f" {secret}", secret.upper(), "tvt_", "", "é" * 89]:
            same(cause(slip), "MALFORMED")
    with check("a secret in good order that nobody was given is UNKNOWN, also with the id of a key"):
        for guessed in [f"tvt_{'0' * 78}", secret[:30] + "0" * 52, f"tvt_{'0' * 26}{secret[30:82]}"]:
            same(cause(guessed + checksum(guessed)), "UNKNOWN")
    with check("a revoked key is refused within 5 s as REVOKED, but to who only knows its id still UNKNOWN"):
        revoked = house.call("RevokeApiKey", key_id=key["key_id"])
        same(revoked["key"], {"key_id": key["key_id"], "display_name": "CI"})
        assert revoked["key"]["revoke_time"], revoked
        assert soon(5, lambda: is_refused(secret)) == "REVOKED"
        same(cause(secret[:30] + "0" * 52 + checksum(secret[:30] + "0" * 52)), "UNKNOWN")
    with check("revoking it again changes nothing, and no other key can be"):
        same(house.call("RevokeApiKey", key_id=key["key_id"])["key"], {"revoke_time": revoked["key"]["revoke_time"]})
        house.refusal("API_KEY_NOT_FOUND", "RevokeApiKey", key_id=f"key_{'0' * 26}")
    with check("a key ends by itself at its time, and is EXPIRED from then on"):
        end = (datetime.now(timezone.utc) + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
        short = {"request_id": "short", "display_name": "Short", "scopes": ["product.read"], "expire_time": end}
        brief = house.call("CreateApiKey", **short)
        same(holder(brief["secret"])["scopes"], ["product.read"])
        assert soon(5, lambda: is_refused(brief["secret"])) == "EXPIRED"
        same(house.call("CreateApiKey", **short), brief | AGAIN | {"secret": ""})
    with check("all that is wrong with a key that is asked for is said at once"):
        past = {"expire_time": "2020-01-01T00:00:00Z"}
        same(house.violations("CreateApiKey", **past), {"request_id", "display_name", "scopes", "expire_time"})
        same(house.violations("CreateApiKey", **order | past | {"request_id": "past"}), {"expire_time"})
        for scope in ["billing", "billing.admin", "wallet.read", "Billing.read", "*", "", "billing.read account.read"]:
            wrong = order | {"request_id": "scope", "scopes": ["account.read", scope]}
            fields = house.violations("CreateApiKey", **wrong)
            same((scope, [field.partition("[")[0] for field in fields]), (scope, ["scopes"]))
    with check("keys are listed newest first, revoked and expired ones too, page by page"):
        last = house.call("CreateApiKey", **order | {"request_id": "last"})["key"]
        listed = []
        for page in house.pages("ListApiKeys", page_size=1, with_total=True):
            same(page["total_size"], "3")
            listed += [each["key_id"] for each in page["keys"]]
        same(listed, [last["key_id"], brief["key"]["key_id"], key["key_id"]])
    with check("within some seconds a key says when it was last used, and says nothing while it never was"):
        never, *used = soon(20, lambda: keys() if keys()[1].get("last_used_time") else None)
        same(never, last | {"last_used_time": None})
        # To the second, since the two may have been written with different numbers of digits.
        assert all(each["last_used_time"][:19] >= each["create_time"][:19] for each in used), used


def two_tenants(house):
    """Pattern 4, for operators: tenants whose rows never meet, whatever ids they choose."""
    with check("a tenant is made once for its request id, and its id is its own"):
        request = {"request_id": "make-north", "tenant_id": "north", "name": " North "}
        made = house.call("CreateTenant", **request)
        same(made["already_processed"], False)
        same(made["tenant"], {"tenant_id": "north", "name": "North"})
        same(house.call("CreateTenant", **request | {"name": "North"}), made | AGAIN)
        refused = house.refusal("REQUEST_ID_REUSED", "CreateTenant", **request | {"tenant_id": "arctic"})
        same(refused.metadata, {"differs": "tenant_id"})
        house.refusal("ID_TAKEN", "CreateTenant", **request | {"request_id": ""})
        same(house.call("CreateTenant", tenant_id="south", name="South")["already_processed"], False)
        same(house.violations("CreateTenant", request_id="é", tenant_id="a b"), {"request_id", "tenant_id", "name"})
    with check("tenants are found, and listed in the order of their ids, `default` from the beginning"):
        same(house.call("GetTenant", tenant_id="north"), {"tenant": made["tenant"]})
        house.refusal("TENANT_NOT_FOUND", "GetTenant", tenant_id="arctic")
        pages = list(house.pages("ListTenants", page_size=1, with_total=True))
        ids = [tenant["tenant_id"] for page in pages for tenant in page["tenants"]]
        same((ids, {page["total_size"] for page in pages}), (sorted(set(ids)), {str(len(ids))}))
        assert {"default", "north", "south"} <= set(ids), ids
    with House(house.dev, tenant="north") as north, House(house.dev, tenant="south") as south:
        never_meet(north, south)


def never_meet(north, south):
    """The same ids in two tenants; what is done to the one is not done to the other."""
    me = {"user_id": GRACE["user_id"]}
    acme = {"organization_id": "acme"}
    made = []
    with check("user ids, addresses, organizations and request ids of one are free in the other"):
        key = {"request_id": "make-key", "display_name": "CI", "scopes": ["account.read"]}
        for tenant, amount in [(north, "3"), (south, "5")]:
            same(tenant.call("EnsureAccount", **GRACE)["created"], True)
            order = acme | {"request_id": "make-acme", "name": "Acme", "owner_user_id": GRACE["user_id"]}
            same(tenant.call("CreateOrganization", **order)["already_processed"], False)
            same(tenant.call("RecordPayment", **PAYMENT | me | {"amount": amount})["already_processed"], False)
            made.append(tenant.call("CreateApiKey", **key))
        same([each["already_processed"] for each in made], [False, False])
        assert made[0]["key"]["key_id"] != made[1]["key"]["key_id"], made
    with check("each sees its own money in its own view FULL, and lists its own keys"):
        for tenant, amount, own in [(north, "3", made[0]), (south, "5", made[1])]:
            account = tenant.call("GetAccount", **me, view="ACCOUNT_VIEW_FULL")["account"]
            same(account["credits"], {"balance": amount})
            same([each["key_id"] for each in tenant.call("ListApiKeys")["keys"]], [own["key"]["key_id"]])
    with check("a secret belongs to one tenant, whoever asks, and only there its key is found and revoked"):
        for tenant, own in [("north", made[0]), ("south", made[1])]:
            for asks in [north, south]:
                same(asks.call("AuthenticateApiKey", secret=own["secret"])["tenant_id"], tenant)
        north.refusal("API_KEY_NOT_FOUND", "RevokeApiKey", key_id=made[1]["key"]["key_id"])
        same(south.call("AuthenticateApiKey", secret=made[1]["secret"])["tenant_id"], "south")
    with check("what one does with accounts, organizations and keys, the other neither sees nor counts"):
        looks = [
            ("GetAccount", me),
            ("ListAccountHistory", me),
            ("ListAccounts", {"with_total": True}),
            ("SearchAccounts", {"query": "grace", "include_inactive": True}),
            ("GetAccountStats", {}),
            ("GetOrganization", acme),
            ("ListOrganizations", {"with_total": True}),
            ("ListMembers", acme),
            ("ListApiKeys", {"with_total": True}),
            ("GetWallet", me),
        ]
        before = [south.call(rpc, **request) for rpc, request in looks]
        north.call("UpdateAccount", **me, name="Somebody else", email="else@example.com")
        north.call("EnsureAccount", **ALAN)
        north.call("AddMember", **acme, user_id=ALAN["user_id"], role="ORGANIZATION_ROLE_OWNER")
        north.call("CreateOrganization", organization_id="bits", name="Bits", owner_user_id=ALAN["user_id"])
        north.call("RevokeApiKey", key_id=made[0]["key"]["key_id"])
        north.call("RemoveMember", **acme, **me)
        north.call("EraseAccount", **me)
        for (rpc, request), seen in zip(looks, before):
            same((rpc, south.call(rpc, **request)), (rpc, seen))
    with check("what is not there in one is not found there, though the other has it"):
        alan = {"user_id": ALAN["user_id"]}
        south.refusal("ACCOUNT_NOT_FOUND", "GetAccount", **alan)
        south.refusal("ACCOUNT_NOT_FOUND", "GetAccount", email=ALAN["email"])
        same(south.call("BatchGetAccounts", user_ids=[ALAN["user_id"]])["accounts"], [])
        for rpc in ["ListAccountHistory", "DeleteAccount", "RestoreAccount", "EraseAccount"]:
            south.refusal("ACCOUNT_NOT_FOUND", rpc, **alan)
        south.refusal("ACCOUNT_NOT_FOUND", "AddMember", **acme, **alan, role="ORGANIZATION_ROLE_MEMBER")
        south.refusal("ORGANIZATION_NOT_FOUND", "GetOrganization", organization_id="bits")
        same(south.call("CheckMembership", **acme, **alan)["is_member"], False)
        same(south.call("ListOrganizations", **alan)["organizations"], [])
    with check("a page token of one is not good in the other"):
        for tenant in [north, south]:
            for user_id in ["ada", "bob"]:
                ensure(tenant, user_id, user_id.title())
                tenant.call("AddMember", **acme, user_id=user_id, role="ORGANIZATION_ROLE_MEMBER")
        for rpc, request in [("ListAccounts", {}), ("ListMembers", acme), ("ListAccountHistory", me)]:
            token = north.call(rpc, **request, page_size=1)["next_page_token"]
            south.refusal("INVALID_PAGE_TOKEN", rpc, **request, page_token=token)
            north.call(rpc, **request, page_token=token)
