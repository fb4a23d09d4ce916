// Opens pages of the inspector at two widths: node inspect.js CHROMIUM URL FOLDER [KEY] < [[name, path], ...]
// Prints for each what axe finds, whether it scrolls sideways, its size, and requests that left.

const fs = require("fs");
const { chromium } = require("playwright-core");

const [executablePath, url, folder, key] = process.argv.slice(2);
const pages = JSON.parse(fs.readFileSync(0, "utf8"));
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

async function main() {
  const browser = await chromium.launch({ executablePath, args });
  try {
    const told = [];
    for (const scheme of ["light", "dark"]) {
      const context = await browser.newContext({ colorScheme: scheme, bypassCSP: scheme === "dark" });
      const page = await context.newPage();
      const outside = [];
      const errors = [];
      page.on("request", (request) => request.url().startsWith(url) || request.url().startsWith("data:") || outside.push(request.url()));
      page.on("pageerror", (error) => errors.push(String(error)));
      page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
      page.on("dialog", (dialog) => { errors.push(`dialog ${dialog.message()}`); dialog.dismiss(); });
      if (key) {
        await page.goto(`${url}/inspector/find`);
        await page.fill("#key", key);
        await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
        errors.length = 0; // the page that asked for the key was a 401
      }
      for (const [name, path] of pages) {
        for (const width of [1280, 390]) {
          await page.setViewportSize({ width, height: 900 });
          await page.goto(url + path);
          const sideways = await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
          const bytes = (await page.content()).length;
          const text = await page.evaluate(() => document.body.innerText);
          const marks = await page.evaluate(() => window.hostile ?? null);
          await page.screenshot({ path: `${folder}/${name}-${scheme}-${width}.png`, fullPage: true });
          let serious = [];
          if (scheme === "dark" || width === 1280) {
            // axe needs to run a script, which the policy of the page forbids.
            if (scheme === "dark") {
              await page.addScriptTag({ path: require.resolve("axe-core") });
              const found = await page.evaluate(() => window.axe.run());
              serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical")
                .map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)}`);
            }
          }
          told.push({ name, scheme, width, sideways, bytes, text, marks, serious });
        }
      }
      told.push({ name: "", scheme, outside, errors });
      await context.close();
    }
    console.log(JSON.stringify(told));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
