import { Ninetailed } from "@ninetailed/experience.js";
import NinetailedSsrPlugin from "@ninetailed/experience.js-plugin-ssr";

const page = JSON.parse(document.getElementById("ninetailed").textContent);

window.visitor = new Ninetailed(
  { clientId: page.clientId, environment: page.environment },
  { url: location.origin + page.url, plugins: [new NinetailedSsrPlugin({ cookie: page.cookie })] },
);
if (page.consent) window.visitor.page(); // without consent, call it when the visitor gives it
