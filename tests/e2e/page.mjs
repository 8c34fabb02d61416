// The live page in a real browser: page.mjs URL DIRECTORY. Tells what it found as JSON and leaves a picture of each look in the directory.
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const { chromium } = createRequire(path.join(root, 'build/node/node_modules/any.js'))('playwright-core');
const [url, directory] = process.argv.slice(2);

const LOOKS = [
  { name: 'wide-light', viewport: { width: 1280, height: 900 }, colorScheme: 'light' },
  { name: 'wide-dark', viewport: { width: 1280, height: 900 }, colorScheme: 'dark' },
  { name: 'phone-light', viewport: { width: 375, height: 760 }, colorScheme: 'light', isMobile: true, deviceScaleFactor: 2 },
  { name: 'phone-dark', viewport: { width: 375, height: 760 }, colorScheme: 'dark', isMobile: true, deviceScaleFactor: 2 },
];

const rows = (page, id) => page.$$eval(`#${id} tbody tr`, (all) => all.map((row) => [...row.cells].map((cell) => cell.textContent)));

async function look(browser, { name, ...options }) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const complaints = [], elsewhere = [];
  page.on('console', (message) => complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('request', (request) => request.url().startsWith(url) || elsewhere.push(request.url()));
  await page.addInitScript(() => {
    window.violations = [];
    document.addEventListener('securitypolicyviolation', (event) => window.violations.push(event.violatedDirective));
  });
  await page.goto(url);
  await page.waitForFunction(() => document.getElementById('status').textContent === 'ready' && calls[0].length >= 4
    && calls[1].some((rate) => rate > 0));
  const found = {
    name, complaints, elsewhere,
    violations: await page.evaluate(() => window.violations),
    overflow: await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
    cut: await page.$$eval('.card', (all) => all.filter((card) => card.scrollWidth > card.clientWidth).map((card) => card.innerText)),
    ground: await page.evaluate(() => getComputedStyle(document.body).backgroundColor),
    canvases: await page.$$eval('canvas', (all) => all.length),
    stored: await page.$eval('#store', (list) => list.innerText),
  };
  for (const id of ['estate', 'decisions', 'reasons', 'fmr', 'galleries', 'workers'])
    found[id] = await rows(page, id);
  found.injected = await page.evaluate(() => {
    const script = document.createElement('script');
    script.textContent = 'window.injected = true';
    document.body.append(script);
    return window.injected === true;
  });
  await page.screenshot({ path: path.join(directory, `${name}.png`), fullPage: true });
  await context.close();
  return found;
}

const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });
try {
  console.log(JSON.stringify(await Promise.all(LOOKS.map((one) => look(browser, one)))));
} finally {
  await browser.close();
}
