// Plays visits with the SDK for browsers and its plugins, unchanged, in the window of jsdom; then the SDK for Node.
//
// in:  a line {"url", "experiences"}: the server and the experiences as the SDK's mappers want them
// out: a line {step: what the SDK knows after it, ...}, "sent": [[method, path]], "cookie"

const readline = require('readline');
const { JSDOM } = require('jsdom');

const PAGE = 'https://shop.example/';

const openWindow = (url = PAGE) => {
  const { window } = new JSDOM('<!doctype html><title>Tea</title>', { url, pretendToBeVisual: true });
  // What the SDK looks for in a browser. Each device is a window of its own.
  for (const name of ['window', 'document', 'navigator', 'localStorage', 'Element', 'Node', 'CustomEvent', 'Event']) {
    const value = name === 'window' ? window : window[name];
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
  }
  globalThis.HTMLElement = window.HTMLElement;
  globalThis.MutationObserver = window.MutationObserver;
  globalThis.location = window.location;
  globalThis.IntersectionObserver = class {
    observe() {}
    unobserve() {}
    disconnect() {}
  };
  window.IntersectionObserver = globalThis.IntersectionObserver;
  return window;
};

const memory = () => {
  const items = new Map();
  return {
    getItem: (key) => items.get(key),
    setItem: (key, value) => items.set(key, value),
    removeItem: (key) => items.delete(key),
  };
};

const runNode = async (url) => {
  const { NinetailedAPIClient } = require('@ninetailed/experience.js-node');
  const client = new NinetailedAPIClient({ url, clientId: 'acme', environment: 'main', fetchImpl: fetch });
  const options = { anonymousId: 'from-node', timeout: 30000 };
  return {
    identified: await client.sendIdentifyEvent('', { plan: 'member' }, options),
    tracked: await client.sendTrackEvent('', 'add_to_cart', { sku: 'tea-1' }, options),
    merged: await client.sendIdentifyEvent('jo@shop.example', {}, options),
    read: await client.getProfile('from-node', { timeout: 30000 }),
  };
};

const run = async ({ url, experiences }) => {
  const sent = [];
  const errors = [];
  const send = async (address, init) => {
    const response = await fetch(address, init);
    sent.push([init.method, new URL(address).pathname, response.status, new URL(address).search]);
    return response;
  };
  openWindow();
  const { Ninetailed } = require('@ninetailed/experience.js');
  const { NinetailedApiClient } = require('@ninetailed/experience.js-shared');
  const { NinetailedSsrPlugin } = require('@ninetailed/experience.js-plugin-ssr');
  const { NinetailedInsightsPlugin } = require('@ninetailed/experience.js-plugin-insights');
  const { NinetailedPreviewPlugin } = require('@ninetailed/experience.js-plugin-preview');
  const { NinetailedPrivacyPlugin } = require('@ninetailed/experience.js-plugin-privacy');

  const start = (plugins, options = {}) => {
    const client = new NinetailedApiClient({ url, clientId: 'acme', environment: 'main', fetchImpl: send });
    return new Ninetailed(client, {
      plugins,
      storageImpl: memory(),
      requestTimeout: 30000,
      onError: (...messages) => errors.push(messages.map(String).join(' ')),
      ...options,
    });
  };
  const state = ({ profileState }) => ({
    status: profileState.status,
    id: profileState.profile && profileState.profile.id,
    traits: profileState.profile && profileState.profile.traits,
    audiences: profileState.profile && profileState.profile.audiences,
    location: profileState.profile && profileState.profile.location,
    experiences: profileState.experiences,
    changes: profileState.changes,
    cookie: document.cookie,
  });
  const told = {};
  const step = async (name, sdk, call) => {
    await call();
    told[name] = state(sdk);
  };

  const phone = start([new NinetailedSsrPlugin(), new NinetailedInsightsPlugin({ url })], { locale: 'de' });
  await step('create', phone, () => phone.page());
  await step('update', phone, () => phone.track('add_to_cart', { sku: 'tea-1' }));
  await step('identify', phone, () => phone.identify('jo@shop.example', { plan: 'member' }));
  const greeting = told.identify.experiences.find((each) => each.experienceId === 'member-greeting');
  await step('sticky', phone, () =>
    phone.trackStickyComponentView({
      experienceId: 'member-greeting', componentId: 'greeting', variantIndex: 3 - greeting.variantIndex,
    }));
  await step('batch', phone, () =>
    phone.batch([phone.eventBuilder.track('order_completed', { total: 120 }), phone.eventBuilder.page()]));
  told.selected = await new Promise((resolve) => {
    phone.onSelectVariant({ baseline: { id: 'greeting' }, experiences }, (chosen) => {
      if (chosen.status === 'success') resolve({ index: chosen.variantIndex, variant: chosen.variant.id });
    });
  });

  document.cookie = 'ntaid=; expires=Thu, 01 Jan 1970 00:00:00 GMT';
  const laptop = start([new NinetailedSsrPlugin()]);
  await step('second', laptop, () => laptop.page());
  await step('merge', laptop, () => laptop.identify('jo@shop.example', {}));

  const preview = new NinetailedPreviewPlugin({
    experiences, audiences: [{ id: 'members', name: 'Members' }], ui: { opener: { hide: true } } });
  const panel = start([preview]);
  await step('previewed', panel, () => panel.page());
  preview.activateAudience('members');
  preview.setExperienceVariant({ experienceId: 'member-greeting', variantIndex: 2 });
  told.preview = await new Promise((resolve) => {
    panel.onSelectVariant({ baseline: { id: 'greeting' }, experiences }, (chosen) => {
      if (chosen.status === 'success') resolve({ index: chosen.variantIndex });
    });
  });

  const before = sent.length;
  const privacy = new NinetailedPrivacyPlugin({ allowedEvents: [], allowedPageEventProperties: [] });
  const shy = start([privacy]);
  await step('withoutConsent', shy, () => shy.page());
  told.withoutConsent.requests = sent.length - before;
  window.ninetailed.consent(true);
  while (!privacy.isConsentGiven()) {
    await new Promise((resolve) => setTimeout(resolve, 1)); // the SDK stores it later
  }
  await step('consent', shy, () => shy.identify('', { newsletter: true }));

  await step('reset', laptop, () => laptop.reset());
  await step('anew', laptop, () => laptop.page());
  told.node = await runNode(url);
  return { told, sent, errors };
};

const main = async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const answer = await run(JSON.parse(line)).catch((error) => ({ failed: error.stack }));
    process.stdout.write(`${JSON.stringify(answer)}\n`);
    process.exit(0); // the SDK's timers would keep the process
  }
};

main();
