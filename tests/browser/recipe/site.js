import { Ninetailed } from "@ninetailed/experience.js";
import NinetailedSsrPlugin from "@ninetailed/experience.js-plugin-ssr";

const { clientId, environment, url, cookie, consent } = JSON.parse(document.getElementById("ninetailed").textContent);
const options = { url: location.origin + url, plugins: [new NinetailedSsrPlugin({ cookie })] };
window.visitor = new Ninetailed({ clientId, environment }, options);
if (consent) window.visitor.page(); // without consent, call it when the visitor gives it
