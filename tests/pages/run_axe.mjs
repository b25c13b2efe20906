// Loads pages in Chromium, light, dark and narrow, without a network, and prints what axe-core finds as JSON; the first
// and the last of what each page offers for download go into a folder of its name:
//   node run_axe.mjs CHROMIUM FOLDER PAGE...
// {"violations": [{page, look, rule, impact, nodes: [html]}], "requests": [url], "errors": [text], "checked": number,
//  "loaded": {page: milliseconds}}
import { createRequire } from "node:module";
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [chromium, folder, ...pages] = process.argv.slice(2);
// What is folded is unfolded for the first two, and not for the last.
// What is the same in all looks is looked at once; contrast takes longest, and a width does not change it.
const looks = {
  light: { scheme: "light", width: 1280, options: {} },
  dark: { scheme: "dark", width: 1280, options: { runOnly: ["color-contrast"] } },
  narrow: { scheme: "light", width: 390, options: { rules: { "color-contrast": { enabled: false } } } },
};
const found = { violations: [], requests: [], errors: [], checked: 0, loaded: {} };
const browser = await puppeteer.launch({
  executablePath: chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"],
});
try {
  for (const path of pages) {
    const url = pathToFileURL(path).href;
    const page = await browser.newPage();
    page.on("request", (request) => {
      if (request.url() !== url && !request.url().startsWith("data:")) found.requests.push(request.url());
    });
    page.on("pageerror", (error) => found.errors.push(`${path}: ${error.message}`));
    page.on("dialog", (dialog) => {
      found.errors.push(`${path}: a dialog: ${dialog.message()}`);
      dialog.dismiss();
    });
    const started = performance.now();
    await page.goto(url, { waitUntil: "load" });
    found.loaded[path] = performance.now() - started;
    // The page's policy forbids scripts that it brings along; ours runs by the debugger, which is not asked.
    await page.evaluate(axe);
    for (const [look, { scheme, width, options }] of Object.entries(looks)) {
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth + 1)) {
        found.errors.push(`${path}: ${look}: wider than the window`);
      }
      await page.evaluate((open) => {
        for (const each of document.querySelectorAll("details")) each.open = open;
      }, look !== "narrow");
      const results = await page.evaluate((options) => window.axe.run(document, options), options);
      found.checked += results.passes.length;
      for (const each of results.violations) {
        const nodes = each.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 300)} ${node.failureSummary}`);
        found.violations.push({ page: path, look, rule: each.id, impact: each.impact, nodes });
      }
    }
    const downloadPath = join(folder, basename(path, ".html"));
    const session = await page.createCDPSession();
    await session.send("Browser.setDownloadBehavior", { behavior: "allow", downloadPath });
    const links = await page.$$("a[download]");
    for (const link of links.filter((_, i) => i === 0 || i === links.length - 1)) {
      const name = await link.evaluate((each) => (each.click(), each.download));
      const there = () => existsSync(join(downloadPath, name));
      for (let waited = 0; !there() && waited < 500; waited++) await new Promise((done) => setTimeout(done, 10));
      if (!there()) found.errors.push(`${path}: no download: ${name}`);
    }
    await page.close();
  }
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(found, null, 2) + "\n");
