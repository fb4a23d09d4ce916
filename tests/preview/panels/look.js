// Opens the page, lets the vendor's panel force a variant, and prints what it listed and what the page showed: CHROMIUM URL

const { chromium } = require("playwright-core");

const [executablePath, url] = process.argv.slice(2);
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

async function main() {
  const browser = await chromium.launch({ executablePath, args });
  try {
    const page = await browser.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    const outside = [];
    page.on("request", (request) => request.url().startsWith(url) || outside.push(request.url()));
    await page.goto(url);
    await page.waitForFunction(() => window.ready && window.ninetailed?.plugins?.preview);
    const shown = () => page.textContent("#hero");
    const listed = await page.evaluate(() => {
      const { experiences, audienceDefinitions } = window.panel.pluginApi; // what the vendor's window shows
      return { experiences: experiences.map(({ id }) => id), audiences: audienceDefinitions.map(({ id }) => id) };
    });
    const told = { ...listed, rejected: await page.evaluate(() => window.rejected), before: await shown() };
    await page.evaluate(() => window.panel.activateAudience("members"));
    await page.evaluate(() =>
      window.panel.setExperienceVariant({ experienceId: "member-hero", variantIndex: 1 }));
    await page.waitForFunction((before) => document.getElementById("hero").textContent !== before, told.before);
    told.after = await shown();
    console.log(JSON.stringify({ ...told, errors, outside }));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
