// Renders on a server with the SDK for Node, as a preflight, and sends the same events with the browser's client.
//
// in:  {"url", "clientId", "environment", "times"}
// out: [{"foreseen", "created", "again": the three answers}], one for each visitor

const { NinetailedAPIClient } = require('@ninetailed/experience.js-node');
const { NinetailedApiClient, buildPageEvent } = require('@ninetailed/experience.js-shared');
const { randomUUID } = require('crypto');

const run = async ({ url, clientId, environment, times }) => {
  const server = new NinetailedAPIClient({ url, clientId, environment });
  // A connection of its own for each request, so that another worker may answer it.
  const fetchImpl = (address, init) => fetch(address, { ...init, headers: { ...init.headers, Connection: 'close' } });
  const browser = new NinetailedApiClient({ url, clientId, environment, fetchImpl });
  const visit = async () => {
    const ctx = { url: 'https://shop.example/', referrer: '', locale: 'en', userAgent: '' };
    const events = [buildPageEvent({ messageId: randomUUID(), timestamp: Date.now(), ctx, properties: {} })];
    const options = { timeout: 30000 };
    const foreseen = await server.createProfile({ events }, { ...options, preflight: true });
    // Two tabs, or a page that is restored: the same events twice at the same moment.
    const [created, again] = await Promise.all([1, 2].map(() => browser.createProfile({ events }, options)));
    return { foreseen, created, again };
  };
  return Promise.all(Array.from({ length: times }, visit));
};

run(JSON.parse(require('fs').readFileSync(0, 'utf8'))).then(
  (told) => process.stdout.write(JSON.stringify(told)),
  (error) => { throw error; },
);
