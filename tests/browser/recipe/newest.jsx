import { OptimizationRoot } from "@contentful/optimization-react-web";

const page = JSON.parse(document.getElementById("ninetailed").textContent);
const base = new URL(`${page.url}/`, location.href).href;

export const Root = ({ children }) => (
  <OptimizationRoot
    spaceId={page.spaceId}
    environment={page.environment}
    api={{ experienceBaseUrl: base, insightsBaseUrl: base }}
    cookie={page.cookie}
    defaults={{ consent: page.consent }}
    handoff={page.handoff ?? undefined}
  >
    {children}
  </OptimizationRoot>
);
