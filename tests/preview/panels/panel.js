// Uses the panel as a person does, at two widths, light and dark: node panel.js CHROMIUM URL FOLDER < JSON
// The JSON has `links`, `others` and `foreign`; prints what was seen, what axe finds, and what left.

const fs = require("fs");
const { chromium } = require("playwright-core");

const [executablePath, url, folder] = process.argv.slice(2);
const { link, foreign } = JSON.parse(fs.readFileSync(0, "utf8"));
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const root = "nt-panel";

// Pairs of texts in the panel that lie over each other, and whatever reaches beyond the window.
const overlaps = () => {
  const shadow = document.querySelector("nt-panel").shadowRoot;
  const aside = shadow.querySelector("aside");
  const leaves = [...aside.querySelectorAll("button, summary, h2, h3, dt, dd, p, li, strong, label")]
    .filter((each) => each.offsetParent && each.checkVisibility());
  const boxes = leaves.map((each) => [each, each.getBoundingClientRect()]);
  const found = [];
  for (const [a, x] of boxes) {
    if (x.left < -0.5 || x.right > innerWidth + 0.5) found.push(`beyond: ${a.textContent.slice(0, 40)}`);
    for (const [b, y] of boxes) {
      if (a === b || a.contains(b) || b.contains(a)) continue;
      if (x.left < y.right - 1 && y.left < x.right - 1 && x.top < y.bottom - 1 && y.top < x.bottom - 1) {
        const header = shadow.querySelector("header"), body = shadow.querySelector(".body");
        if (header.contains(a) !== header.contains(b) && (body.contains(a) || body.contains(b))) continue; // scrolled
        found.push(`${a.textContent.slice(0, 30)} over ${b.textContent.slice(0, 30)}`);
      }
    }
  }
  return found;
};

async function main() {
  const browser = await chromium.launch({ executablePath, args });
  const told = { looks: [], errors: [], outside: [] };
  const watched = async (options) => {
    const context = await browser.newContext(options);
    const page = await context.newPage();
    page.on("pageerror", (error) => told.errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && told.errors.push(message.text()));
    page.on("dialog", (dialog) => { told.errors.push(`dialog ${dialog.message()}`); dialog.dismiss(); });
    page.on("request", (request) => {
      if (![url, "data:", foreign].some((each) => request.url().startsWith(each))) told.outside.push(request.url());
    });
    return page;
  };
  const state = (page) => page.evaluate(() => {
    const shadow = document.querySelector("nt-panel")?.shadowRoot;
    const active = shadow?.activeElement;
    return {
      hero: document.getElementById("hero").textContent,
      cookies: document.cookie,
      open: shadow ? !shadow.querySelector("aside").hidden : null,
      text: shadow ? shadow.querySelector("aside").textContent : null,
      marks: shadow ? [...shadow.querySelectorAll(".box")].map((each) => each.textContent) : [],
      focus: active ? active.dataset.key ?? active.className : null,
      hostile: window.hostile ?? null,
      scroll: scrollY,
      other: document.getElementById("widget")?.shadowRoot?.textContent ?? null,
    };
  });
  try {
    for (const scheme of ["light", "dark"]) {
      for (const width of [1280, 390]) {
        const page = await watched({ colorScheme: scheme, viewport: { width, height: 800 }, bypassCSP: scheme === "dark" });
        await page.goto(link);
        await page.waitForSelector(`${root} .tab`);
        const shot = (name) => process.env.SCREENSHOTS && page.screenshot({ path: `${folder}/${name}-${scheme}-${width}.png` });
        const closed = await state(page);
        await shot("closed");
        await page.click(`${root} .tab`);
        await page.waitForSelector(`${root} aside`);
        await shot("open");
        const found = await page.evaluate(overlaps);
        await page.click(`${root} summary >> nth=0`);
        await page.evaluate(() => document.querySelector("nt-panel").shadowRoot.querySelector("details").scrollIntoView());
        await shot("audiences");
        const more = await page.evaluate(overlaps);
        const sideways = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth ||
          document.querySelector("nt-panel").shadowRoot.querySelector(".body").scrollWidth >
          document.querySelector("nt-panel").shadowRoot.querySelector(".body").clientWidth);
        let serious = null;
        if (scheme === "dark" || width === 1280) {
          const other = scheme === "dark" ? page : await watched({ viewport: { width, height: 800 }, bypassCSP: true });
          if (other !== page) { await other.goto(link); await other.click(`${root} .tab`); await other.click(`${root} summary >> nth=0`); }
          await other.addScriptTag({ path: require.resolve("axe-core") });
          const report = await other.evaluate(() => window.axe.run());
          serious = report.violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
            .map(({ id, nodes }) => `${id}: ${nodes.map((node) => `${node.html.slice(0, 120)} ${node.any[0]?.message ?? ""}`).join(" | ")}`);
        }
        told.looks.push({ scheme, width, closed, opened: await state(page), overlaps: [...found, ...more], sideways, serious });
        await page.context().close();
      }
    }
    // By keyboard alone: to the panel, through a switch, and out.
    const page = await watched({ viewport: { width: 1280, height: 800 } });
    await page.goto(link);
    await page.waitForSelector(`${root} .tab`);
    const press = async (key, until, most = 60) => {
      for (let step = 0; step < most; step++) {
        await page.keyboard.press(key);
        const now = await state(page);
        if (until(now)) return now;
      }
      throw new Error(`${key}: never there; ${JSON.stringify(await state(page))}`);
    };
    await press("Tab", ({ focus }) => (focus ?? "").startsWith("tab"));
    await page.keyboard.press("Enter");
    await page.evaluate(() => scrollTo(0, 300));
    told.keyboard = { opened: await state(page) };
    await press("Tab", ({ focus }) => focus === "experience member-hero 0");
    await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
    await page.waitForSelector(`${root} aside`);
    told.keyboard.switched = await state(page);
    await press("Shift+Tab", ({ focus }) => focus === "experience member-hero auto");
    await Promise.all([page.waitForNavigation(), page.keyboard.press("Space")]);
    told.keyboard.natural = await state(page);
    await page.click(`${root} summary >> nth=0`);
    await Promise.all([page.waitForNavigation(), page.click(`${root} [data-key="audience members on"]`)]);
    told.keyboard.audience = await state(page);
    await page.keyboard.press("Escape");
    told.keyboard.escaped = await state(page);
    told.address = page.url();
    // Another site knows the address of a switch, and no proof.
    const stranger = await page.context().newPage();
    await stranger.goto(foreign);
    await Promise.all([stranger.waitForNavigation(), stranger.click("a")]);
    told.foreign = { text: await stranger.textContent("body"), url: stranger.url() };
    await page.reload();
    told.after = await state(page);
    // A page whose service worker answers its requests, switches among them.
    const worked = await page.context().newPage();
    await worked.goto(`${url}/worked`);
    await worked.evaluate(() => navigator.serviceWorker.ready);
    await worked.reload();
    await worked.waitForSelector(`${root} .tab`);
    told.workedAt = worked.url();
    const controlled = await worked.evaluate(() => Boolean(navigator.serviceWorker.controller));
    if (!(await state(worked)).open) await worked.click(`${root} .tab`);
    await Promise.all([worked.waitForNavigation(), worked.click(`${root} [data-key="experience member-hero 1"]`)]);
    told.worker = { controlled, ...(await state(worked)) };
    // A base element that leads to another host, as an injection would.
    await worked.evaluate((href) => {
      const base = document.createElement("base");
      base.href = href;
      document.head.prepend(base);
    }, foreign);
    const [switched] = await Promise.all([
      worked.waitForNavigation(), worked.click(`${root} [data-key="experience member-hero 0"]`),
    ]);
    told.based = { url: worked.url(), status: switched.status(), ...(await state(worked)) };
    await worked.close();
    // The end.
    await page.click(`${root} .tab`);
    await Promise.all([page.waitForNavigation(), page.click(`${root} .bar button`)]);
    told.ended = await state(page);
    told.address = page.url();
    // A path that looks like the name of another host.
    await page.goto(link);
    await page.goto(`${url}//localhost:1/x`);
    if (!(await state(page)).open) await page.click(`${root} .tab`);
    await Promise.all([page.waitForNavigation(), page.click(`${root} .bar button`)]);
    told.odd = page.url();
    console.log(JSON.stringify(told));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
