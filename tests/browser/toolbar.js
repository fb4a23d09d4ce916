// Opens a Django page with its debug toolbar and the panel, at two widths: toolbar.js CHROMIUM URL SCREENSHOTS

const { chromium } = require("playwright-core");

const [executablePath, url, screenshots] = process.argv.slice(2);
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

async function main() {
  const browser = await chromium.launch({ executablePath, args });
  try {
    const told = { errors: [], looks: [] };
    for (const width of [1280, 390]) {
      const context = await browser.newContext({ viewport: { width, height: 800 } });
      const page = await context.newPage();
      page.on("pageerror", (error) => told.errors.push(String(error)));
      await page.goto(url);
      await page.waitForSelector("nt-panel .tab");
      // Both closed: neither handle lies over the other.
      const handle = page.locator("#djDebugToolbarHandle");
      if (!(await handle.isVisible())) await page.click("#djHideToolBarButton");
      const boxes = { toolbar: await handle.boundingBox(), panel: await page.locator("nt-panel .tab").boundingBox() };
      await page.click("nt-panel .tab");
      await page.waitForSelector("nt-panel aside");
      if (process.env.SCREENSHOTS) await page.screenshot({ path: `${screenshots}/toolbar-${width}.png` });
      const text = await page.textContent("nt-panel aside");
      await page.click("nt-panel .close");
      await page.click("#djShowToolBarButton");
      const opened = await page.locator("#djHideToolBarButton").isVisible();
      const panels = await page.locator("nt-panel").count();
      told.looks.push({ width, boxes, text, opened, panels });
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
