// Asks for a flag until it is told to wait, then until it has a value again, and prints each request as JSON: patient.js API_URL

import { OpenFeature } from "@openfeature/server-sdk";
import { OFREPProvider } from "@openfeature/ofrep-provider";

const [baseUrl] = process.argv.slice(2);
const requests = [];
const fetchImplementation = async (...given) => {
  const at = Date.now();
  const answer = await fetch(...given);
  requests.push({ at, status: answer.status, waits: Number(answer.headers.get("Retry-After")) });
  return answer;
};

await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl, fetchImplementation }));
const client = OpenFeature.getClient();
const ask = () => client.getStringValue("banner", "fallback", { targetingKey: "anna" });
const askUntil = async (wanted) => {
  while ((await ask()) !== wanted) await new Promise((resolve) => setTimeout(resolve, 10));
};

await askUntil("sale");
await askUntil("fallback");
await askUntil("sale");
console.log(JSON.stringify(requests));
