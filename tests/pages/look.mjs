// node look.mjs MODULES PROFILE PAGE...: opens each page in Chromium, narrow and wide, light and dark, with all details
// open, and prints what was found as JSON: {page: [{width, scheme, ...}]}. Screenshots and a print lie beside the page.
import fs from "fs";
import path from "path";
import { createRequire } from "module";

const [modules, profile, ...pages] = process.argv.slice(2);
const { chromium } = createRequire(path.join(modules, "any.js"))("playwright-core");
const axe = fs.readFileSync(path.join(modules, "axe-core", "axe.min.js"), "utf8");
const args = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

// What reaches over the window's edge outside a box of its own or out of its figure, and what stands first.
const look = () => {
  const outside = [...document.querySelectorAll("main *")].filter((each) => !each.closest(".scroll")
    && each.getBoundingClientRect().right > innerWidth + 0.5).map((each) => each.outerHTML.slice(0, 120));
  const unreached = [...document.querySelectorAll("main *")].filter((each) => each.scrollWidth > each.clientWidth + 1
    && ["auto", "scroll"].includes(getComputedStyle(each).overflowX) && each.tabIndex < 0)
    .map((each) => each.outerHTML.slice(0, 120));
  const lead = document.querySelector(".lead"), bottom = (each) => each.getBoundingClientRect().bottom + scrollY;
  const cut = [...document.querySelectorAll("figure svg text")].filter((each) => {
    const text = each.getBoundingClientRect(), all = each.closest("svg").getBoundingClientRect();
    return text.right > all.right + 2 || text.left < all.left - 2 || text.bottom > all.bottom + 2
      || text.top < all.top - 2;
  }).map((each) => each.textContent);
  return { page: document.scrollingElement.scrollWidth, window: innerWidth, outside, unreached, cut,
    lead: lead && { bottom: bottom(lead), link: bottom(lead.querySelector("a")), text: lead.textContent } };
};

const browser = await chromium.launchPersistentContext(profile, { executablePath: process.env.CHROMIUM, args,
  permissions: ["clipboard-read", "clipboard-write"] });
const found = {};
for (const file of pages) {
  found[file] = [];
  for (const [width, height] of [[400, 900], [1200, 800]]) {
    for (const scheme of ["light", "dark"]) {
      const page = await browser.newPage();
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme: scheme });
      await page.goto(`file://${file}`);
      const shut = await page.evaluate(look);
      const button = page.locator("button[data-copy]");
      let copied = null, command = null;
      if (await button.count()) {
        await page.evaluate(() => navigator.clipboard.writeText("nothing"));
        await button.click();
        await page.waitForFunction(() => document.querySelector("button[data-copy]").textContent === "Copied");
        copied = await page.evaluate(() => navigator.clipboard.readText());
        command = await page.evaluate(() => document.getElementById(
          document.querySelector("button[data-copy]").dataset.copy).textContent);
      }
      await page.evaluate(() => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
      const open = await page.evaluate(look);
      await page.evaluate(axe);
      const { violations } = await page.evaluate(() => axe.run());
      found[file].push({ ...open, lead: shut.lead, width, height, scheme, copied, command, violations: violations.map(
        (each) => `${each.id}: ${each.nodes.map((node) => node.html.slice(0, 120)).slice(0, 3).join(" | ")}`) });
      await page.evaluate(() => scrollTo(0, 0));
      await page.screenshot({ path: file.replace(/\.html$/, `-${width}-${scheme}.png`), fullPage: true });
      await page.close();
    }
  }
  const page = await browser.newPage();
  await page.goto(`file://${file}`);
  await page.pdf({ path: file.replace(/\.html$/, ".pdf") });
  await page.close();
}
await browser.close();
console.log(JSON.stringify(found));
