// What came of one request.

const VERDICTS = {
  allowed: ["Allowed", "Nothing in it is suspicious to the rules."],
  detected: ["Detected", "It raises an alert and passes."],
  blocked: ["Blocked", ""],
};

// `actions` has tuneRule(path) and edit(request); `back` leads to a capture's table, if the request is from one.
function showResult(answer, actions, back) {
  const {shown} = answer;
  return [
    back && el("p", {class: "crumbs"}, el("button", {type: "button", class: "small", onclick: back}, "← All records"), el("code", {}, answer.summary),
      answer.request && el("button", {type: "button", class: "small", onclick: () => actions.edit(answer.request)}, "Edit as a request")),
    verdictCard(answer),
    ...answer.alerts.map((alert, at) => alertCard(alert, answer.own[at], actions)),
    answer.released.length > 0 && releasedCard(answer.released),
    fieldsCard(shown),
    candidatesCard(shown, actions),
  ].filter(Boolean);
}

function verdictCard(answer) {
  const {verdict, alerts, shown, holds} = answer;
  const [word, sentence] = VERDICTS[verdict];
  const matched = shown.candidates.filter((candidate) => candidate.matches).length;
  const facts = [
    alerts.length > 0 && plural(alerts.length, "alert"),
    `${shown.opened} of ${shown.rules} rules were candidates, ${matched} matched`,
    answer.milliseconds !== undefined && `${Math.max(1, answer.milliseconds).toFixed(0)} ms`,
  ].filter(Boolean);
  const policy = [
    `policy: ${holds.mode}`,
    holds.mode === "block" && `blocks from severity ${holds.min_severity} and confidence ${holds.min_confidence} %`,
    holds.layers.length > 1 && `layers ${holds.layers.join(" → ")}`,
  ].filter(Boolean);
  return el("div", {class: `card verdict ${verdict}`},
    el("div", {class: "word"}, el("span", {class: "dot", "aria-hidden": "true"}), el("h2", {}, word)),
    el("div", {},
      el("p", {}, verdict === "blocked" ? `The gateway answers ${holds.status} itself; the request does not reach the upstream.` : sentence),
      el("p", {class: "quiet"}, facts.join(" · ")),
      el("p", {class: "quiet"}, policy.join(" · ")),
      answer.is_truncated && el("p", {class: "warning"}, "A part of it is over a limit and was not inspected.")));
}

function alertCard(alert, own, actions) {
  const properties = alert.ExtendedProperties;
  const json = () => JSON.stringify(alert, null, 2);
  const place = properties.Field && [
    el("code", {}, properties.FieldName ? properties.Field.replace("*", properties.FieldName) : properties.Field),
    properties.View && properties.View !== "raw" ? ` once ${properties.View}` : "",
    properties.Offset !== undefined ? `, byte ${properties.Offset}` : "",
  ];
  const row = (name, ...value) => [el("dt", {}, name), el("dd", {}, ...value)];
  return el("article", {class: `card alert ${alert.Severity.toLowerCase()}`},
    el("header", {},
      severityChip(alert.Severity),
      el("h3", {}, alert.AlertDisplayName),
      own && ownChip(),
      el("span", {class: `chip action ${properties.Action}`}, properties.Action)),
    el("p", {class: "type"}, el("code", {}, alert.AlertType)),
    properties.Evidence && el("pre", {class: "evidence"}, properties.Evidence),
    el("dl", {},
      ...row("Rule", properties.RuleTitle),
      ...(place ? row("Found in", ...place) : []),
      ...row("Confidence", el("meter", {min: 0, max: 100, value: alert.Confidence, "aria-label": "Confidence"}), ` ${alert.Confidence} %`),
      ...(alert.Intent ? row("Tactic", alert.Intent.replace(/([a-z])([A-Z])/g, "$1 $2")) : []),
      ...(alert.Techniques.length ? row("Technique", alert.Techniques.join(", ")) : []),
      ...(properties.Stage ? row("Stage", properties.Stage) : [])),
    el("p", {class: "advice"}, alert.RemediationSteps.join(" ")),
    el("details", {},
      el("summary", {}, "The alert as JSON"),
      el("div", {class: "json"}, copyButton(json, "Alert"), el("pre", {}, json()))));
}

function releasedCard(released) {
  return el("div", {class: "card"},
    el("h3", {}, "Matched, and let go by the policy"),
    el("ul", {class: "plain"}, released.map(({title, reason}) => el("li", {}, title, " ", el("span", {class: "quiet"}, `– ${reason}`)))));
}

function fieldsCard(shown) {
  // What matched first, everything else in the order of the request.
  const fields = shown.fields.toSorted((a, b) => b.has_match - a.has_match).map((field) => {
    const rows = field.texts.map((text) => el("div", {class: "text"},
      el("span", {class: `view ${text.view}`}, text.view === "raw" ? "as it came" : text.view),
      el("code", {}, text.pieces.map((piece) => pieceText(piece, shown)), text.hidden_bytes > 0 && el("span", {class: "quiet"}, ` … and ${bytesText(text.hidden_bytes)} more`))));
    return el("div", {class: field.has_match ? "field matched" : "field"},
      el("div", {class: "label"}, el("code", {}, field.label)),
      el("div", {class: "texts"}, rows));
  });
  return el("div", {class: "card"},
    el("h3", {}, "What rules see"),
    el("p", {class: "quiet"}, "Each field as it came, and what is left once encodings are undone. Matches are marked where they are."),
    el("div", {class: "fields"}, fields),
    shown.hidden_texts > 0 && el("p", {class: "warning"}, `${plural(shown.hidden_texts, "further text")} not shown.`));
}

function pieceText(piece, shown) {
  if (!piece.rules) return piece.text;
  const rules = piece.rules.map((rule) => shown.candidates[rule]).filter(Boolean);
  const own = rules.some((rule) => rule.is_own);
  return el("mark", {class: own ? "own" : "", title: rules.map((rule) => rule.title).join("\n")}, piece.text || " ");
}

function candidatesCard(shown, actions) {
  const literals = [...new Set(shown.literals)];
  const matched = shown.candidates.filter((candidate) => candidate.matches || candidate.is_own);
  const others = shown.candidates.filter((candidate) => !candidate.matches && !candidate.is_own);
  return el("div", {class: "card"},
    el("h3", {}, "Candidate rules"),
    el("p", {class: "quiet"}, shown.opened === 0
      ? "The scan found nothing that any rule waits for, so no rule was evaluated: this is what nearly every request costs."
      : "The scan found something that these rules wait for; each was asked, in order, until its answer was certain."),
    literals.length > 0 && el("p", {class: "quiet literals"}, "Found by the scan: ", literals.slice(0, 30).map((literal) => [el("code", {}, literal), " "]), literals.length > 30 && `and ${literals.length - 30} more`),
    matched.map((candidate) => candidateRow(candidate, true, actions)),
    others.length > 0 && el("details", {class: "others"},
      el("summary", {}, `${plural(others.length, "candidate")} that did not match`),
      others.map((candidate) => candidateRow(candidate, false, actions))),
    shown.hidden_candidates > 0 && el("p", {class: "warning"}, `${plural(shown.hidden_candidates, "further candidate")} not shown.`));
}

function candidateRow(candidate, open, actions) {
  const result = candidate.matches ? "match" : candidate.is_passed_over ? "no candidate" : "no match";
  return el("details", {class: candidate.matches ? "candidate matches" : "candidate", open},
    el("summary", {},
      el("span", {class: "answer"}, result),
      el("span", {class: "title"}, candidate.title),
      candidate.is_own && ownChip(),
      candidate.is_body && el("span", {class: "chip"}, "body")),
    candidate.is_passed_over && el("p", {class: "quiet"}, "The scan found nothing that this rule waits for, so a gateway would not evaluate it. If it did, the answers were:"),
    candidate.note && el("p", {}, candidate.note),
    el("ol", {class: "asked"}, candidate.asked.map((asked) => el("li", {class: asked.answer ? "yes" : "no"},
      el("span", {class: "tick", role: "img", "aria-label": asked.answer ? "yes" : "no"}, asked.answer ? "✓" : "✗"),
      el("div", {},
        el("span", {}, asked.question),
        asked.spot && el("div", {class: "spot"},
          el("code", {}, asked.spot.text), " in ", el("code", {}, asked.spot.label),
          asked.spot.view === "raw" ? "" : ` once ${asked.spot.view}`,
          asked.spot.confidence !== null ? `, ${asked.spot.confidence} % sure` : ""))))),
    el("p", {class: "foot"},
      el("code", {}, candidate.alert), " · ", el("span", {class: "quiet"}, candidate.path), " ",
      !candidate.is_own && el("button", {type: "button", class: "small", onclick: () => actions.tuneRule(candidate.path)}, "Edit a copy")));
}
