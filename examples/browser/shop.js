// The browser side of the example shops: the SDK sends its events to the API that the shop itself mounts.

import { Ninetailed } from "@ninetailed/experience.js";
import NinetailedSsrPlugin from "@ninetailed/experience.js-plugin-ssr";

// What the server has evaluated for this page: the SDK falls back on it when the API cannot be reached.
const handed = JSON.parse(document.getElementById("visitor").textContent);
if (handed.profile.id) {
  localStorage.setItem("__nt_profile__", JSON.stringify(handed.profile));
  localStorage.setItem("__nt_experiences__", JSON.stringify(handed.experiences));
}

const ninetailed = new Ninetailed(
  { clientId: "default", environment: "main" },
  // The plugin takes the profile's id from the cookie that the server has set, and keeps the two the same.
  { url: `${location.origin}/ninetailed`, plugins: [new NinetailedSsrPlugin()] },
);

ninetailed.onProfileChange(({ status, profile, experiences }) => {
  if (status !== "success") return;
  window.shop = { profile, experiences };
  document.getElementById("browser-id").textContent = profile.id;
  document.getElementById("browser-audiences").textContent = profile.audiences.join(", ") || "none";
  document.getElementById("browser-experiences").textContent =
    experiences.map(({ experienceId, variantIndex }) => `${experienceId} ${variantIndex}`).join(", ") || "none";
});

ninetailed.page();

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
