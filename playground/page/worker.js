// Runs the engine, so that typing never waits for it. Messages are answered in order, but for the records of a capture, which
// are read a few at a time and give way to whatever comes in between.

let playground = null;
let reading = 0;

self.onPanic = (message) => self.postMessage({kind: "panic", message});

const answers = {
  start({module, state}) {
    wasm_bindgen.initSync({module});
    playground = new wasm_bindgen.Playground();
    return state ? answers.state(state) : {};
  },
  state({rule, policy, route, virtualHost}) {
    const begun = performance.now();
    const answer = {rule: JSON.parse(playground.set_rule(rule))};
    answer.rule.milliseconds = performance.now() - begun;
    answer.policy = JSON.parse(playground.set_policy(policy));
    playground.set_route(route, virtualHost);
    return answer;
  },
  request({text, address}) {
    const begun = performance.now();
    const answer = JSON.parse(playground.request(text, address));
    answer.milliseconds = performance.now() - begun;
    return answer;
  },
  capture({bytes}, id) {
    const answer = JSON.parse(playground.capture(bytes));
    if (!answer.error) read(id, ++reading, 200);
    return answer;
  },
  open: ({at}) => JSON.parse(playground.open(at)),
  source: ({path}) => ({text: playground.source(path)}),
  panic: () => playground.panic(),
};

// A capture's next records, about a tenth of a second's worth at a time.
function read(id, turn, count) {
  setTimeout(() => {
    if (turn !== reading) return;
    guarded(() => {
      const begun = performance.now();
      const step = JSON.parse(playground.capture_next(count));
      self.postMessage({kind: "rows", id, step});
      const factor = Math.min(4, Math.max(0.25, 100 / (performance.now() - begun + 1)));
      if (!step.is_done && !step.error) read(id, turn, Math.ceil(count * factor));
    });
  });
}

function guarded(work) {
  try {
    work();
  } catch (error) {
    self.postMessage({kind: "failed", message: String(error && error.message || error)});
    self.close();
  }
}

self.onmessage = ({data}) => guarded(() => {
  if (data.kind === "capture" || data.kind === "uncapture") reading++;
  if (data.kind === "uncapture") return;
  self.postMessage({kind: data.kind, id: data.id, answer: answers[data.kind](data, data.id)});
});
