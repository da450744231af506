// Shows what is sold. Where the catalog is stands in the page's own address: `?catalog=http://127.0.0.1:8215`.

import { client, contract, reason } from "./trivet.js";

const address = new URLSearchParams(location.search).get("catalog") ?? "http://127.0.0.1:8215";

try {
  const catalog = client(await contract(), "trivet.product.v1.CatalogService", address);
  const { products } = await catalog.listProducts({ pageSize: 20 });
  for (const { name, productId } of products) {
    const line = document.createElement("li");
    line.textContent = `${name} (${productId})`;
    document.querySelector("#products").append(line);
  }
} catch (error) {
  document.querySelector("#refusal").textContent = `${reason(error)} ${error.message}`;
}
document.documentElement.dataset.shown = "all";
