// The records of a capture: what they come to by alert type, and a table of them to sort and to open.

const ROWS_SHOWN = 200;
const REDRAW = 400;
const RANK = {High: 4, Medium: 3, Low: 2, Informational: 1};
const COLUMNS = [
  ["line", "Line", (row) => row.line],
  ["time", "Time", (row) => row.time_unix_ms ?? 0],
  ["source", "Client", (row) => row.source],
  ["target", "Request", (row) => row.target],
  ["alerts", "Result", (row) => row.rank],
];

class Table {
  constructor(open) {
    this.open = open;
    this.root = el("div", {});
    this.clear();
  }

  clear() {
    this.rows = [];
    this.types = new Map();
    this.counts = {detected: 0, blocked: 0, truncated: 0};
    this.malformed = [];
    this.malformedCount = 0;
    this.format = "";
    this.stopped = "";
    this.isDone = false;
    this.only = null;
    this.sorted = {by: "alerts", descending: true};
    this.shown = ROWS_SHOWN;
    this.drawn = 0;
  }

  add(step) {
    for (const row of step.rows) {
      row.at = this.rows.length;
      // Blocked before detected, then by severity and number.
      row.rank = row.verdict === "blocked" ? 1e9 : 0;
      for (const alert of row.alerts) {
        row.rank += 10 ** RANK[alert.severity];
        const type = this.types.get(alert.kind) ?? {...alert, count: 0};
        type.count++;
        type.is_own ||= alert.is_own;
        this.types.set(alert.kind, type);
      }
      if (row.verdict !== "allowed") this.counts[row.verdict]++;
      if (row.is_truncated) this.counts.truncated++;
      this.rows.push(row);
    }
    this.malformed.push(...step.malformed);
    this.malformedCount = step.malformed_count;
    this.stopped = step.stopped ?? "";
    this.isDone = step.is_done;
    // A table of thousands is sorted anew each time, so not for every step.
    if (this.isDone || this.rows.length < ROWS_SHOWN || performance.now() - this.drawn > REDRAW) this.draw();
  }

  draw() {
    const focused = document.activeElement?.dataset?.key;
    this.root.replaceChildren(this.summary(), this.table());
    this.drawn = performance.now();
    if (focused) this.root.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
  }

  summary() {
    const {detected, blocked, truncated} = this.counts;
    const facts = [
      this.format,
      this.isDone ? "" : "reading…",
      truncated && `${truncated} truncated`,
      this.malformedCount && `${plural(this.malformedCount, "record")} could not be read`,
      this.stopped,
    ].filter(Boolean);
    const figure = (number, what, kind) => el("div", {class: `figure ${kind}`}, el("strong", {}, number.toLocaleString("en")), el("span", {}, what));
    const types = [...this.types.values()].sort((a, b) => RANK[b.severity] - RANK[a.severity] || b.count - a.count);
    return el("div", {class: "card"},
      el("div", {class: "figures"},
        figure(this.rows.length, this.rows.length === 1 ? "record" : "records", ""),
        figure(detected, "detected", detected ? "detected" : ""),
        figure(blocked, "blocked", blocked ? "blocked" : "")),
      el("p", {class: "quiet"}, facts.join(" · ")),
      types.length > 0 && el("div", {class: "types"}, types.map((type) => el("button", {
        type: "button", class: "type", "data-key": type.kind, "aria-pressed": String(this.only === type.kind),
        onclick: () => {
          this.only = this.only === type.kind ? null : type.kind;
          this.shown = ROWS_SHOWN;
          this.draw();
        },
      }, severityChip(type.severity), el("span", {class: "title"}, type.name), type.is_own && ownChip(), el("strong", {}, type.count.toLocaleString("en"))))),
      this.malformed.length > 0 && el("details", {}, el("summary", {}, "What could not be read"),
        el("ul", {class: "plain"}, this.malformed.map((line) => el("li", {}, el("code", {}, line))))));
  }

  table() {
    const {by, descending} = this.sorted;
    const key = COLUMNS.find(([name]) => name === by)[2];
    const rows = this.rows.filter((row) => !this.only || row.alerts.some((alert) => alert.kind === this.only));
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      return (x < y ? -1 : x > y ? 1 : 0) * (descending ? -1 : 1) || a.at - b.at;
    });
    const head = COLUMNS.map(([name, title]) => el("th", {
      scope: "col", "aria-sort": name !== by ? "none" : descending ? "descending" : "ascending", class: name,
    }, el("button", {type: "button", "data-key": `sort-${name}`, onclick: () => this.sortBy(name)}, title, el("span", {class: "arrow", "aria-hidden": "true"}, name !== by ? "" : descending ? "↓" : "↑"))));
    const body = rows.slice(0, this.shown).map((row) => this.row(row));
    return el("div", {class: "card"},
      el("div", {class: "scrolls"}, el("table", {}, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body))),
      rows.length > this.shown && el("button", {type: "button", class: "small", "data-key": "more", onclick: () => { this.shown += ROWS_SHOWN; this.draw(); }}, `Show ${Math.min(ROWS_SHOWN, rows.length - this.shown)} more of ${(rows.length - this.shown).toLocaleString("en")}`));
  }

  row(row) {
    const [day, time] = row.time_unix_ms === null ? ["", ""] : new Date(row.time_unix_ms).toISOString().slice(0, 19).split("T");
    const [first, ...others] = row.alerts.toSorted((a, b) => RANK[b.severity] - RANK[a.severity]);
    return el("tr", {class: row.verdict},
      el("td", {class: "line"}, row.line),
      el("td", {class: "time", title: `${day} ${time} UTC`}, time),
      el("td", {class: "source"}, row.source),
      el("td", {class: "target"}, el("button", {type: "button", "data-key": `row-${row.at}`, onclick: () => this.open(row.at)}, row.method && el("b", {}, row.method, " "), row.target)),
      el("td", {class: "alerts", title: row.alerts.map((alert) => alert.name).join("\n")},
        row.verdict !== "detected" && [el("span", {class: `chip action ${row.verdict}`}, row.verdict), " "],
        first && [severityChip(first.severity), " ", first.name],
        others.length > 0 && el("span", {class: "more"}, ` and ${others.length} more`),
        row.alerts.some((alert) => alert.is_own) && [" ", ownChip()]));
  }

  sortBy(name) {
    const {by, descending} = this.sorted;
    this.sorted = {by: name, descending: by === name ? !descending : name === "alerts"};
    this.shown = ROWS_SHOWN;
    this.draw();
  }
}
