// Opens pages of the inspector: node inspect.js CHROMIUM URL FOLDER [KEY] < [[name, path, steps, stranger], ...]
// A step is ["fill" | "select" | "click", selector, value]. Pages of a stranger, who has not signed in, are marked by a
// fourth member and come last. Prints for each page what axe finds, whether it scrolls
// sideways, its size without pictures, and requests that left. SCREENSHOTS=1 writes pictures into the folder.

const fs = require("fs");
const { chromium } = require("playwright-core");

const [executablePath, url, folder, key] = process.argv.slice(2);
const pages = JSON.parse(fs.readFileSync(0, "utf8"));
const args = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const contexts = [
  { colorScheme: "light", widths: [1280, 390], judged: 1280 },
  { colorScheme: "dark", widths: [1280, 390], judged: 390 },
];
const axe = fs.readFileSync(require.resolve("axe-core"), "utf8"); // evaluated: the policy forbids a script element

async function signIn(page) {
  await page.goto(`${url}/inspector/find`);
  await page.fill("#key", key);
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
}

// By keyboard alone: past the navigation, search, open the first visitor, open what decided.
async function byKeyboard(page) {
  await page.goto(`${url}/inspector/find`);
  await page.keyboard.press("Tab");
  const first = await page.evaluate(() => document.activeElement.className);
  await page.keyboard.press("Enter");
  await page.keyboard.press("Tab");
  const field = await page.evaluate(() => document.activeElement.id);
  await page.keyboard.type("plan=member");
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  for (let step = 0; step < 40; step++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.closest("main ul.plain a") !== null)) break;
  }
  await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  for (let step = 0; step < 40; step++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate(() => document.activeElement.tagName === "SUMMARY")) break;
  }
  await page.keyboard.press("Enter");
  const opened = await page.evaluate(() => document.querySelectorAll("details[open]").length);
  const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  return { first, field, path: new URL(page.url()).pathname, opened, ring };
}

// The live page looks by itself, under its policy.
async function live(page) {
  await page.goto(`${url}/inspector/live`);
  const library = { name: "browser", version: "7.0.0" };
  const properties = { path: "/seen-live", query: {}, referrer: "", search: "", url: "/seen-live" };
  const event = { type: "page", channel: "web", messageId: "live", context: { library }, properties };
  const profiles = `${url}/v2/organizations/default/environments/main/profiles`;
  await fetch(profiles, { method: "POST", body: JSON.stringify({ events: [event] }) });
  await page.waitForSelector("#arrivals >> text=/seen-live", { timeout: 120000 });
  await page.keyboard.press("Tab");
  await page.click("#pause");
  return await page.evaluate(() => document.getElementById("pause").getAttribute("aria-pressed"));
}

async function main() {
  const browser = await chromium.launch({ executablePath, args });
  try {
    const lists = await Promise.all(contexts.map(async ({ widths, judged, ...options }) => {
      const told = [];
      const context = await browser.newContext(options);
      const page = await context.newPage();
      const outside = [];
      const errors = [];
      page.on("request", (request) => request.url().startsWith(url) || request.url().startsWith("data:") || outside.push(request.url()));
      page.on("pageerror", (error) => errors.push(String(error)));
      page.on("console", (message) => message.type() === "error" && !message.text().startsWith("Failed to load resource") && errors.push(message.text()));
      page.on("dialog", (dialog) => { errors.push(`dialog ${dialog.message()}`); dialog.dismiss(); });
      let keyboard = null, watched = null;
      if (key) await signIn(page);
      if (options.colorScheme === "light") {
        keyboard = await byKeyboard(page);
        watched = await live(page);
      }
      for (const [name, path, steps, stranger] of pages) {
        for (const width of widths) {
          await page.setViewportSize({ width, height: 900 });
          if (stranger) await context.clearCookies();
          await page.goto(url + path);
          for (const [verb, selector, value] of steps || []) {
            if (verb === "fill") await page.fill(selector, value);
            else if (verb === "select") await page.selectOption(selector, value);
            else await Promise.all([page.waitForNavigation(), page.click(selector)]);
          }
          const look = await page.evaluate(() => ({
            sideways: document.documentElement.scrollWidth > window.innerWidth,
            text: document.body.innerText,
            marks: window.hostile ?? null,
            bytes: document.documentElement.outerHTML.replace(/<svg[\s\S]*?<\/svg>/g, "").length,
            headings: [...document.querySelectorAll("h1, h2, h3")].map((each) => each.tagName).join(" "),
          }));
          const scheme = options.colorScheme;
          if (process.env.SCREENSHOTS) await page.screenshot({ path: `${folder}/${name}-${scheme}-${width}.png`, fullPage: true });
          let serious = null;
          if (width === judged) {
            await page.evaluate(axe);
            const found = await page.evaluate(() => window.axe.run());
            serious = found.violations.filter(({ impact }) => impact === "serious" || impact === "critical")
              .map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 200)}`);
          }
          told.push({ name, scheme, width, serious, ...look });
        }
      }
      told.push({ name: "", outside, errors, keyboard, watched });
      await context.close();
      return told;
    }));
    console.log(JSON.stringify(lists.flat()));
  } finally {
    await browser.close();
  }
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
