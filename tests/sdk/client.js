// Runs calls of the official client: a line of JSON in, a line of JSON out.
//
// in:  {"url", "clientId", "environment", "call", "profileId", "events", "options", "headers"}; an event is {"build", "with",
//      "also"}: the name of the SDK's function that builds it, what it gets, and members that are added afterwards
// out: {"answer" or "error", "sent": [{method, url, headers, body}], "received": [{status, traceparent}], "log"}

const readline = require('readline');
const sdk = require('@ninetailed/experience.js-shared');

const build = (event) => ({ ...sdk[event.build](event.with), ...event.also });

const callClient = (client, { call, profileId, events, options }) => {
  const built = (events || []).map(build);
  if (call === 'getProfile') {
    return client.getProfile(profileId, options);
  }
  return client[call]({ profileId, events: built }, options);
};

const run = async (order) => {
  const [sent, received, log] = [[], [], []];
  const fetchImpl = async (url, init) => {
    sent.push({ method: init.method, url, headers: init.headers, body: init.body });
    const response = await fetch(url, { ...init, headers: { ...init.headers, ...order.headers } });
    received.push({ status: response.status, traceparent: response.headers.get('traceparent') });
    return response;
  };
  sdk.logger.addSink(new sdk.OnErrorLogSink((message) => log.push(String(message))));
  const { url, clientId, environment } = order;
  const client = new sdk.NinetailedApiClient({ url, clientId, environment, fetchImpl });
  try {
    const answer = await callClient(client, order);
    return { answer, sent, received, log };
  } catch (error) {
    return { error: { name: error.name, message: error.message, status: error.status }, sent, received, log };
  }
};

const main = async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(`${JSON.stringify(await run(JSON.parse(line)))}\n`);
  }
};

main();
