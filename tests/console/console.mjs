// What a browser sees of the console: the real program, Debian's Chromium, axe-core. Started by tests/it/console.rs.
//
// CONSOLE_URL    where the program listens
// CONSOLE_SHOTS  folder for screenshots
// HOOK_TOKEN     bearer token of the connector `order-agents`

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { seed, ask, deploy } from "./story.mjs";

const { CONSOLE_URL: url, CONSOLE_SHOTS: shots } = process.env;
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SIZES = [{ width: 1280, height: 800 }, { width: 390, height: 844 }];
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"];

setTimeout(() => { console.error("not done after five minutes"); process.exit(2); }, 300_000).unref();
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: FLAGS });
const problems = [];
try {
  await check("sign in at the provider", signIn);
  await seed();
  await check("pictures for the documents", pictures);
  await check("a request arrives by itself and the focus stays", arrives);
  await check("deny with a reason, and see the proof", denies);
  await check("keys move between questions and never answer one", keys);
  await check("alike questions are answered together", alike);
  await check("a half-written reason outlives a refresh", halfWritten);
  await check("a viewer sees and cannot answer", viewer);
  await check("nobody approves their own agent", ownAgent);
  await check("a forged token and a replayed form fail", forged);
  await check("the essential paths work without script", withoutScript);
  await check("no page has a serious accessibility problem", pages);
} finally {
  await browser.close();
}
if (problems.length) {
  console.error(problems.join("\n\n"));
  process.exit(1);
}

async function check(name, run) {
  const begun = Date.now();
  try {
    await run();
    console.log(`ok   ${name} (${Date.now() - begun} ms)`);
  } catch (error) {
    console.log(`FAIL ${name}`);
    problems.push(`${name}: ${error.stack}`);
  }
}

/** A page of somebody who has signed in. Anything that the page complains about is a failure. */
async function as(user, options = {}) {
  const context = await browser.newContext({ viewport: SIZES[0], ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(10_000);
  page.on("pageerror", (error) => problems.push(`${user}: ${error}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !/status of 4\d\d/.test(message.text())) problems.push(`${user}: ${message.text()}`);
  });
  page.on("request", (request) => {
    const elsewhere = new URL(request.url()).origin !== url && !request.isNavigationRequest();
    if (elsewhere) problems.push(`${user}: a request to ${request.url()}`);
  });
  await page.goto(`${url}/console/`);
  await page.getByRole("link", { name: "Continue with Acme ID" }).click();
  await page.getByRole("link", { name: user, exact: true }).click();
  await page.waitForURL(/console\/queue/);
  return page;
}

async function signIn() {
  const page = await as("ann");
  assert.match(await page.locator(".who").innerText(), /Ann Approver/);
  assert.match(await page.locator("#list").innerText(), /nothing waits/i);
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.goto(`${url}/console/receipts`);
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  await page.context().close();
}

/** What docs/images shows. */
async function pictures() {
  for (const [name, viewport] of [["docs-queue", SIZES[0]], ["docs-phone", SIZES[1]]]) {
    const page = await as("ann", { viewport });
    await page.locator("[data-row]", { hasText: "release-agent" }).first().click();
    await page.locator("#detail").getByText("Prepare the release of shop 4.2").first().waitFor();
    await page.evaluate(() => document.activeElement.blur());
    await page.screenshot({ path: join(shots, `${name}.png`) });
    await page.context().close();
  }
}

async function arrives() {
  const page = await as("ann");
  const before = await page.locator("[data-row]").count();
  const nav = page.getByRole("link", { name: "Policies" });
  await nav.focus();
  await ask({ ...deploy("arrives", { service: "billing", version: "7.1" }), agent: { id: "release-agent-7" } });
  await page.locator("[data-row]").nth(before).waitFor();
  assert.ok(await nav.evaluate((link) => link === document.activeElement), "the focus has moved");
  await page.waitForFunction(() => /\d+ questions? (are|is) open/.test(document.getElementById("announcer").textContent));
  await page.context().close();
}

async function denies() {
  const page = await as("ann");
  await page.locator("[data-row]", { hasText: "deploy" }).first().click();
  const detail = page.locator("#detail");
  await detail.getByText("Prepare the release of shop 4.2").first().waitFor();
  const text = await detail.innerText();
  for (const shown of ["production", "What it would run", "Who", "Data and risk", "prod-deploy-needs-oncall", "left until it is denied"]) {
    assert.ok(text.includes(shown), `the approver does not see: ${shown}`);
  }
  await page.getByLabel("Reason").fill("Not before the freeze ends");
  await page.getByRole("button", { name: "Deny" }).click();
  await page.getByText("Denied.").waitFor();
  await page.getByRole("link", { name: "See the receipt" }).click();
  await page.getByRole("heading", { name: "Verified", exact: true }).waitFor();
  const proof = await page.locator(".proof").innerText();
  for (const part of ["Signature", "In the log", "Checkpoint", "Disclosed content", "Session chain"]) assert.ok(proof.includes(part), part);
  assert.equal(await page.locator(".checks .fails").count(), 0);
  assert.ok((await page.locator("main").innerText()).includes("Not before the freeze ends"));
  await page.context().close();
}

async function keys() {
  const page = await as("ann");
  const open = await page.locator("[data-row]").count();
  assert.ok(open > 1, "the story leaves several questions");
  const current = () => page.locator("[data-row][aria-current]").getAttribute("href");
  const first = await current();
  await page.keyboard.press("j");
  await page.waitForFunction((href) => document.querySelector("[data-row][aria-current]").getAttribute("href") !== href, first);
  await page.keyboard.press("k");
  await page.waitForFunction((href) => document.querySelector("[data-row][aria-current]").getAttribute("href") === href, first);
  await page.keyboard.press("a");
  assert.equal(await page.evaluate(() => document.activeElement.id), "approve");
  await page.keyboard.press("d");
  assert.equal(await page.evaluate(() => document.activeElement.id), "reason");
  await page.keyboard.press("Escape");
  await page.keyboard.press("?");
  await page.getByRole("heading", { name: "Keys" }).waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("[data-row]").count(), open, "a key has answered a question");
  await page.context().close();
}

async function alike() {
  const page = await as("ann");
  const group = page.locator("[data-row]", { hasText: "send_mail" }).filter({ hasText: "×" });
  await group.click();
  await page.locator(".alike summary").click();
  const boxes = page.locator(".alike input");
  const count = await boxes.count();
  assert.ok(count >= 2, "three mails were asked for");
  for (let at = 0; at < count; at++) await boxes.nth(at).check();
  await page.getByRole("button", { name: "Approve" }).click();
  await page.getByText("Approved.").first().waitFor();
  assert.equal(await page.getByText("Approved.").count(), count + 1);
  await page.context().close();
}

async function halfWritten() {
  const page = await as("ann");
  await page.getByLabel("Reason").fill("I am still wri");
  const reads = page.waitForResponse((response) => response.url().includes("/console/queue?seen="));
  await ask({ ...deploy("worse", { amount: 99, currency: "eur" }), effect: "pay", tool: { namespace: "bank", name: "transfer" } });
  await (await reads).finished();
  await page.waitForTimeout(300);
  assert.equal(await page.getByLabel("Reason").inputValue(), "I am still wri");
  assert.equal(await page.evaluate(() => document.activeElement.id), "reason");
  await page.context().close();
}

async function viewer() {
  const page = await as("vic");
  await page.locator("[data-row]").first().click();
  await page.getByText("answering it takes the role approver").waitFor();
  assert.equal(await page.getByRole("button", { name: "Approve" }).count(), 0);
  await page.goto(`${url}/console/halt`);
  assert.equal(await page.getByRole("button", { name: "Halt" }).count(), 0);
  await page.context().close();
}

async function ownAgent() {
  await ask({ ...deploy("own", { service: "billing" }), agent: { id: "bobs-agent" } });
  const page = await as("bob");
  await page.locator("[data-row]", { hasText: "Bob Builder" }).first().click();
  await page.getByRole("button", { name: "Approve" }).click();
  await page.getByText("may not approve an action of their own agent").waitFor();
  await page.context().close();
}

async function forged() {
  const page = await as("ann");
  const form = page.locator("#answer");
  await form.waitFor();
  await form.locator("[name=csrf]").evaluate((field) => { field.value = "forged"; });
  await page.getByRole("button", { name: "Deny" }).click();
  await page.getByRole("heading", { name: "Form refused" }).waitFor();
  await page.goto(`${url}/console/queue`);
  const fields = await page.locator("#answer").evaluate((form) => [...new FormData(form)].map(([name, value]) => [name, String(value)]));
  await page.getByRole("button", { name: "Deny" }).click();
  await page.getByText("Denied.").waitFor();
  const replay = await page.evaluate(async (fields) => {
    const body = new URLSearchParams([...fields, ["answer", "approve"]]);
    return (await fetch("/console/queue/answer", { method: "POST", body })).status;
  }, fields);
  assert.equal(replay, 409);
  await page.context().close();
}

async function withoutScript() {
  await ask({ ...deploy("plain", { service: "search" }), agent: { id: "release-agent-8" } });
  const page = await as("ann", { javaScriptEnabled: false });
  await page.locator("[data-row]", { hasText: "deploy" }).first().click();
  await page.getByRole("button", { name: "Approve" }).click();
  await page.getByText("Approved.").waitFor();
  await page.getByRole("link", { name: "See the receipt" }).click();
  await page.getByRole("heading", { name: "Verified", exact: true }).waitFor();
  await page.context().close();
}

/** Every page in both sizes and both themes: a picture, and nothing serious for axe-core. */
async function pages() {
  const found = [];
  for (const viewport of SIZES) {
    for (const colorScheme of ["light", "dark"]) {
      const page = await as("ann", { viewport, colorScheme });
      const named = await addresses(page);
      for (const [name, address] of named) {
        await page.goto(`${url}${address}`);
        await page.screenshot({ path: join(shots, `${name}-${viewport.width}-${colorScheme}.png`), fullPage: name !== "queue-question" });
        found.push(...await violations(page, `${name} ${viewport.width} ${colorScheme}`));
        const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
        if (wide) found.push(`${name} ${viewport.width}: scrolls sideways`);
        if (name === "queue-question" && viewport.width > 1000) {
          const low = await page.locator("#approve").evaluate((button) => button.getBoundingClientRect().bottom);
          if (low > viewport.height) found.push(`${name}: Approve ends at ${low}, below the first screen`);
        }
      }
      await page.getByRole("button", { name: "Sign out" }).click();
      await page.getByRole("heading", { name: "Sign in" }).waitFor();
      await page.screenshot({ path: join(shots, `login-${viewport.width}-${colorScheme}.png`) });
      found.push(...await violations(page, `login ${viewport.width} ${colorScheme}`));
      await page.context().close();
    }
  }
  assert.deepEqual(found, []);
}

async function addresses(page) {
  await page.goto(`${url}/console/queue`);
  const question = await page.locator("[data-row]", { hasText: "deploy" }).first().getAttribute("href");
  await page.goto(`${url}/console/receipts?verdict=STEP_UP`);
  const receipt = await page.locator(".row-link").last().getAttribute("href");
  await page.goto(`${url}${receipt}`);
  const session = await page.locator("a[href^='/console/sessions/']").first().getAttribute("href");
  return [["queue", "/console/queue"], ["queue-question", question], ["receipts", "/console/receipts"], ["receipt", receipt],
    ["session", session], ["connectors", "/console/connectors"], ["policies", "/console/policies"], ["halt", "/console/halt"]];
}

async function violations(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
  const grave = violations.filter((of) => ["serious", "critical"].includes(of.impact));
  return grave.map((of) => `${where}: ${of.id} ${of.help}: ${of.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
}
