// A made-up afternoon of two agents, told to the program as a vendor would.

const { CONSOLE_URL: url, HOOK_TOKEN: token } = process.env;
let calls = 0;

/** One call; its answer. */
export async function ask(body) {
  const id = `${body.id ?? "call"}-${++calls}`;
  const answer = await fetch(`${url}/hooks/order-agents`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify({ version: 1, type: "action", ...body, id, call_id: body.call_id ?? id }),
  });
  if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
  return answer.json();
}

const session = { id: "release-afternoon" };
const agent = { id: "release-agent", kind: "worker", model: "example-model-2" };
const human = { id: "u-bob", email: "bob@acme.example", name: "Bob Builder" };
const delegation = [{ delegator: "planner", delegatee: "release-agent", scope: ["deploy:shop"] }];

export const deploy = (id, parameters) => ({
  id, session, agent, human, delegation, effect: "deploy", operation: "deploy",
  tool: { namespace: "mcp", server: "pipeline", name: "deploy" }, parameters, facets: { environment: "production" },
});

const action = (id, name, effect, parameters, more = {}) => ({
  id, session, agent, human, effect, tool: { namespace: "mcp", server: "shop", name }, parameters, ...more,
});

export async function seed() {
  await ask({ type: "intent", id: "intent", session, agent, human, text: "Prepare the release of shop 4.2: check the open orders, deploy it to production tonight, then tell the customers on the list that the new checkout is there." });
  await ask(action("orders", "list_orders", "list", { status: "open", limit: 50 }, { labels: ["CONFIDENTIAL"] }));
  await ask(action("customer", "read_customer", "read", { customer: "c-1043" }, { labels: ["PII"] }));
  await ask({ type: "outcome", id: "customer-done", session, agent, human, call_id: "customer-3", status: "succeeded", output: { email: "someone@example.com" } });
  await ask(action("changelog", "read_page", "read", { url: "https://example.net/changelog" }));
  await ask(action("note", "write_file", "update", { path: "release/notes.md", text: "New checkout" }));
  await ask(action("clean", "drop_table", "delete", { table: "orders_2019" }));
  for (const customer of ["mara@customer.example", "jon@customer.example", "li@customer.example"]) {
    await ask(action(`mail-${customer}`, "send_mail", "send", { to: [customer], subject: "The new checkout is there", body: "Dear customer, from tonight on you pay with two clicks." }));
  }
  await ask(deploy("deploy", { service: "shop", version: "4.2", environment: "production", strategy: "rolling", replicas: 12, canary: { percent: 5, minutes: 15 }, notify: ["#shop-release"] }));
  await ask({ ...action("pay", "transfer", "pay", { amount: 1840000, currency: "eur", to: "DE-supplier-77" }), agent: { id: "invoice-agent" }, session: { id: "invoices" } });
  await ask({ ...deploy("db", { service: "warehouse", version: "9" }), agent: { id: "data-agent" }, human: { id: "u-cara", name: "Cara Chen" }, session: { id: "warehouse" } });
}
