// A page with the vendor's SDK and its preview plugin, which lists what the service says there is.

import { Ninetailed } from "@ninetailed/experience.js";
import { NinetailedPreviewPlugin } from "@ninetailed/experience.js-plugin-preview";
import { AudienceMapper, ExperienceMapper } from "@ninetailed/experience.js-utils-contentful";

const { data } = await (await fetch("/entries")).json();
window.rejected = [
  ...data.audiences.filter((entry) => !AudienceMapper.isAudienceEntry(entry)),
  ...data.experiences.filter((entry) => !ExperienceMapper.isExperienceEntry(entry)),
];
const experiences = data.experiences.map(ExperienceMapper.mapExperience);
const preview = new NinetailedPreviewPlugin({
  audiences: data.audiences.map(AudienceMapper.mapAudience),
  experiences,
  url: `${location.origin}/widget`,
});
const ninetailed = new Ninetailed(
  { clientId: "default", environment: "main" },
  { url: `${location.origin}/ninetailed`, plugins: [preview] },
);
ninetailed.onSelectVariant({ baseline: { id: "hero" }, experiences }, (chosen) => {
  if (chosen.status === "success") document.getElementById("hero").textContent = chosen.variant.id;
});
await ninetailed.page();
window.panel = preview;
window.ready = true;
