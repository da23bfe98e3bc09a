#!/usr/bin/env python3
"""Sigma correlations over the alerts of several gateways.

Converts the correlations among Sigma rules to ClickHouse's SQL with pySigma and runs them over the alerts that gateways
have logged, one file for each gateway, in a ClickHouse that is part of this process. docs/FLEET.md says how it is meant.

    correlate.py [--rules DIR] ALERTS...    a line of JSON for each correlation and group that holds
    correlate.py [--rules DIR] --sql        the queries, for a cluster that has alerts.sql's view

A correlation that cannot be converted is named on standard error with the reason.
"""

import argparse
import json
import pathlib
import sys

import yaml
from sigma.backends.clickhouse import ClickhouseBackend
from sigma.collection import SigmaCollection
from sigma.exceptions import SigmaError
from sigma.processing.pipeline import ProcessingPipeline

HERE = pathlib.Path(__file__).resolve().parent

# What is counted reaches back one timespan from each event. The backend's own templates for counts leave the timespan
# out, and the one for sets of rules looks at the whole table at once.
WINDOW = "OVER (PARTITION BY {fields} ORDER BY timestamp RANGE BETWEEN {timespan}000 PRECEDING AND CURRENT ROW)"


def sliding(value):
    return {
        "default": "SELECT {select_fields}, fromUnixTimestamp64Milli(min(timestamp), 'UTC') AS first, max(counted) AS most "
        f"FROM (SELECT *, {value} {{over}} AS counted FROM ({{search}}) WHERE {{known}}) WHERE {{condition}}{{groupby}}"
    }


class Backend(ClickhouseBackend):
    """pySigma's backend for ClickHouse with windows that slide."""

    # A request that several rules match is one event.
    event_count_correlation_query = sliding("uniqExact(request)")
    value_count_correlation_query = sliding("uniqExact({value})")
    temporal_correlation_query = sliding("uniqExact(sigma_rule_id)")
    event_count_condition_expression = {"default": "counted {op} {count}"}
    value_count_condition_expression = event_count_condition_expression
    temporal_condition_expression = event_count_condition_expression

    def convert_correlation_rule_from_template(self, rule, correlation_type, method):
        template = getattr(self, f"{correlation_type}_correlation_query")[method]
        fields = [self.escape_and_quote_field(field) for field in rule.group_by or []]
        value = self.escape_and_quote_field(rule.condition.fieldref) if correlation_type == "value_count" else None
        search = self.convert_correlation_search(rule)
        table = self._resolve_table(self.last_processing_pipeline.state)
        return [
            template.format(
                select_fields=", ".join(fields),
                value=value,
                over=WINDOW.format(fields=", ".join(fields), timespan=rule.timespan.seconds),
                search=search.replace("FROM logs WHERE", f"FROM {table} WHERE"),
                # Who lacks a field is not counted, as in the gateway.
                known=" AND ".join(f"{field} IS NOT NULL" for field in fields + ([value] if value else [])),
                condition=self.convert_correlation_condition_from_template(
                    rule.condition, rule.rules, correlation_type, method
                ),
                groupby=self.convert_correlation_aggregation_groupby_from_template(rule.group_by, method),
            )
        ]


def documents(paths):
    """Every Sigma document under these files and folders, in the order of their names."""
    for path in paths:
        for file in sorted(path.rglob("*.yml")) if path.is_dir() else [path]:
            try:
                found = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
            except (yaml.YAMLError, UnicodeDecodeError) as error:
                sys.exit(f"{file}: {error}")
            for document in found:
                if isinstance(document, dict) and "title" in document:
                    yield file, document


def as_alert(rule):
    """The rule that asks whether the gateway said that this rule matched: decoding and matching stay the gateway's."""
    kept = {key: rule[key] for key in ("title", "id", "name", "level") if key in rule}
    return kept | {
        "logsource": {"product": "portcullis"},
        "detection": {"matched": {"portcullis.rule": rule["id"]}, "condition": "matched"},
    }


def refusal(correlation, rules):
    """Why this correlation cannot be converted, if it cannot."""
    asked = correlation["correlation"]
    kind = asked.get("type")
    if kind not in ("event_count", "value_count", "temporal"):
        return f"`{kind}` is not converted: event_count, value_count and temporal are"
    if "learn" in (correlation.get("portcullis") or {}):
        return "`learn` is the gateway's own: there is no Sigma for it"
    if asked.get("aliases"):
        return "`aliases` are not converted"
    if not asked.get("group-by"):
        return "without `group-by` there is nothing to slide over"
    named = asked["rules"] if isinstance(asked["rules"], list) else [asked["rules"]]
    for name in named:
        rule = rules.get(name)
        if rule is None:
            return f"there is no rule `{name}` among the rules that were given"
        if "correlation" in rule:
            return f"`{name}` is a correlation, which counts in one gateway only"
        if "alert" not in (rule.get("portcullis") or {}):
            return f"`{name}` is only counted and raises no alert, so it is in no log of alerts"
    return None


def convert(paths, table):
    """Each correlation with its query, and each that has none with the reason."""
    rules, correlations = {}, []
    for file, document in documents(paths):
        for name in filter(None, (document.get("id"), document.get("name"))):
            rules[name] = document
        if "correlation" in document:
            correlations.append((file, document))
    pipeline = (HERE / "pipeline.yml").read_text(encoding="utf-8")
    queries, refused = [], []
    for file, correlation in correlations:
        reason = refusal(correlation, rules)
        if reason is None:
            asked = correlation["correlation"]
            named = asked["rules"] if isinstance(asked["rules"], list) else [asked["rules"]]
            # `generate` would have pySigma give out the queries of the counted rules as well.
            alone = correlation | {"correlation": {key: value for key, value in asked.items() if key != "generate"}}
            try:
                collection = SigmaCollection.from_dicts([as_alert(rules[name]) for name in named] + [alone])
                backend = Backend(ProcessingPipeline.from_yaml(pipeline), table_name=table)
                (query,) = backend.convert(collection)
                queries.append((correlation, query))
                continue
            except (SigmaError, ValueError) as error:
                reason = str(error)
        refused.append((file, correlation, reason))
    return queries, refused


def run(queries, files):
    """What holds for all gateways together."""
    from chdb.session import Session

    session = Session()
    session.query("CREATE TABLE lines (gateway String, line String) ENGINE = Memory")
    for file in files:
        # Whatever is in a line, it is data: the engine reads the file itself.
        name = str(file.resolve()).replace("\\", "\\\\").replace("'", "\\'")
        gateway = file.stem.replace("\\", "\\\\").replace("'", "\\'")
        session.query(f"INSERT INTO lines SELECT '{gateway}', line FROM file('{name}', 'LineAsString', 'line String')")
    session.query((HERE / "alerts.sql").read_text(encoding="utf-8"))
    # The view reads JSON each time that it is asked; here that is once.
    session.query("CREATE TABLE kept ENGINE = Memory AS SELECT * FROM alerts")
    counts = "SELECT count() AS n, (SELECT uniqExact(request) FROM kept) AS r FROM lines"
    read = json.loads(str(session.query(counts, "JSONEachRow")))
    print(f"{read['n']} lines of {len(files)} gateways, {read['r']} requests with alerts", file=sys.stderr)
    mapping = yaml.safe_load((HERE / "pipeline.yml").read_text(encoding="utf-8"))["transformations"][0]["mapping"]
    fields = {column: field for field, column in mapping.items()}
    for correlation, query in queries:
        for row in str(session.query(query, "JSONEachRow")).splitlines():
            group = {fields.get(column, column): value for column, value in json.loads(row).items()}
            print(
                json.dumps(
                    {
                        "AlertType": correlation.get("portcullis", {}).get("alert"),
                        "RuleId": correlation["id"],
                        "RuleTitle": correlation["title"],
                        "FirstSeen": group.pop("first").replace(" ", "T") + "Z",
                        "Count": int(group.pop("most")),
                        "GroupKey": group,
                    }
                )
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", type=pathlib.Path, action="append", help="Sigma rules or folders of them [default: rules]")
    parser.add_argument("--sql", action="store_true", help="print the queries and run none")
    parser.add_argument("alerts", type=pathlib.Path, nargs="*", help="alerts of one gateway each, JSON lines or Envoy's log")
    options = parser.parse_args()
    if not options.sql and not options.alerts:
        parser.error("name the alerts of at least one gateway, or ask for --sql")
    missing = [str(path) for path in (options.rules or []) + options.alerts if not path.exists()]
    if missing:
        parser.error(f"there is no {', '.join(missing)}")

    queries, refused = convert(options.rules or [HERE.parent / "rules"], "alerts" if options.sql else "kept")
    for file, correlation, reason in refused:
        print(f"{file}: not converted: {correlation['title']}: {reason}", file=sys.stderr)
    if options.sql:
        for correlation, query in queries:
            print(f"-- {correlation['title']} ({correlation['id']})\n{query};\n")
    else:
        run(queries, options.alerts)


if __name__ == "__main__":
    main()
