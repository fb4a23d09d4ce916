// Plays a page with the SDK for browsers and its plugin for Insights, unchanged, in the window of jsdom.
//
// in:  a line {"url", "clientId", "environment", "experience"}, then a line for each further moment: any text
// out: a line for each: {"id", "index", "sent": [[way, path, type of the body, status]], "errors"}

const readline = require('readline');
const { JSDOM } = require('jsdom');

const { window } = new JSDOM('<!doctype html><title>Tea</title><button id=hero>Tea</button>', {
  url: 'http://localhost:3000/', pretendToBeVisual: true,
});
const names = ['document', 'navigator', 'localStorage', 'sessionStorage', 'Element', 'Node', 'CustomEvent', 'Event'];
for (const name of [...names, 'HTMLElement']) {
  Object.defineProperty(globalThis, name, { value: window[name], configurable: true, writable: true });
}
Object.assign(globalThis, { window, location: window.location, MutationObserver: window.MutationObserver });
const [watchers, sent, errors, pending] = [[], [], [], []];
globalThis.IntersectionObserver = class {
  constructor(callback) { watchers.push(callback); }
  observe() {}
  unobserve() {}
  disconnect() {}
};
window.IntersectionObserver = globalThis.IntersectionObserver;

// jsdom has no sendBeacon: as in a browser, it sends a POST whose answer no script sees.
const post = async (way, address, init) => {
  const response = await originalFetch(address, init);
  const type = typeof init.body === 'string' ? init.headers['Content-Type'] : init.body.type;
  sent.push([way, new URL(address).pathname, type, response.status]);
  return response;
};
const originalFetch = globalThis.fetch;
globalThis.fetch = (address, init) => post('fetch', address, init);
window.navigator.sendBeacon = (address, blob) => {
  pending.push(post('beacon', address, { method: 'POST', body: blob }));
  return true;
};

const visibility = (state) => {
  Object.defineProperty(window.document, 'visibilityState', { value: state, configurable: true });
  window.document.dispatchEvent(new window.Event('visibilitychange'));
};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const until = async (met) => {
  for (let tries = 0; !met() && tries < 12000; tries += 1) await pause(10);
};
const hide = async () => {
  const before = pending.length;
  visibility('hidden');
  await until(() => pending.length > before);
  await Promise.all(pending);
};

let sdk;
const begin = async ({ url, clientId, environment, experience }) => {
  const { Ninetailed } = require('@ninetailed/experience.js');
  const { NinetailedInsightsPlugin } = require('@ninetailed/experience.js-plugin-insights');
  sdk = new Ninetailed({ clientId, environment }, {
    url,
    plugins: [new NinetailedInsightsPlugin({ url })],
    componentViewTrackingThreshold: 0,
    requestTimeout: 30000,
    onError: (...messages) => errors.push(messages.map(String).join(' ')),
  });
  await sdk.page();
  const [chosen] = sdk.profileState.experiences.filter((each) => each.experienceId === experience);
  const element = window.document.getElementById('hero');
  const variant = { id: chosen.variants.hero };
  const shown = { element, experience: { id: experience, type: 'nt_experiment' }, variant, variantIndex: chosen.variantIndex };
  sdk.observeElement({ ...shown, componentType: 'Entry' }, { delay: 0, trackClicks: true });
  return { index: chosen.variantIndex, element };
};

const main = async () => {
  let state;
  for await (const line of readline.createInterface({ input: process.stdin })) {
    if (!state) {
      state = await begin(JSON.parse(line));
      watchers.forEach((seen) => seen([{ isIntersecting: true, target: state.element }]));
      state.element.click();
    } else {
      visibility('visible'); // the element is still in view: a view of its own
    }
    await pause(40);
    await hide(); // the end of the view, longer than its beginning, and everything that waits
    const id = sdk.profileState.profile && sdk.profileState.profile.id;
    process.stdout.write(`${JSON.stringify({ id, index: state.index, sent, errors })}\n`);
  }
  process.exit(0); // the SDK's timers would keep the process
};

main();
