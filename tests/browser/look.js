// Visits pages, each as STEPS say, and prints what each came to, as JSON: look.js CHROMIUM URL STEPS
//
// a step: {"path": the page, "cookie": a cookie that the visitor has from now on}

const { chromium } = require("playwright-core");

const [executablePath, url, steps] = process.argv.slice(2);

const read = () => ({
  heading: document.querySelector("h1").textContent,
  block: JSON.parse(document.getElementById("ninetailed").textContent),
  cookies: Object.fromEntries(document.cookie.split("; ").filter(Boolean).map((each) => each.split("="))),
  stored: Object.keys(localStorage),
});

async function main() {
  const browser = await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
  });
  try {
    const context = await browser.newContext();
    const page = await context.newPage();
    const errors = [];
    let sent = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => {
      const isIcon = message.location().url.endsWith("/favicon.ico"); // which the browser asks for and no site has
      if (message.type() === "error" && !isIcon) errors.push(message.text());
    });
    page.on("response", (response) => {
      const path = new URL(response.url()).pathname;
      if (path.startsWith("/ninetailed/")) sent.push([response.request().method(), path, response.status()]);
    });
    const seen = [];
    for (const step of JSON.parse(steps)) {
      if (step.cookie) await context.addCookies([{ name: step.cookie, value: "yes", url }]);
      sent = [];
      await page.goto(url + step.path, { waitUntil: "networkidle" });
      seen.push({ ...(await page.evaluate(read)), sent });
    }
    console.log(JSON.stringify({ seen, errors }));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
