// A browser for the SDK: the window of jsdom, and requests that are noted.

const { JSDOM } = require('jsdom');

const PAGE = 'https://shop.example/';
const NAMES = ['document', 'navigator', 'localStorage', 'Element', 'Node', 'HTMLElement', 'MutationObserver',
  'CustomEvent', 'Event', 'location', 'getComputedStyle'];

const originalFetch = globalThis.fetch;

/** Opens a window as the global one; each request is noted in `sent` as [method, path, status, query]. */
const openWindow = (sent) => {
  const { window } = new JSDOM('<!doctype html><title>Tea</title>', { url: PAGE, pretendToBeVisual: true });
  Object.defineProperty(globalThis, 'window', { value: window, configurable: true, writable: true });
  for (const name of NAMES) {
    Object.defineProperty(globalThis, name, { value: window[name], configurable: true, writable: true });
  }
  globalThis.IntersectionObserver = class {
    observe() {}
    unobserve() {}
    disconnect() {}
  };
  window.IntersectionObserver = globalThis.IntersectionObserver;
  globalThis.fetch = async (address, init) => {
    const response = await originalFetch(address, init);
    const { pathname, search } = new URL(address);
    sent.push([init.method, pathname, response.status, search]);
    return response;
  };
};

const memory = () => {
  const items = new Map();
  return {
    getItem: (key) => items.get(key),
    setItem: (key, value) => items.set(key, value),
    removeItem: (key) => items.delete(key),
  };
};

module.exports = { memory, openWindow };
