// Asks for flags by the official OFREP provider for servers, and prints what it was told as JSON: providers.js API_URL

import { OpenFeature } from "@openfeature/server-sdk";
import { OFREPProvider } from "@openfeature/ofrep-provider";

const [baseUrl] = process.argv.slice(2);

await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl }));
const client = OpenFeature.getClient();
const anna = { targetingKey: "anna", plan: "pro" };

console.log(JSON.stringify({
  boolean: await client.getBooleanDetails("checkout", false, anna),
  string: await client.getStringDetails("banner", "", anna),
  number: await client.getNumberDetails("limit", 0, anna),
  object: await client.getObjectDetails("layout", {}, anna),
  unselected: await client.getBooleanDetails("checkout", false, { targetingKey: "anna" }),
  unknown: await client.getStringDetails("nothing", "fallback", anna),
  mismatch: await client.getNumberDetails("banner", 13, anna),
  keyless: await client.getStringDetails("banner", "fallback", {}),
}));
