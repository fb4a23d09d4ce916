// Stands in for @contentful/optimization-react-web 2.0.1, which npm cannot install: the package that it needs is missing.
// It takes the same options and sends a page event as the vendor's sources do: to the id of the handoff or the cookie.

const ids = () => Object.fromEntries(document.cookie.split("; ").map((each) => each.split("=")));

export function OptimizationRoot({ spaceId, environment, api, cookie, defaults, handoff }) {
  if (handoff && !["preserve-server", "client-only-hidden-until-ready"].includes(handoff.hydration)) {
    throw new TypeError("no handoff of content");
  }
  const id = ids()["ctfl-opt-aid"] ?? handoff?.state.profile?.id;
  const path = `v3/spaces/${spaceId}/environments/${environment}/profiles${id ? `/${id}` : ""}`;
  const properties = { path: location.pathname, query: {}, referrer: "", search: "", url: location.href };
  const library = { name: "@contentful/optimization-react-web", version: "2.0.1" };
  const event = {
    type: "page",
    channel: "web",
    messageId: crypto.randomUUID(),
    originalTimestamp: new Date().toISOString(),
    context: { library, page: properties, campaign: {}, locale: "en", gdpr: { isConsentGiven: true } },
    properties,
  };
  if (!defaults.consent) return;
  fetch(new URL(path, api.experienceBaseUrl), {
    method: "POST",
    headers: { "Content-Type": "text/plain" },
    body: JSON.stringify({ events: [event], options: { features: ["ip-enrichment", "location"] } }),
  })
    .then((answer) => answer.json())
    .then(({ data }) => {
      const seconds = (cookie.expires ?? 365) * 86400;
      document.cookie = `ctfl-opt-aid=${data.profile.id}; path=/; max-age=${seconds}`;
    });
}
