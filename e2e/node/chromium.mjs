// A real browser that does one task per line of stdin, each with a fresh profile, and answers with a line on stdout.
//
// A task: {"url", "press": [[button name, value]…], "scheme": "light"|"dark", "width", "height", "script": bool, "shot": file}.
// Nothing but localhost and 127.0.0.1 is reached.
// The answer: {"url", "status", "title", "text", "complaints", "seen": [title…], "overflow": bool} or {"error"}.
import { chromium } from 'playwright-core';
import { createInterface } from 'node:readline';

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1'],
});

async function perform(task) {
  const context = await browser.newContext({
    viewport: { width: task.width, height: task.height }, colorScheme: task.scheme, javaScriptEnabled: task.script,
  });
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(15000);
    const complaints = [];
    let status;
    page.on('console', (m) => { if (m.type() === 'error' || m.type() === 'warning') complaints.push(`${m.text()} ${m.location().url.split('?')[0]}`); });
    page.on('pageerror', (e) => complaints.push(String(e)));
    page.on('requestfailed', (r) => complaints.push(`${r.url().split('?')[0]} failed: ${r.failure()?.errorText}`));
    page.on('response', (r) => { if (r.request().isNavigationRequest()) status = r.status(); });
    await page.goto(task.url);
    const seen = [await page.title()];
    for (const [name, value] of task.press ?? []) {
      await page.locator(`button[name="${name}"]` + (value ? `[value="${value}"]` : '')).click();
      await page.waitForLoadState();
      seen.push(await page.title());
    }
    const overflow = task.script
      && await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
    if (task.shot) await page.screenshot({ path: task.shot, fullPage: true });
    return { url: page.url(), status, seen, title: await page.title(), text: await page.locator('body').innerText(), complaints, overflow };
  } finally {
    await context.close();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const answer = await perform(JSON.parse(line)).catch((e) => ({ error: String(e) }));
  console.log(JSON.stringify(answer));
}
await browser.close();
