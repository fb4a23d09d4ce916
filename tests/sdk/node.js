// Calls the SDK for Node, unchanged, as a server does that renders pages and hands on what its shop knows.
//
// in:  {"url", "clientId", "environment", "ip"}
// out: {step: what the SDK returned}

const { NinetailedAPIClient } = require('@ninetailed/experience.js-node');
const build = require('@ninetailed/experience.js-shared');
const { randomUUID } = require('crypto');

const run = async ({ url, clientId, environment, ip }) => {
  const client = new NinetailedAPIClient({ url, clientId, environment });
  const timeout = { timeout: 30000 };
  const event = (name, members = {}) => build[name]({
    messageId: randomUUID(), timestamp: Date.now(), properties: {},
    ctx: { url: 'https://shop.example/', referrer: '', locale: 'en', userAgent: '' }, ...members,
  });
  const first = [event('buildPageEvent')];
  const foreseen = await client.createProfile({ events: first }, { ...timeout, preflight: true });
  const created = await client.createProfile({ events: first }, timeout);
  const { id } = created.profile;
  const update = (events, options) => client.upsertProfile({ profileId: id, events }, { ...timeout, ...options });
  const member = await update([event('buildIdentifyEvent', { userId: '', traits: { plan: 'member' } })]);
  const given = member.experiences.find((each) => each.experienceId === 'member-greeting').variantIndex;
  const view = { experienceId: 'member-greeting', componentId: 'greeting', variantIndex: 3 - given };
  return {
    foreseen,
    created,
    member,
    seen: await update([event('buildComponentViewEvent', view)]),
    spender: await update([event('buildTrackEvent', { event: 'order_completed', properties: { total: 120 } })]),
    placed: await update([event('buildTrackEvent', { event: 'add_to_cart' })],
      { enabledFeatures: ['location'], ip, locale: 'ja' }),
    identified: await client.sendIdentifyEvent('jo@shop.example', { newsletter: true }, { ...timeout, anonymousId: id }),
    tracked: await client.sendTrackEvent('', 'add_to_cart', { sku: 'tea-1' }, { ...timeout, anonymousId: 'laptop' }),
    guest: await client.sendIdentifyEvent(null, { theme: 'dark' }, { ...timeout, anonymousId: 'kiosk' }),
    merged: await client.sendIdentifyEvent('jo@shop.example', {}, { ...timeout, anonymousId: 'laptop' }),
    read: await client.getProfile('laptop', timeout),
  };
};

run(JSON.parse(require('fs').readFileSync(0, 'utf8'))).then(
  (told) => process.stdout.write(JSON.stringify(told)),
  (error) => { throw error; },
);
