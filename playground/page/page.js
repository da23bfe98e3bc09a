// Ties inputs, engine and results together.

const TYPING_PAUSE = 150;
// An answer that takes longer is given up, and the engine is started anew.
const ANSWER_SECONDS = 30;
// Longer texts would make an editor slow; as captures they need no editor.
const EDITOR_CHARACTERS = 200_000;
const CAPTURE_BYTES = 64 * 1024 * 1024;
const LINK_CHARACTERS = 60_000;
const TABS = ["request", "capture", "rule", "policy"];

// --- The engine, in a worker ---

class Engine {
  constructor() {
    const policy = self.trustedTypes?.createPolicy("portcullis-worker", {createScriptURL: (url) => url});
    const url = URL.createObjectURL(new Blob([byId("worker").textContent], {type: "text/javascript"}));
    this.url = policy ? policy.createScriptURL(url) : url;
    this.waiting = new Map();
    this.last = 0;
    this.onrows = () => {};
    this.ontrouble = () => {};
  }

  async compile() {
    const packed = Uint8Array.from(atob(byId("engine").textContent.trim()), (char) => char.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    this.module = await WebAssembly.compile(await new Response(stream).arrayBuffer());
  }

  start(state) {
    this.worker?.terminate();
    this.waiting.clear();
    this.reason = "";
    this.worker = new Worker(this.url);
    this.worker.onmessage = ({data}) => this.receive(data);
    this.worker.onerror = (event) => this.fail(event.message || "the engine could not be started");
    return this.ask("start", {module: this.module, state});
  }

  // The answer to a question; of several of one kind only the last is answered. Rejected if the engine fails.
  ask(kind, message = {}, transfer = []) {
    const id = ++this.last;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.fail(`the engine did not answer within ${ANSWER_SECONDS} seconds`), ANSWER_SECONDS * 1000);
      for (const [other, waits] of this.waiting) if (waits.kind === kind && kind === "request") waits.isStale = true;
      this.waiting.set(id, {kind, resolve, reject, timer, isStale: false});
      this.worker.postMessage({kind, id, ...message}, transfer);
    });
  }

  receive({kind, id, answer, step, message}) {
    if (kind === "panic") this.reason = message;
    else if (kind === "failed") this.fail(this.reason || message);
    else if (kind === "rows") this.onrows(id, step);
    else {
      const waits = this.waiting.get(id);
      this.waiting.delete(id);
      clearTimeout(waits?.timer);
      if (waits && !waits.isStale) waits.resolve(answer);
    }
  }

  fail(reason) {
    this.worker.terminate();
    for (const {timer} of this.waiting.values()) clearTimeout(timer);
    this.waiting.clear();
    this.ontrouble(reason);
  }
}

const engine = new Engine();

// --- What the user put in ---

const editors = {
  request: new Editor("request", () => changed("request")),
  capture: new Editor("capture", () => changed("capture")),
  rule: new Editor("rule", () => changed("rule")),
  policy: new Editor("policy", () => changed("policy")),
};
const fields = {address: byId("address"), route: byId("route"), virtualHost: byId("virtual-host")};
// What the result is about: the request or the capture.
let subject = "request";
// A capture that is no text in the editor: {name, bytes}.
let filed = null;
let captureId = 0;

const state = () => ({
  rule: editors.rule.text,
  policy: editors.policy.text,
  route: fields.route.value,
  virtualHost: fields.virtualHost.value,
});

let pause;
function changed(what) {
  if (what === "request" || what === "capture") subject = what;
  clearTimeout(pause);
  pause = setTimeout(() => run(what), TYPING_PAUSE);
}

// --- From input to result ---

// Fulfilled once the engine runs; null before it is first started.
let started = null;
// Whether an engine started anew has not been told the rule and the policy.
let isStale = false;
async function run(what) {
  if (!started) return;
  clearTimeout(pause);
  await started;
  byId("trouble").hidden = true;
  byId("result").setAttribute("aria-busy", "true");
  if (what === "rule" || what === "policy" || isStale) {
    isStale = false;
    showState(await engine.ask("state", state()));
  }
  await runSubject();
  byId("result").removeAttribute("aria-busy");
}

async function runSubject() {
  if (subject === "request") {
    captureId = 0;
    engine.worker.postMessage({kind: "uncapture"});
    if (!editors.request.text.trim()) return show(emptyCard());
    const answer = await engine.ask("request", {text: editors.request.text, address: fields.address.value});
    if (answer.error) return show(errorCard(answer.error));
    editors.request.mark(answer.places.map(([start, end]) => ({start, end, kind: "found"})));
    show(...showResult(answer, actions));
  } else await runCapture();
}

const table = new Table(async (at) => {
  const answer = await engine.ask("open", {at});
  if (answer.error) return;
  const scrolled = byId("result").scrollTop;
  show(...showResult(answer, actions, () => {
    show(table.root);
    byId("result").scrollTop = scrolled;
  }));
  byId("result").scrollTop = 0;
  document.querySelector(".crumbs button").focus({preventScroll: true});
});

async function runCapture() {
  const bytes = filed ? filed.bytes.slice() : new TextEncoder().encode(editors.capture.text);
  if (bytes.every((byte) => byte <= 32)) return show(emptyCard());
  table.clear();
  captureId = engine.last + 1;
  const answer = await engine.ask("capture", {bytes}, [bytes.buffer]);
  if (answer.error) return show(errorCard(answer.error));
  table.format = answer.format;
  show(table.root);
}

engine.onrows = (id, step) => {
  if (id === captureId && !step.error) table.add(step);
};

engine.ontrouble = (reason) => {
  // The rule or the policy may be what it stopped at, so they are not put in before the user asks.
  started = engine.start(null);
  isStale = true;
  captureId = 0;
  show();
  byId("trouble").replaceChildren(
    el("strong", {}, "The engine stopped and was started anew."),
    el("p", {}, "What you put in is still there; change it, or try again. If it stops again with the same input, that is a defect worth reporting."),
    el("pre", {}, reason),
    el("button", {type: "button", onclick: () => run(subject)}, "Try again"));
  byId("trouble").hidden = false;
  byId("result").removeAttribute("aria-busy");
};

function show(...nodes) {
  byId("waiting").hidden = true;
  byId("view").replaceChildren(...nodes);
}

const errorCard = (error) => el("div", {class: "card error"}, el("h3", {}, "It cannot be read"), el("p", {}, error),
  subject === "request" && /^\s*[{\[]/.test(editors.request.text) && el("p", {}, el("button", {type: "button", onclick: readAsCapture}, "Read it as a capture")));

const emptyCard = () => el("div", {class: "card empty"},
  el("h3", {}, "Paste a request, or try an example"),
  el("p", {}, "You will see what the rules see of it once it is decoded, which rules were worth asking, why each did or did not match, and the alert that the gateway would raise."),
  el("div", {class: "tries"}, EXAMPLES.slice(0, 6).map((example) => el("button", {type: "button", onclick: () => tryExample(example)}, example.name))));

function readAsCapture() {
  editors.capture.text = editors.request.text;
  editors.request.text = "";
  select("capture");
  changed("capture");
}

// What the compiler says of the rule, and the policy's reader of the policy.
function showState({rule, policy}) {
  const has = (name) => editors[name].text.trim() !== "";
  editors.rule.mark(rule.remarks.map(({start, end, severity}) => ({start, end, kind: severity})));
  const remarks = rule.remarks.map((remark) => el("li", {class: remark.severity},
    el("button", {type: "button", onclick: () => editors.rule.select(remark.start, remark.end)}, `${remark.line}:${remark.column}`),
    el("div", {}, el("span", {}, remark.message), remark.help && el("span", {class: "help"}, remark.help), el("code", {}, remark.code))));
  if (has("rule") && rule.accepted) {
    const {ran, skipped, failed} = rule.cases;
    remarks.push(el("li", {class: "fine"}, el("span", {class: "tick", "aria-hidden": "true"}, "✓"),
      el("div", {}, el("span", {}, `Compiled beside ${rule.rules - rule.titles.length} shipped rules in ${rule.milliseconds.toFixed(0)} ms.`),
        rule.replaced.length > 0 && el("span", {class: "help"}, `It takes the place of the shipped “${rule.replaced.join("”, “")}”.`))));
    for (const {title, must, line} of failed) {
      remarks.push(el("li", {class: "error"}, el("button", {type: "button", onclick: () => selectLine(line)}, `${line}:1`),
        el("div", {}, el("span", {}, must ? "This case must be caught and is not: " : "This case must be ignored and is caught: ", el("code", {}, title)))));
    }
    if (ran > 0 && failed.length === 0) remarks.push(el("li", {class: "fine"}, el("span", {class: "tick", "aria-hidden": "true"}, "✓"), el("div", {}, `${plural(ran, "case")} of the rule’s own as they must be.`)));
    if (skipped > 0) remarks.push(el("li", {class: "note"}, el("span", {}), el("div", {}, `${plural(skipped, "case")} of several requests not run here; \`portcullis rules test\` runs them.`)));
  } else if (has("rule")) {
    remarks.push(el("li", {class: "note"}, el("span", {}), el("div", {}, rule.titles.length ? "Until it is mended, its last good version runs." : "It does not run until it is mended.")));
  }
  byId("remarks-rule").replaceChildren(...remarks);

  editors.policy.mark(policy.error && policy.at !== null ? [{start: policy.at, end: policy.at + 1, kind: "error"}] : []);
  byId("remarks-policy").replaceChildren(...(policy.error
    ? [el("li", {class: "error"}, el("span", {}), el("div", {}, el("span", {}, policy.error), el("span", {class: "help"}, "Refused whole, as a gateway would; what held before still holds.")))]
    : has("policy") ? [el("li", {class: "fine"}, el("span", {class: "tick", "aria-hidden": "true"}, "✓"), el("div", {}, "In effect."))] : []));

  const isBad = {rule: !rule.accepted || rule.cases.failed.length > 0, policy: Boolean(policy.error)};
  for (const name of ["rule", "policy"]) {
    byId(`tab-${name}`).dataset.state = isBad[name] ? "bad" : has(name) ? "on" : "";
    byId(`tab-${name}`).title = isBad[name] ? "There is something wrong in it" : has(name) ? "In effect" : "";
  }
}

function selectLine(line) {
  const before = editors.rule.text.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  const end = editors.rule.text.indexOf("\n", before);
  editors.rule.select(before, end < 0 ? editors.rule.text.length : end);
}

const actions = {
  async tuneRule(path) {
    const {text} = await engine.ask("source", {path});
    if (!text) return say("This rule came compiled, without its text");
    editors.rule.text = text;
    select("rule");
    run("rule");
  },
  edit(request) {
    editors.request.text = request;
    select("request");
  },
};

// --- Tabs ---

function select(name, focuses = false) {
  for (const other of TABS) {
    const tab = byId(`tab-${other}`);
    tab.setAttribute("aria-selected", String(other === name));
    tab.tabIndex = other === name ? 0 : -1;
    byId(`panel-${other}`).hidden = other !== name;
  }
  if (focuses) byId(`tab-${name}`).focus();
  if ((name === "request" || name === "capture") && name !== subject) {
    subject = name;
    run(name);
  }
}

for (const [at, name] of TABS.entries()) {
  const tab = byId(`tab-${name}`);
  tab.addEventListener("click", () => select(name));
  tab.addEventListener("keydown", ({key}) => {
    const to = {ArrowRight: at + 1, ArrowLeft: at - 1 + TABS.length, Home: 0, End: TABS.length - 1}[key];
    if (to !== undefined) select(TABS[to % TABS.length], true);
  });
}

// --- Captures that are too long for an editor, and files ---

function file(name, bytes) {
  if (bytes && bytes.length > CAPTURE_BYTES) return say(`${name} has ${bytesText(bytes.length)}, and ${bytesText(CAPTURE_BYTES)} are the most`);
  filed = bytes && {name, bytes};
  byId("filed").hidden = !filed;
  byId("filed").firstElementChild.textContent = filed ? `${name}, ${bytesText(bytes.length)}` : "";
  editors.capture.area.hidden = Boolean(filed);
  editors.capture.area.parentElement.hidden = Boolean(filed);
  if (filed) select("capture");
  subject = "capture";
  run("capture");
}

async function open(chosen) {
  if (!chosen) return;
  if (chosen.size > CAPTURE_BYTES) return say(`${chosen.name} has ${bytesText(chosen.size)}, and ${bytesText(CAPTURE_BYTES)} are the most`);
  file(chosen.name, new Uint8Array(await chosen.arrayBuffer()));
}

byId("file").addEventListener("change", ({target}) => {
  open(target.files[0]);
  target.value = "";
});
byId("unfile").addEventListener("click", () => file("", null));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  event.preventDefault();
  open(event.dataTransfer.files[0]);
});
for (const [name, {area}] of Object.entries(editors)) {
  area.addEventListener("paste", (event) => {
    const text = event.clipboardData.getData("text/plain");
    if (text.length <= EDITOR_CHARACTERS) return;
    event.preventDefault();
    if (name === "rule" || name === "policy") return say(`${bytesText(text.length)} are too much for a ${name}`);
    file("Pasted text", new TextEncoder().encode(text));
  });
}
for (const [name, field] of Object.entries(fields)) field.addEventListener("input", () => changed(name === "address" ? subject : "policy"));

// --- Examples ---

for (const [at, {name}] of EXAMPLES.entries()) byId("examples").append(el("option", {value: at}, name));
byId("examples").addEventListener("change", ({target}) => {
  const example = EXAMPLES[target.value];
  if (example) tryExample(example);
  target.value = "";
});

// Puts all of it in; what an example does not have is emptied.
function tryExample(example) {
  put(example);
  select(example.tab ?? "request");
  byId("result").scrollTop = 0;
  run("rule");
}

function put({request = "", capture = "", rule = "", policy = "", address = "", route = "", virtualHost = "", subject: about}) {
  filed = null;
  byId("filed").hidden = true;
  editors.capture.area.hidden = false;
  editors.capture.area.parentElement.hidden = false;
  Object.entries({request, capture, rule, policy}).forEach(([name, text]) => { editors[name].text = text; });
  Object.entries({address, route, virtualHost}).forEach(([name, text]) => { fields[name].value = text; });
  subject = about ?? (capture ? "capture" : "request");
}

// --- The link: everything that was typed, in the fragment, which browsers send nowhere ---

const base64 = {
  write: (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, ""),
  read: (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0)),
};
const through = async (bytes, transform) => new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(transform)).arrayBuffer());

byId("link").addEventListener("click", async () => {
  if (subject === "capture" && filed) return say("A file does not fit into a link");
  const all = {subject, request: editors.request.text, capture: editors.capture.text, rule: editors.rule.text, policy: editors.policy.text, address: fields.address.value, route: fields.route.value, virtualHost: fields.virtualHost.value};
  const kept = Object.fromEntries(Object.entries(all).filter(([, text]) => text !== ""));
  const packed = base64.write(await through(new TextEncoder().encode(JSON.stringify(kept)), new CompressionStream("deflate-raw")));
  if (packed.length > LINK_CHARACTERS) return say("That is too long for a link");
  history.replaceState(null, "", `#${packed}`);
  copy(location.href, "Link");
});

async function readLink() {
  if (location.hash.length < 2 || location.hash.length > LINK_CHARACTERS + 1) return false;
  try {
    const stream = new Blob([base64.read(location.hash.slice(1))]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
    const parts = [];
    let length = 0;
    for (const reader = stream.getReader(); ;) {
      const {done, value} = await reader.read();
      if (done) break;
      length += value.length;
      if (length > 4 * 1024 * 1024) throw new Error("too long");
      parts.push(value);
    }
    const all = JSON.parse(await new Blob(parts).text());
    put(Object.fromEntries(Object.entries(all).filter(([, text]) => typeof text === "string")));
    subject = subject === "capture" ? "capture" : "request";
    select(subject);
    return true;
  } catch {
    say("The link is damaged; it was not read");
    return false;
  }
}

addEventListener("hashchange", async () => { if (await readLink()) run("rule"); });

// --- Begin ---

(async () => {
  try {
    await engine.compile();
  } catch (error) {
    byId("waiting").textContent = `The engine cannot run in this browser: ${error.message}`;
    return;
  }
  if (!await readLink()) put(EXAMPLES[0]);
  const answer = engine.start(state());
  started = answer;
  showState(await answer);
  document.documentElement.dataset.ready = "";
  run(subject);
})();
