-- One row for each rule that an alert names, from the lines that gateways log. `lines` has the columns `gateway` and
-- `line`; what stands before the JSON is Envoy's, and what has none is no alert. Times are milliseconds, since
-- ClickHouse's windows reach back by a number.
CREATE VIEW alerts AS
WITH
    substring(line, position(line, '{')) AS json,
    JSONExtractString(json, 'ExtendedProperties', 'Target') AS raw,
    arrayFirst(e -> JSONExtractString(e, 'Type') = 'ip', JSONExtractArrayRaw(json, 'Entities')) AS ip,
    JSONExtractString(ip, 'Address') AS address
SELECT
    toUnixTimestamp64Milli(ifNull(parseDateTime64BestEffortOrNull(JSONExtractString(json, 'TimeGenerated'), 3, 'UTC'),
        toDateTime64(0, 3, 'UTC'))) AS timestamp,
    gateway,
    JSONExtractString(json, 'AlertType') AS alert_type,
    arrayJoin(arrayConcat([JSONExtractString(json, 'ExtendedProperties', 'RuleId')],
        JSONExtract(json, 'ExtendedProperties', 'OtherRules', 'Array(String)'))) AS rule_id,
    -- In one form, as the gateway compares addresses: as short as may be, and IPv4 mapped into IPv6 as IPv4.
    nullIf(if(isIPv6String(address), replaceRegexpOne(toString(toIPv6OrDefault(address)), '^::ffff:([0-9]+[.].*)$', '\\1'), address), '') AS source_ip,
    -- As the gateway's `c-net`: a /24 of IPv4, a /64 of IPv6.
    multiIf(isIPv4String(source_ip), concat(toString(tupleElement(IPv4CIDRToRange(toIPv4OrDefault(source_ip), 24), 1)), '/24'),
        isIPv6String(source_ip), concat(toString(tupleElement(IPv6CIDRToRange(toIPv6OrDefault(source_ip), 64), 1)), '/64'),
        NULL) AS source_net,
    lower(JSONExtractString(json, 'CompromisedEntity')) AS host,
    nullIf(JSONExtractString(json, 'ExtendedProperties', 'Method'), '') AS method,
    decodeURLComponent(raw) AS target,
    decodeURLComponent(substringIndex(raw, '?', 1)) AS path,
    if(position(raw, '?') = 0, NULL, decodeURLComponent(substring(raw, position(raw, '?') + 1))) AS query,
    nullIf(JSONExtractString(json, 'ExtendedProperties', 'UserAgent'), '') AS user_agent,
    nullIf(JSONExtractString(json, 'ExtendedProperties', 'Referer'), '') AS referer,
    -- A request that raises several alerts is one event.
    cityHash64(gateway, timestamp, ifNull(source_ip, ''), host, ifNull(method, ''), raw,
        JSONExtractString(json, 'ExtendedProperties', 'RequestId')) AS request
FROM lines
WHERE isValidJSON(json) AND JSONHas(json, 'AlertType') AND JSONHas(json, 'ExtendedProperties', 'RuleId')
    -- What has no time is not counted; the gateway writes the beginning of 1970 for it.
    AND timestamp > 0
