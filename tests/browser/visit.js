// Visits a shop as a person would, and prints what each page showed, as JSON: visit.js CHROMIUM URL SCREENSHOTS

const { chromium } = require("playwright-core");

const [executablePath, url, screenshots] = process.argv.slice(2);

// What the server rendered and handed over, what the SDK knows, and what keeps the profile's id.
const read = () => {
  const text = (id) => document.getElementById(id)?.textContent ?? null;
  const stored = localStorage.getItem("__nt_anonymous_id__");
  return {
    path: location.pathname,
    banner: text("banner"),
    hero: text("hero"),
    greeting: text("greeting"),
    name: text("name"),
    limit: text("limit"),
    server: JSON.parse(text("ninetailed")).handoff,
    browser: window.shop,
    cookie: document.cookie,
    stored,
  };
};

async function main() {
  const browser = await chromium.launch({
    executablePath,
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync",
    ],
  });
  try {
    const context = await browser.newContext({ viewport: { width: 1100, height: 800 }, locale: "de-AT" });
    const page = await context.newPage();
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    const seen = [];
    const look = async () => {
      await page.waitForFunction(() => window.shop && document.readyState === "complete");
      seen.push(await page.evaluate(read));
      if (process.env.SCREENSHOTS) await page.screenshot({ path: `${screenshots}/${seen.length}.png`, fullPage: true });
    };
    for (const path of ["/", "/pricing", "/pricing/business", "/"]) {
      await page.goto(url + path);
      await look();
    }
    const answered = (type) => page.waitForResponse((response) =>
      response.url().includes("/profiles") && (response.request().postData() ?? "").includes(`"type":"${type}"`));
    await Promise.all([answered("track"), page.waitForEvent("load"), page.click("[data-tea]")]);
    await look();
    await page.fill("[name=firstname]", "Änne <3");
    await Promise.all([answered("identify"), page.waitForEvent("load"), page.click("#join button")]);
    await look();
    // Seen for a second, and clicked: the beacon tells, and no policy stops it.
    const told = (type) => page.waitForRequest((request) =>
      request.url().includes("/v1/") && (request.postData() ?? "").includes(`"type":"${type}"`));
    await Promise.all([told("component"), page.goto(url + "/")]);
    await Promise.all([told("component_click"), page.click("#hero")]);
    // The panel: what it says of the page, the control instead of the offer, and the end of the preview.
    const reads = (open) => page.evaluate((open) => {
      const shadow = document.querySelector("nt-panel").shadowRoot;
      const hero = document.getElementById("hero").textContent;
      if (!open) return { hero, status: shadow.querySelector(".tab").firstChild.textContent };
      const [aside, boxes] = [shadow.querySelector("aside"), shadow.querySelectorAll(".box")];
      return { hero, text: aside.textContent, marks: boxes.length };
    }, open);
    const panel = {};
    await page.click("nt-panel .tab");
    await page.setViewportSize({ width: 1280, height: 800 });
    panel.before = await reads(true);
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${screenshots}/panel.png` });
    const script = await (await page.request.get(`${url}/ninetailed/panel.js`)).body();
    panel.bytes = script.length + await page.evaluate(() => document.getElementById("ninetailed-panel").textContent.length);
    await Promise.all([page.waitForNavigation(), page.click('nt-panel [data-key="experience pricing-offer 0"]')]);
    panel.after = await reads(true);
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${screenshots}/panel-preview.png` });
    await Promise.all([page.waitForNavigation(), page.click("nt-panel .bar button")]);
    panel.ended = await reads(false);
    const refused = await browser.newContext({ extraHTTPHeaders: { "Sec-GPC": "1" } });
    const other = await refused.newPage();
    const sent = [];
    other.on("request", (request) => request.method() === "POST" && sent.push(request.url()));
    await other.goto(url + "/");
    const tracked = await other.evaluate(() => document.querySelectorAll("[data-nt-track]").length);
    await other.click("#hero");
    await other.waitForTimeout(2500);
    const withoutConsent = { sent, tracked, cookies: await refused.cookies() };
    await page.setViewportSize({ width: 390, height: 800 });
    if (process.env.SCREENSHOTS) await page.screenshot({ path: `${screenshots}/phone.png`, fullPage: true });
    console.log(JSON.stringify({ seen, errors, withoutConsent, panel }));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
