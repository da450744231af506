// Calls Trivet from a page, by grpc-web and without a line of generated code: which rpcs there are stands in the contract,
// which is read as `buf build` writes it.

import { createFileRegistry, fromBinary } from "@bufbuild/protobuf";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

// The contract, read from a file beside the page.
export async function contract(url = "./trivet.binpb") {
  const answer = await fetch(url);
  if (!answer.ok) {
    throw new Error(`${url}: ${answer.status}`);
  }
  return createFileRegistry(fromBinary(FileDescriptorSetSchema, new Uint8Array(await answer.arrayBuffer())));
}

// A client of one service, `trivet.product.v1.CatalogService`, at one address: each rpc is a method, `getProduct`.
export function client(registry, service, address) {
  const found = registry.getService(service);
  if (!found) {
    throw new Error(`the contract has no ${service}`);
  }
  return createClient(found, createGrpcWebTransport({ baseUrl: address, defaultTimeoutMs: 10_000 }));
}

// Why a call was refused, `PRODUCT_NOT_FOUND`: what a program decides by, whatever the message says.
export function reason(error) {
  const info = error.details?.find((detail) => detail.type === "google.rpc.ErrorInfo");
  const reader = new BinaryReader(info?.value ?? new Uint8Array());
  while (reader.pos < reader.len) {
    const [field, kind] = reader.tag();
    if (field === 1) {
      return reader.string();
    }
    reader.skip(kind);
  }
  return "";
}
