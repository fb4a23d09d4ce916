// The browser side of the example shops: the SDK sends its events to the API that the shop itself mounts.

import { Ninetailed } from "@ninetailed/experience.js";
import NinetailedSsrPlugin from "@ninetailed/experience.js-plugin-ssr";

// The block of nt_browser: where the API is, and what the server decided for this page.
const page = JSON.parse(document.getElementById("ninetailed").textContent);

// The SDK falls back on the server's decision when it cannot reach the API.
if (page.handoff?.profile) {
  localStorage.setItem("__nt_profile__", JSON.stringify(page.handoff.profile));
  localStorage.setItem("__nt_experiences__", JSON.stringify(page.handoff.experiences));
}

const ninetailed = new Ninetailed(
  { clientId: page.clientId, environment: page.environment },
  // The plugin takes the profile's id from the cookie that the server has set, and keeps the two the same.
  { url: location.origin + page.url, plugins: [new NinetailedSsrPlugin({ cookie: page.cookie })] },
);

ninetailed.onProfileChange(({ status, profile, experiences }) => {
  if (status !== "success") return;
  window.shop = { profile, experiences };
  document.getElementById("browser-id").textContent = `${profile.id.slice(0, 8)}…`;
  document.getElementById("browser-audiences").textContent = profile.audiences.join(", ") || "none";
  document.getElementById("browser-experiences").textContent =
    experiences.map(({ experienceId, variantIndex }) => `${experienceId} ${variantIndex}`).join(", ") || "none";
});

if (page.consent) ninetailed.page();

for (const button of document.querySelectorAll("[data-tea]")) {
  button.addEventListener("click", async () => {
    button.disabled = true;
    await ninetailed.track("add_to_cart", { tea: button.dataset.tea });
    location.reload();
  });
}

document.getElementById("join").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  await ninetailed.identify("", { firstname: form.get("firstname"), plan: "member" });
  location.assign("/");
});
