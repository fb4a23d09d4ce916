// Plays visits with the SDK for browsers, unchanged, in the window of jsdom: alone, with one of its plugins, or as the
// packages for React and Next.js start it.
//
// in:  {"url", "experiences", "parts"}: the server, the experiences as the SDK's mappers want them, and of `sdk`, `react`,
//      `next`, `ssr`, `privacy`, `preview`, `insights` those to play the visits with
// out: {part: {"told": {step: what the SDK knows after it, ...}, "sent": [[method, path, status, query]], "errors"}}

const { memory, openWindow } = require('./window.js');

const pluginMakers = ({ url, experiences }) => ({
  ssr: () => new (require('@ninetailed/experience.js-plugin-ssr').NinetailedSsrPlugin)(),
  privacy: (options) =>
    new (require('@ninetailed/experience.js-plugin-privacy').NinetailedPrivacyPlugin)(options),
  insights: () => new (require('@ninetailed/experience.js-plugin-insights').NinetailedInsightsPlugin)({ url }),
  preview: () => new (require('@ninetailed/experience.js-plugin-preview').NinetailedPreviewPlugin)({
    experiences, audiences: [{ id: 'members', name: 'Members' }], ui: { opener: { hide: true } } }),
});

const until = async (met) => {
  for (let tries = 0; !met() && tries < 24000; tries += 1) await new Promise((resolve) => setTimeout(resolve, 5));
};

const state = ({ profileState }) => ({
  status: profileState.status,
  id: profileState.profile && profileState.profile.id,
  traits: profileState.profile && profileState.profile.traits,
  audiences: profileState.profile && profileState.profile.audiences,
  experiences: profileState.experiences,
  changes: profileState.changes,
  cookie: document.cookie,
});

const play = async (order, part) => {
  const [sent, errors, told] = [[], [], {}];
  const { url, experiences } = order;
  const makers = pluginMakers(order);
  const mounted = ['react', 'next'].includes(part) && require('./mounted.js');
  const { Ninetailed } = require('@ninetailed/experience.js');

  /** Starts the SDK on a device of its own. */
  const start = (plugins, options = {}) => {
    openWindow(sent);
    const onError = (...messages) => errors.push(messages.map(String).join(' '));
    const all = { url, plugins, storageImpl: memory(), requestTimeout: 30000, onError, ...options };
    const client = { clientId: 'acme', environment: 'main' };
    return mounted ? mounted.mount(part, { ...client, ...all }, experiences) : new Ninetailed(client, all);
  };
  const consent = async (plugin) => {
    await until(() => window.ninetailed && window.ninetailed.consent);
    window.ninetailed.consent(true);
    await until(() => plugin.isConsentGiven()); // the SDK stores it later
  };
  const plugins = () => (part in makers ? [makers[part]()] : []);
  const device = async (options) => {
    const loaded = plugins();
    const sdk = start(loaded, options);
    if (part === 'privacy') await consent(loaded[0]);
    return sdk;
  };
  const step = async (name, sdk, call) => {
    await call();
    told[name] = state(sdk);
    if (mounted) told[name].page = await mounted.settled();
  };
  // The package for Next.js sends a page event by itself: as it is mounted, and for each route.
  const see = (sdk) => (part === 'next' ? until(() => sdk.profileState.status === 'success') : sdk.page());
  const select = (sdk) => new Promise((resolve) => {
    sdk.onSelectVariant({ baseline: { id: 'greeting' }, experiences }, (chosen) => {
      if (chosen.status === 'success') resolve({ index: chosen.variantIndex });
    });
  });

  const user = `jo-${part}@shop.example`;
  const phone = await device({ locale: 'de' });
  await step('create', phone, () => see(phone));
  await step('update', phone, () => phone.track('add_to_cart', { sku: 'tea-1' }));
  await step('identify', phone, () => phone.identify(user, { plan: 'member' }));
  const greeting = told.identify.experiences.find((each) => each.experienceId === 'member-greeting');
  const other = 3 - greeting.variantIndex;
  await step('sticky', phone, () =>
    phone.trackStickyComponentView({ experienceId: 'member-greeting', componentId: 'greeting', variantIndex: other }));
  await step('batch', phone, () =>
    phone.batch([phone.eventBuilder.track('order_completed', { total: 120 }), phone.eventBuilder.page()]));
  told.selected = await select(phone);
  if (part === 'next') {
    for (const path of ['/pricing', '/pricing/teams']) {
      const before = sent.length;
      window.history.pushState({}, '', path);
      mounted.navigate(path);
      await until(() => sent.length > before);
    }
    await step('routes', phone, () => until(() => state(phone).audiences.includes('pricing-visitors')));
  }

  const laptop = await device();
  await step('second', laptop, () => see(laptop));
  await step('merge', laptop, () => laptop.identify(user, {}));
  await step('reset', laptop, () => laptop.reset());
  await step('anew', laptop, () => laptop.page());

  if (part === 'preview') {
    const preview = makers.preview();
    const panel = start([preview]);
    await step('previewed', panel, () => panel.page());
    preview.activateAudience('members');
    preview.setExperienceVariant({ experienceId: 'member-greeting', variantIndex: 2 });
    told.preview = await select(panel);
  }

  const before = sent.length;
  const privacy = makers.privacy({ allowedEvents: [], allowedPageEventProperties: [] });
  const shy = start(part === 'privacy' ? [privacy] : [privacy, ...plugins()]);
  await step('withoutConsent', shy, () => shy.page());
  told.withoutConsent.requests = sent.length - before;
  await consent(privacy);
  await step('consent', shy, () => shy.identify('', { newsletter: true }));
  return { told, sent, errors };
};

const main = async () => {
  const order = JSON.parse(require('fs').readFileSync(0, 'utf8'));
  const visits = {};
  for (const part of order.parts) {
    visits[part] = await play(order, part).catch((error) => ({ failed: error.stack }));
  }
  require('fs').writeSync(1, JSON.stringify(visits));
  process.exit(0); // the SDK's timers would keep the process
};

main();
