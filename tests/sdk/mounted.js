// A page whose components are the vendor's for React or Next.js: two entries that experiences replace, a merge tag, a flag.

const { createElement: make, Fragment } = require('react');
const { flushSync } = require('react-dom');
const { createRoot } = require('react-dom/client');

const replaces = ({ components }, id) => components.some(({ baseline }) => baseline.id === id);

const Entry = ({ id }) => make('p', null, id);

/** The router of Next.js for pages, as far as a page hears of routes. */
const makeRouter = () => {
  const { default: mitt } = require('next/dist/shared/lib/mitt');
  return { asPath: '/', events: mitt() };
};

let [router, view] = [null, null];

/** Renders the page in a new element and returns the SDK that the provider made. */
const mount = (library, settings, experiences) => {
  const kit = require(`@ninetailed/experience.js-${library}`);
  let sdk;
  const Page = () => {
    sdk = kit.useNinetailed();
    const flag = kit.useFlag('free-shipping-from', 0);
    return make(Fragment, null,
      ...['greeting', 'banner'].map((id) => make('section', { id, key: id },
        make(kit.Experience, { id, component: Entry, experiences: experiences.filter((each) => replaces(each, id)) }))),
      make('section', { id: 'plan' }, make(kit.MergeTag, { id: 'traits.plan', fallback: 'nobody' })),
      make('section', { id: 'flag' }, JSON.stringify(flag)));
  };
  let page = make(kit.NinetailedProvider, settings, make(Page));
  if (library === 'next') {
    router = makeRouter();
    const { RouterContext } = require('next/dist/shared/lib/router-context.shared-runtime');
    page = make(RouterContext.Provider, { value: router }, page);
  }
  view = document.body.appendChild(document.createElement('main'));
  const root = createRoot(view);
  flushSync(() => root.render(page));
  return sdk;
};

const navigate = (path) => router.events.emit('routeChangeComplete', path);

/** What the newest page says, by section, once React has nothing left to do. */
const settled = async () => {
  const read = () => Object.fromEntries([...view.querySelectorAll('section')].map((each) => [each.id, each.textContent]));
  // As many turns of the event loop, not as much time: a busy machine may make few of them in a while.
  let page = read();
  for (let quiet = 0; quiet < 20; quiet += 1) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    const now = read();
    if (JSON.stringify(now) !== JSON.stringify(page)) [page, quiet] = [now, 0];
  }
  return page;
};

module.exports = { mount, navigate, settled };
