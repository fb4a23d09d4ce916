// Asks three times for a flag where one request is allowed, and prints what became of it as JSON: limited.js API_URL

import { OpenFeature } from "@openfeature/server-sdk";
import { OFREPProvider } from "@openfeature/ofrep-provider";

const [baseUrl] = process.argv.slice(2);
let requests = 0;
let waits = null;
const fetchImplementation = async (...given) => {
  requests += 1;
  const answer = await fetch(...given);
  if (answer.status === 429) waits = Number(answer.headers.get("Retry-After"));
  return answer;
};

await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl, fetchImplementation }));
const client = OpenFeature.getClient();
const values = [];
for (let number = 0; number < 3; number++) {
  values.push(await client.getStringDetails("banner", "fallback", { targetingKey: "anna" }));
}
console.log(JSON.stringify({ values, requests, waits }));
