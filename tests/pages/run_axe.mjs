// Loads pages in Chromium, light, dark and narrow, without a network, and prints what axe-core finds as JSON:
//   node run_axe.mjs CHROMIUM PAGE...
// {"violations": [{page, look, rule, impact, nodes: [html]}], "requests": [url], "errors": [text], "checked": number,
//  "loaded": {page: milliseconds, the slowest look}}
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import puppeteer from "puppeteer-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const [chromium, ...pages] = process.argv.slice(2);
const looks = {
  light: { scheme: "light", width: 1280 },
  dark: { scheme: "dark", width: 1280 },
  narrow: { scheme: "light", width: 390 },
};
const found = { violations: [], requests: [], errors: [], checked: 0, loaded: {} };
const browser = await puppeteer.launch({
  executablePath: chromium,
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND"],
});
try {
  for (const path of pages) {
    const url = pathToFileURL(path).href;
    for (const [look, { scheme, width }] of Object.entries(looks)) {
      const page = await browser.newPage();
      page.on("request", (request) => {
        if (request.url() !== url && !request.url().startsWith("data:")) found.requests.push(request.url());
      });
      page.on("pageerror", (error) => found.errors.push(`${path}: ${error.message}`));
      page.on("dialog", (dialog) => {
        found.errors.push(`${path}: a dialog: ${dialog.message()}`);
        dialog.dismiss();
      });
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      const started = performance.now();
      await page.goto(url, { waitUntil: "load" });
      found.loaded[path] = Math.max(found.loaded[path] ?? 0, performance.now() - started);
      if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth + 1)) {
        found.errors.push(`${path}: ${look}: wider than the window`);
      }
      // The page's policy forbids scripts that it brings along; ours runs by the debugger, which is not asked.
      await page.evaluate(axe);
      const results = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      found.checked += results.passes.length;
      for (const each of results.violations) {
        const nodes = each.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 300)} ${node.failureSummary}`);
        found.violations.push({ page: path, look, rule: each.id, impact: each.impact, nodes });
      }
      await page.close();
    }
  }
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify(found, null, 2) + "\n");
