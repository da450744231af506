// Opens a page in a real browser, on an origin of its own, and holds `trivet dev` to what it promises to pages.
// node journey.js --trivet BINARY [--browser CHROMIUM]

import assert from "node:assert/strict";
import { once } from "node:events";
import { createReadStream } from "node:fs";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

import { TrivetDev } from "./trivet_dev.js";

const TYPES = { ".html": "text/html", ".js": "text/javascript", ".binpb": "application/octet-stream" };
const CATALOG = "trivet.product.v1.CatalogService";
const WHOLE_JOURNEY_MS = 120_000;

let passed = 0;
const failed = [];

// One promise. What goes wrong inside is noted and printed, and the journey goes on.
async function check(sentence, promise) {
  try {
    await promise();
    passed += 1;
    console.log(`ok      ${sentence}`);
  } catch (error) {
    failed.push(sentence);
    console.log(`FAILED  ${sentence}\n        ${error.stack}`);
  }
}

// Serves this folder, on an origin that is nobody else's.
async function serve() {
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const path = fileURLToPath(new URL(`.${pathname === "/" ? "/index.html" : pathname}`, import.meta.url));
    const file = createReadStream(path);
    file.on("open", () => {
      response.setHeader("content-type", TYPES[extname(path)] ?? "text/plain");
      file.pipe(response);
    });
    file.on("error", () => response.writeHead(404).end());
  });
  await once(server.listen(0, "localhost"), "listening");
  return { origin: `http://localhost:${server.address().port}`, close: () => server.close() };
}

// Calls one rpc from the page, and says what came of it: the answer's fields, or the refusal's code and reason.
function call(page, address, service, rpc, request) {
  return page.evaluate(
    async ([address, service, rpc, request]) => {
      const { client, contract, reason } = await import("./trivet.js");
      const { Code } = await import("@connectrpc/connect");
      const { toJson } = await import("@bufbuild/protobuf");
      const registry = await contract();
      const headers = {};
      const onHeader = (all) => all.forEach((value, name) => (headers[name] = value));
      try {
        const answer = await client(registry, service, address)[rpc](request, { onHeader });
        return { ...toJson(registry.getMessage(answer.$typeName), answer), headers };
      } catch (error) {
        const requestId = error.metadata?.get("x-request-id");
        return { code: Code[error.code], reason: reason(error), requestId, message: error.message };
      }
    },
    [address, service, rpc, request],
  );
}

async function catalog(page, address) {
  await check("a page puts products into the catalog, and finds them there", async () => {
    for (const number of [1, 2, 3]) {
      const request = { productId: `chat-${number}`, name: `Chat ${number}`, type: "api" };
      const { product, message } = await call(page, address, CATALOG, "createProduct", request);
      assert.equal(product?.productId, request.productId, message);
    }
    const { product, headers } = await call(page, address, CATALOG, "getProduct", { productId: "chat-2" });
    assert.equal(product.name, "Chat 2");
    assert.match(headers["x-request-id"], /^req_/, "a page may read the id of its request");
  });
  await check("a page turns the pages of a list", async () => {
    const first = await call(page, address, CATALOG, "listProducts", { pageSize: 2 });
    const rest = await call(page, address, CATALOG, "listProducts", { pageSize: 2, pageToken: first.nextPageToken });
    const names = [...first.products, ...rest.products].map(({ name }) => name);
    assert.deepEqual(names, ["Chat 3", "Chat 2", "Chat 1"]);
  });
  await check("a refusal has its code, its reason and the id of the request", async () => {
    const refused = await call(page, address, CATALOG, "getProduct", { productId: "nothing" });
    assert.deepEqual([refused.code, refused.reason], ["NotFound", "PRODUCT_NOT_FOUND"]);
    assert.match(refused.requestId, /^req_/);
    const faulty = await call(page, address, CATALOG, "createProduct", { productId: "a b" });
    assert.deepEqual([faulty.code, faulty.reason], ["InvalidArgument", "INVALID_FIELDS"]);
  });
  await check("the page shows what is sold", async () => {
    await page.reload();
    await page.waitForSelector("[data-shown]");
    const shown = await page.locator("#products li").allTextContents();
    assert.deepEqual(shown, ["Chat 3 (chat-3)", "Chat 2 (chat-2)", "Chat 1 (chat-1)"]);
  });
}

async function wallet(page, account, billing) {
  const ada = { userId: "ada", email: "ada@example.com", name: "Ada Lovelace" };
  await check("a page ensures that somebody has an account", async () => {
    const { created, message } = await call(page, account, "trivet.account.v1.AccountService", "ensureAccount", ada);
    assert.ok(created, message);
  });
  await check("a page watches a wallet, sees each change as it happens, and can look away", async () => {
    const seen = await page.evaluate(async (billing) => {
      const { client, contract } = await import("./trivet.js");
      const wallets = client(await contract(), "trivet.billing.v1.WalletService", billing);
      const pay = (number) =>
        wallets.recordPayment({ requestId: `pay-${number}`, userId: "ada", amount: "10", provider: "bank" });
      await pay(1);
      const looksAway = new AbortController();
      const balances = [];
      try {
        for await (const { wallet } of wallets.watchWallet({ userId: "ada" }, { signal: looksAway.signal })) {
          balances.push(wallet.balance);
          if (balances.length < 3) {
            await pay(balances.length + 1);
          } else {
            looksAway.abort();
          }
        }
      } catch (error) {
        balances.push(error.code);
      }
      return balances;
    }, billing);
    const CANCELED = 1;
    assert.deepEqual(seen, ["10", "20", "30", CANCELED]);
  });
}

async function elsewhere(page, foreign, address) {
  const evil = { productId: "evil", name: "Evil", type: "api" };
  await check("a page of another origin is refused", async () => {
    const refused = await call(foreign, address, CATALOG, "createProduct", evil);
    assert.equal(refused.reason, "");
    assert.match(refused.message, /Failed to fetch/);
  });
  await check("nor does it get anything done that it is not shown", async () => {
    const kind = await foreign.evaluate(
      async ([address, service, evil]) => {
        const { contract } = await import("./trivet.js");
        const { create, toBinary } = await import("@bufbuild/protobuf");
        const { input } = (await contract()).getService(service).method.createProduct;
        const message = toBinary(input, create(input, evil));
        const body = new Uint8Array([0, 0, 0, 0, message.length, ...message]);
        // No browser asks first before it sends this.
        return (await fetch(`${address}/${service}/CreateProduct`, { method: "POST", mode: "no-cors", body })).type;
      },
      [address, CATALOG, evil],
    );
    assert.equal(kind, "opaque");
    const { products } = await call(page, address, CATALOG, "listProducts", {});
    assert.deepEqual(products.map(({ productId }) => productId).sort(), ["chat-1", "chat-2", "chat-3"]);
  });
}

async function play({ trivet, browser: executablePath }) {
  const [shop, other] = [await serve(), await serve()];
  const dev = await TrivetDev.start(trivet, `server.web_origins=${shop.origin}`);
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
  try {
    const open = async (origin) => {
      const page = await browser.newPage();
      await page.goto(`${origin}/?catalog=${encodeURIComponent(dev.address("product"))}`);
      await page.waitForSelector("[data-shown]");
      return page;
    };
    const page = await open(shop.origin);
    const complaints = [];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    await catalog(page, dev.address("product"));
    await wallet(page, dev.address("account"), dev.address("billing"));
    await check("the browser has nothing to complain of", () => assert.deepEqual(complaints, []));
    await elsewhere(page, await open(other.origin), dev.address("product"));
  } finally {
    await browser.close();
    await dev.stop();
    shop.close();
    other.close();
  }
}

const asked = { trivet: { type: "string" }, browser: { type: "string", default: "/usr/bin/chromium-headless-shell" } };
setTimeout(() => {
  console.log(`the journey takes longer than ${WHOLE_JOURNEY_MS} ms`);
  process.exit(1);
}, WHOLE_JOURNEY_MS).unref();
await check("the whole journey was made", () => play(parseArgs({ options: asked }).values));
failed.forEach((sentence) => console.log(`failed: ${sentence}`));
console.log(`${passed} passed, ${failed.length} failed`);
process.exitCode = failed.length > 0 ? 1 : 0;
